//! One attempt of a case with everything that was seen around it: what a cause's matcher looks at.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use super::{
    errno::{ECONNREFUSED, ETIMEDOUT},
    icmp,
};
use crate::{
    correlate::{Attempt, Case, Course, Facts},
    event::{
        Connection, Drop, Failure, LogCall, Upstream,
        fact::{Listener, ListenerView},
    },
};

/// The hooks whose silence a verdict can rest on: the probe's program (variants share its beginning), and the kernel's
/// name for what it watches.
#[derive(Clone, Copy)]
pub(super) struct Hook {
    program: &'static str,
    name: &'static str,
}

impl fmt::Display for Hook {
    /// As `tracer doctor` names it, with the kernel's word: `drop_packet (kfree_skb)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.program, self.name)
    }
}

pub(super) mod hook {
    use super::Hook;

    pub(in crate::causes) const RST_SENT: Hook = hook("send_reset", "tcp_send_reset");
    pub(in crate::causes) const RST_RECEIVED: Hook = hook("receive_reset", "tcp_receive_reset");
    pub(in crate::causes) const DROP: Hook = hook("drop_packet", "kfree_skb");
    pub(in crate::causes) const RETRANSMIT: Hook = hook("retransmit", "tcp_retransmit_skb");
    pub(in crate::causes) const ICMP_SENT: Hook = hook("icmp_send", "icmp_send");
    pub(in crate::causes) const ROUTE_V4: Hook = hook("route_lookup", "fib_table_lookup");
    pub(in crate::causes) const ROUTE_V6: Hook = hook("route_lookup6", "fib6_table_lookup");

    const fn hook(program: &'static str, name: &'static str) -> Hook {
        Hook { program, name }
    }
}

const SYN_SENT: u8 = 2;
const CLOSE: u8 = 7;
const MILLISECOND: u64 = 1_000_000;

/// See the module.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    /// The whole request.
    pub(super) case: &'a Case,
    /// The attempt looked at; `None` where nginx made none.
    pub(super) attempt: Option<&'a Attempt>,
}

static NO_FACTS: Facts = Facts {
    listener: None,
    queue_at_retransmit: None,
    peer_socket: None,
    unix_path: None,
    ports: None,
    descriptors: None,
    confinement: None,
    icmp: None,
    unanswered: Vec::new(),
};

