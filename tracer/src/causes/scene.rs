//! One attempt of a case with everything that was seen around it: what a cause's matcher looks at.

use std::net::{IpAddr, SocketAddr};

use super::{errno::ETIMEDOUT, icmp};
use crate::{
    correlate::{Attempt, Case, Course, Facts},
    event::{
        Connection, Failure, FailureKind, LogCall, Said, Upstream,
        fact::{Listener, ListenerView, Owner},
    },
};

/// See the module.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    /// The whole request.
    pub(super) case: &'a Case,
    /// The attempt looked at; `None` where nginx made none.
    pub(super) attempt: Option<&'a Attempt>,
    /// What failed before on this worker, latest first; only where nginx tried no peer.
    pub(super) earlier: &'a [Earlier<'a>],
}

/// An attempt of an earlier request, and the cause of its failure.
pub(super) struct Earlier<'a> {
    pub(super) attempt: &'a Attempt,
    pub(super) cause: &'static str,
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
    /// An attempt of a case, without what failed before it.
    pub(super) fn of(case: &'a Case, attempt: Option<&'a Attempt>) -> Self {
        Self {
            case,
            attempt,
            earlier: &[],
        }
    }

    /// The failure at once, if it was one.
    pub(super) fn failure(&self) -> Option<&'a Failure> {
        match &self.attempt?.course {
            Course::FailedAtOnce(failure) => Some(failure),
            _ => None,
        }
    }

    /// `connect()` itself failed towards an IP address.
    pub(super) fn refused_at_once(&self) -> Option<(&'a Failure, SocketAddr)> {
        let failure = self
            .failure()
            .filter(|f| f.kind() == FailureKind::ConnectFailed)?;
        match failure.upstream {
            Some(Upstream::Inet(remote)) => Some((failure, remote)),
            _ => None,
        }
    }

    /// `connect()` itself failed towards a unix socket.
    pub(super) fn unix_failure(&self) -> Option<(&'a Failure, &'a str)> {
        let failure = self
            .failure()
            .filter(|f| f.kind() == FailureKind::ConnectFailed)?;
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

    /// What the host said.
    pub(super) fn facts(&self) -> &'a Facts {
        self.attempt.map_or(&NO_FACTS, |attempt| &attempt.facts)
    }

    /// Something came on its own connection, and nginx was not seen to read it.
    pub(super) fn is_unread(&self) -> bool {
        self.connection()
            .is_some_and(|c| c.last_received.is_none() && c.reuses == 0 && c.bytes_received > 0)
    }

    /// Nothing is known to be missing of what was to be seen.
    pub(super) fn is_complete(&self) -> bool {
        self.case.lost_events == 0 && self.case.skipped.is_empty()
    }

    /// The attempt is the request's last, so the client's status is of its making.
    pub(super) fn is_last(&self) -> bool {
        match (self.attempt, self.case.attempts.last()) {
            (Some(this), Some(last)) => std::ptr::eq(this, last),
            (None, None) => true,
            _ => false,
        }
    }

    /// Is the address this host's own, in whichever network namespace? `None`: nobody said.
    pub(super) fn is_local(&self, remote: SocketAddr) -> Option<bool> {
        if remote.ip().to_canonical().is_loopback() {
            return Some(true);
        }
        let viewed = match self.listener_views().last() {
            Some(view) if view.unclear => return None,
            Some(view) => Some(view.local),
            None => None,
        };
        // Unasked: the kernel connects to an own address from that address.
        let from_itself = || {
            let local = self.connection()?.local?.ip().to_canonical();
            (local == remote.ip().to_canonical()).then_some(true)
        };
        viewed.or_else(from_itself)
    }

    /// What the upstream's address is translated to (DNAT), where that is on this host and was
    /// seen.
    pub(super) fn translated(&self) -> Option<SocketAddr> {
        let peer = self.facts().peer_socket.as_ref();
        let by_socket = || peer.and_then(|view| view.translated);
        let by_table = || self.listener_views().find_map(|view| view.translated);
        let c = self.connection()?;
        c.translated.or_else(by_socket).or_else(by_table)
    }

    /// Who is in the other network namespace of this host that has the upstream's address.
    pub(super) fn container(&self) -> Option<&'a Owner> {
        self.listener_views().last()?.container.as_ref()
    }

    /// A command as it is run where the backend is.
    pub(super) fn there(&self, command: &str) -> String {
        match self.container() {
            Some(owner) => format!("nsenter -t {} -n {command}", owner.pid),
            None => command.to_owned(),
        }
    }

    /// Listener views about the attempt, the earliest first.
    pub(super) fn listener_views(&self) -> impl Iterator<Item = &'a ListenerView> {
        let facts = self.facts();
        facts
            .queue_at_retransmit
            .as_deref()
            .into_iter()
            .chain(facts.listener.iter())
    }

    /// The next hop towards the upstream, if it did not answer on the link when the attempt ended.
    pub(super) fn silent_neighbor(&self) -> Option<IpAddr> {
        let neighbor = self.facts().listener.as_ref()?.silent_neighbor?;
        let local = self.connection()?.local?.ip().to_canonical();
        // By a rule of its own, or proxy_bind, nginx's packets may go another way than the one that
        // was asked for.
        (neighbor.source == local).then_some(neighbor.address)
    }

    /// How often nginx's end had sent its last again when nginx gave up, without an answer: the
    /// upstream's host, or the way to it, was silent.
    pub(super) fn unacknowledged(&self) -> Option<u8> {
        let view = self.facts().peer_socket.as_ref()?;
        (view.retransmits > 0).then_some(view.retransmits)
    }

    /// A listener that would have taken the connection, with its accept queue over its limit, and
    /// somaxconn.
    pub(super) fn full_listener(&self) -> Option<(&'a Listener, Option<u32>)> {
        self.listener_views().find_map(|view| {
            let full = view
                .exact
                .iter()
                .find(|listener| listener.queue > listener.limit)?;
            Some((full, view.somaxconn))
        })
    }

    /// Returns the first call during the attempt in which nginx says this.
    pub(super) fn said(&self, said: Said) -> Option<&'a LogCall> {
        self.logged(|it| it == said)
    }

    /// Returns the first call during the attempt in which nginx says such a thing.
    pub(super) fn logged(&self, is_such: impl Fn(Said) -> bool) -> Option<&'a LogCall> {
        self.calls().find(|call| is_such(call.said()))
    }

    /// Returns the first failed call that nginx logged during the attempt.
    pub(super) fn failed_call(&self) -> Option<&'a LogCall> {
        self.calls().find(|call| call.is_failed_call())
    }

    /// nginx's own calls to its log during the attempt.
    fn calls(&self) -> impl Iterator<Item = &'a LogCall> {
        let calls = self.case.log_calls.iter();
        calls.filter(|call| self.is_during(call))
    }

    /// nginx logged it for this attempt: before the next began. (A unix connection's end is seen
    /// before it logs.)
    pub(super) fn is_during(&self, call: &LogCall) -> bool {
        let Some(attempt) = self.attempt else {
            return true;
        };
        let later = self.case.attempts.iter().map(|other| other.start);
        let next = later.filter(|start| *start > attempt.start).min();
        attempt.start <= call.at && next.is_none_or(|next| call.at < next)
    }

    /// The errno nginx met: of `connect()`, of the socket, of nginx's log call, of the ICMP error
    /// that leaves it in the socket (an error during `connect()` is visible nowhere else), or of
    /// nginx's own timer.
    pub(super) fn errno(&self) -> Option<u32> {
        if let Some(failure) = self.failure() {
            let logged = || self.failed_call().map(|call| call.errno);
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
                self.failed_call()
                    .map(|call| call.errno)
                    .filter(|e| *e != 0)
            })
            .or_else(|| c.transfer_error.map(|(errno, _)| errno))
            .or_else(|| self.icmp().and_then(icmp::Error::errno))
            .or_else(|| {
                let waiting = self.failed_before_body().is_some() && self.is_timer_shown();
                (waiting || self.timed_out_by_nginx()).then_some(ETIMEDOUT)
            })
    }
}