impl<'a> Scene<'a> {
    /// The failure at once, if it was one.
    pub(super) fn failure(&self) -> Option<&'a Failure> {
        match &self.attempt?.course {
            Course::FailedAtOnce(failure) => Some(failure),
            _ => None,
        }
    }

    /// `connect()` itself failed towards an IP address.
    pub(super) fn refused_at_once(&self) -> Option<(&'a Failure, SocketAddr)> {
        let failure = self.failure().filter(|f| f.code == -5)?;
        match failure.upstream {
            Some(Upstream::Inet(remote)) => Some((failure, remote)),
            _ => None,
        }
    }

    /// `connect()` itself failed towards a unix socket.
    pub(super) fn unix_failure(&self) -> Option<(&'a Failure, &'a str)> {
        let failure = self.failure().filter(|f| f.code == -5)?;
        match &failure.upstream {
            Some(Upstream::Unix(path)) => Some((failure, path)),
            _ => None,
        }
    }

    /// The connection, if there was a socket.
    pub(super) fn connection(&self) -> Option<&'a Connection> {
        match &self.attempt?.course {
            Course::Connection(connection) => Some(connection),
            _ => None,
        }
    }

    /// A TCP connection whose handshake was seen from its start and never ended.
    pub(super) fn handshake(&self) -> Option<(&'a Connection, SocketAddr)> {
        let c = self.connection()?;
        let Upstream::Inet(remote) = c.remote else {
            return None;
        };
        let unfinished = c.established.is_none()
            && c.start.0 != 0
            && c.reuses == 0
            && c.bytes_received == 0
            && c.first_byte.is_none()
            && matches!(c.state, SYN_SENT | CLOSE);
        unfinished.then_some((c, remote))
    }

    /// A handshake that a RST ended. If the hook that sees RSTs arrive does not stand, one that this host sent and the
    /// errno that it gives say the same.
    pub(super) fn reset_handshake(&self) -> Option<(&'a Connection, SocketAddr)> {
        self.handshake().filter(|(c, _)| {
            c.rst_in_syn_sent || (c.rst_sent.is_some() && self.errno() == Some(ECONNREFUSED))
        })
    }

    /// What the host said.
    pub(super) fn facts(&self) -> &'a Facts {
        self.attempt.map_or(&NO_FACTS, |attempt| &attempt.facts)
    }

    /// The upstream's name, for sentences.
    pub(super) fn to(&self) -> String {
        self.upstream().unwrap_or_else(|| "the upstream".to_owned())
    }

    /// The upstream's name. A connection's record has no unix path; nginx's log line may.
    pub(super) fn upstream(&self) -> Option<String> {
        let upstream = self.attempt?.upstream.as_ref()?;
        let nameless = matches!(upstream, Upstream::Unix(path) if path.is_empty());
        let logged = || {
            let lines = self.case.log_lines.iter();
            let mut paths = lines.filter_map(|line| line.upstream.as_deref()?.split_once("unix:"));
            let (_, path) = paths.next()?;
            Some(format!("unix:{}", path.split(':').next()?))
        };
        nameless
            .then(logged)
            .flatten()
            .or_else(|| Some(upstream.to_string()))
    }

    /// The attempt is the request's last, so the client's status is of its making.
    pub(super) fn is_last(&self) -> bool {
        match (self.attempt, self.case.attempts.last()) {
            (Some(this), Some(last)) => std::ptr::eq(this, last),
            (None, None) => true,
            _ => false,
        }
    }

    /// Whether a hook stands.
    pub(super) fn stands(&self, hook: Hook) -> bool {
        !self.case.absent_hooks.iter().any(|absent| {
            absent == hook.name
                || absent
                    .strip_prefix(hook.program)
                    .is_some_and(|variant| variant.is_empty() || variant.starts_with('_'))
        })
    }

    /// Is the address this host's own, in the worker's network namespace? `None`: nobody said.
    pub(super) fn is_local(&self, remote: SocketAddr) -> Option<bool> {
        if remote.ip().to_canonical().is_loopback() {
            return Some(true);
        }
        let viewed = self.listener_views().last().map(|view| view.local);
        // Unasked: the kernel connects to an own address from that address.
        let from_itself = || {
            let local = self.connection()?.local?.ip().to_canonical();
            (local == remote.ip().to_canonical()).then_some(true)
        };
        viewed.or_else(from_itself)
    }

    /// Listener views about the attempt, the earliest first.
    pub(super) fn listener_views(&self) -> impl Iterator<Item = &'a ListenerView> {
        let facts = self.facts();
        facts
            .queue_at_retransmit
            .iter()
            .chain(facts.listener.iter())
    }

    /// A listener that would have taken the connection, with its accept queue over its limit, and somaxconn.
    pub(super) fn full_listener(&self) -> Option<(&'a Listener, Option<u32>)> {
        self.listener_views().find_map(|view| {
            let full = view
                .exact
                .iter()
                .find(|listener| listener.queue > listener.limit)?;
            Some((full, view.somaxconn))
        })
    }

    /// nginx's own call to its log during the attempt whose format contains `words`: nginx logs before it closes.
    pub(super) fn log_call(&self, words: &str) -> Option<&'a LogCall> {
        self.case.log_calls.iter().find(|call| {
            call.format.contains(words)
                && self
                    .attempt
                    .is_none_or(|attempt| (attempt.start..=attempt.end).contains(&call.at))
        })
    }

    /// A timer ended the handshake, by nginx's or the kernel's own word.
    fn said_to_time_out(&self) -> bool {
        self.log_call("upstream timed out").is_some()
            || (self.is_last() && self.case.status == Some(504))
            || self
                .connection()
                .is_some_and(|c| c.error.is_some_and(|(errno, _)| errno == ETIMEDOUT))
    }

    /// The ICMP error that ended the handshake: made by this host, else received. One about the upstream's own packets
    /// goes to the upstream, and the handshake ends by a timer.
    pub(super) fn icmp(&self) -> Option<icmp::Error> {
        let (c, remote) = self.handshake().filter(|_| !self.said_to_time_out())?;
        let v6 = remote.is_ipv6();
        let (kind, code) = c
            .icmp_sent
            .map(|(kind, code, _)| (kind, code))
            .or_else(|| {
                self.facts()
                    .icmp
                    .as_ref()
                    .map(|icmp| (icmp.kind, icmp.code))
            })?;
        Some(icmp::Error { v6, kind, code })
    }

    /// The errno nginx met: of `connect()`, of the socket, of nginx's log call, of the ICMP error that leaves it in
    /// the socket (an error during `connect()` is visible nowhere else), or of nginx's own timer.
    pub(super) fn errno(&self) -> Option<u32> {
        if let Some(failure) = self.failure() {
            let logged = || self.log_call(" failed").map(|call| call.errno);
            return Some(failure.errno)
                .filter(|e| *e != 0)
                .or_else(logged)
                .filter(|e| *e != 0);
        }
        let c = self.connection()?;
        c.error
            .map(|(errno, _)| errno)
            .filter(|errno| *errno != 0)
            .or_else(|| {
                self.log_call(" failed")
                    .map(|call| call.errno)
                    .filter(|e| *e != 0)
            })
            .or_else(|| self.icmp().and_then(icmp::Error::errno))
            .or_else(|| self.timed_out_by_nginx().then_some(ETIMEDOUT))
    }

    /// nginx's own timer ended the handshake, not an error.
    fn timed_out_by_nginx(&self) -> bool {
        let Some((c, _)) = self.handshake() else {
            return false;
        };
        if c.state != SYN_SENT || c.rst_in_syn_sent {
            return false;
        }
        // An error inside connect() wakes nginx at once and may leave SYN_SENT and no report; one that comes later
        // closes the socket. So a socket closed in SYN_SENT after a while was closed by the timer.
        self.said_to_time_out() || c.closed.since(c.start) >= 200 * MILLISECOND
    }

    /// The handshake got no answer that ended it: the kernel or nginx's timer gave up.
    pub(super) fn unanswered(&self) -> Option<(&'a Connection, SocketAddr)> {
        let (c, remote) = self.handshake()?;
        let silent = c.rst_received.is_none()
            && !c.rst_in_syn_sent
            && self.icmp().is_none()
            && self.errno() == Some(ETIMEDOUT);
        silent.then_some((c, remote))
    }

    /// The sender of a received ICMP error.
    pub(super) fn icmp_sender(&self) -> Option<IpAddr> {
        self.facts()
            .icmp
            .as_ref()
            .map(|icmp| icmp.sender.to_canonical())
    }
}

/// The hook that sees route lookups towards an address.
pub(super) fn route_hook(remote: SocketAddr) -> Hook {
    if remote.is_ipv4() {
        hook::ROUTE_V4
    } else {
        hook::ROUTE_V6
    }
}

/// The first drop with that reason.
fn dropped<'a>(c: &'a Connection, reason: &str) -> Option<&'a Drop> {
    c.drops.iter().find(|drop| drop.reason == reason)
}

/// Netfilter dropped a packet of the connection.
pub(super) fn netfilter_drop(c: &Connection) -> Option<&Drop> {
    dropped(c, "NETFILTER_DROP")
}

/// Netfilter dropped our SYN itself: a rule that answers does that, and answers us.
pub(super) fn filtered_syn(c: &Connection) -> bool {
    c.drops.iter().any(|drop| {
        drop.reason == "NETFILTER_DROP" && drop.tcp_flags & 0x12 == 0x02 && !drop.from_upstream
    })
}

/// This host found no socket for our SYN: seen by its RST, or by the SYN's own drop where RSTs without a socket are
/// not traced (before 6.10).
pub(super) fn no_socket_for_syn(c: &Connection) -> bool {
    c.rst_sent.is_some()
        || c.drops.iter().any(|drop| {
            drop.reason == "NO_SOCKET" && drop.tcp_flags & 0x12 == 0x02 && !drop.from_upstream
        })
}

/// Drops that explain something: freeing what was queued, or for no stated reason, is part of a normal close.
pub(super) fn telling_drops(c: &Connection) -> impl Iterator<Item = &Drop> {
    c.drops.iter().filter(|drop| {
        !matches!(
            drop.reason.as_str(),
            "NOT_SPECIFIED" | "QUEUE_PURGE" | "NOT_DROPPED_YET" | "CONSUMED" | "SOCKET_CLOSE"
        )
    })
}
