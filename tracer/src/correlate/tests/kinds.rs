//! Ways an attempt can end, each with the record the kernel side writes of it, nginx's log call and the cause that is
//! right. A kind has an upstream of its own, so its address says which cause a verdict on it must name.

use std::net::SocketAddr;

use super::scene::Request;
use crate::event::{
    Connection, Drop, Failure, RouteLookup, RstSent, Time, Upstream,
    fact::{Finding, Listener, ListenerView, PathKind, UnixPathView},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Refused,
    RefusedByPeer,
    Rejected,
    Filtered,
    Silent,
    QueueFull,
    NoRoute,
    SocketMissing,
    ClosedEarly,
    Reset,
    Stale,
    Slow,
    /// `socket()` fails: nginx tries no further.
    OutOfFiles,
    /// No live upstream: nginx tries no further.
    Busy,
    /// The client went away while nginx waited for the answer.
    Aborted,
    /// Answered; the record is of the connection's end.
    Served,
}

use Kind::{
    Aborted, Busy, ClosedEarly, Filtered, NoRoute, OutOfFiles, QueueFull, Refused, RefusedByPeer,
    Rejected, Reset, Served, Silent, Slow, SocketMissing, Stale,
};

/// What fails and can be followed by another try.
pub(super) const FAILING: [Kind; 12] = [
    Refused,
    RefusedByPeer,
    Rejected,
    Filtered,
    Silent,
    QueueFull,
    NoRoute,
    SocketMissing,
    ClosedEarly,
    Reset,
    Stale,
    Slow,
];
/// What a request can end with besides.
pub(super) const FINAL: [Kind; 2] = [OutOfFiles, Busy];

impl Kind {
    /// The cause that is right for a request whose last attempt is of this kind.
    pub(super) fn cause(self) -> &'static str {
        match self {
            Refused => "no-listener",
            RefusedByPeer => "refused-by-peer",
            Rejected => "firewall-reject",
            Filtered => "firewall-drop",
            Silent => "syn-timeout",
            QueueFull => "accept-queue-full",
            NoRoute => "no-route",
            SocketMissing => "unix-socket-missing",
            ClosedEarly => "backend-closed-early",
            Reset => "backend-reset",
            Slow => "backend-slow",
            OutOfFiles => "fd-limit",
            Busy => "no-live-upstreams",
            // The race on a kept-alive connection is told elsewhere.
            Stale | Aborted | Served => "unexplained",
        }
    }

    pub(super) fn status(self) -> u16 {
        match self {
            Filtered | Silent | QueueFull | Slow => 504,
            OutOfFiles => 500,
            _ => 502,
        }
    }

    pub(super) fn upstream(self) -> Option<Upstream> {
        let address = match self {
            Refused => "127.0.0.1:9",
            RefusedByPeer => "10.0.0.1:80",
            Rejected => "10.0.0.2:80",
            Filtered => "10.0.0.3:80",
            Silent => "10.0.0.4:80",
            // This host's own, as `local` says.
            QueueFull => "10.0.0.99:80",
            NoRoute => "10.0.0.6:80",
            ClosedEarly => "10.0.0.7:80",
            Reset => "10.0.0.8:80",
            Stale => "10.0.0.9:80",
            Slow => "10.0.0.10:80",
            Aborted => "10.0.0.11:80",
            Served => "10.0.0.12:80",
            OutOfFiles => "10.0.0.13:80",
            SocketMissing => return Some(Upstream::Unix("/run/app.sock".to_owned())),
            Busy => return None,
        };
        Some(Upstream::Inet(address.parse().expect("an address")))
    }

    /// The format and errno of the line that nginx logs at `error`; a client that goes away is logged at `info`.
    pub(super) fn log(self) -> Option<(&'static str, u32)> {
        match self {
            Refused | RefusedByPeer | Rejected => Some(("connect() failed", 111)),
            Filtered | Silent | QueueFull | Slow => Some(("upstream timed out", 110)),
            NoRoute => Some(("connect() to %V failed", 101)),
            SocketMissing => Some(("connect() to %V failed", 2)),
            ClosedEarly | Stale => Some(("upstream prematurely closed connection", 0)),
            Reset => Some(("recv() failed", 104)),
            OutOfFiles => Some(("socket() failed", 24)),
            Busy => Some(("no live upstreams", 0)),
            Aborted | Served => None,
        }
    }

    pub(super) fn retransmits(self) -> bool {
        matches!(self, Filtered | Silent | QueueFull)
    }

    /// `ngx_event_connect_peer` fails at once.
    pub(super) fn is_at_once(self) -> bool {
        matches!(self, NoRoute | SocketMissing | OutOfFiles | Busy)
    }

    pub(super) fn failure(self, request: &Request, at: Time) -> Failure {
        let (code, errno, lookups, error) = match self {
            NoRoute => (-5, 101, 2, -101),
            SocketMissing => (-5, 2, 0, 0),
            OutOfFiles => (-1, 24, 0, 0),
            _ => (-3, 0, 0, 0),
        };
        Failure {
            start: request.start,
            at,
            worker: request.worker,
            peer: request.peer,
            tries: request.tries,
            upstream: self.upstream(),
            source: None,
            code,
            errno,
            syn_sent: false,
            routes: RouteLookup { lookups, error, kind: 0 },
        }
    }

    pub(super) fn connection(self, request: &Request, at: Time) -> Connection {
        let plain = plain(request, at, self.upstream().expect("a connection goes somewhere"));
        let stood = Connection {
            established: Some(request.start),
            bytes_sent: 120,
            state: 1,
            ..plain.clone()
        };
        let (reset, error) = (Some(at), Some((111, at)));
        match self {
            Refused | RefusedByPeer => Connection {
                rst_received: reset,
                rst_in_syn_sent: true,
                error,
                rst_sent: (self == Refused).then(|| RstSent {
                    at,
                    reason: Some("NO_SOCKET".to_owned()),
                }),
                ..plain
            },
            Rejected => Connection {
                state: 2,
                drops: dropped(at, 1),
                icmp_sent: Some((3, 3, at)),
                ..plain
            },
            Filtered | Silent | QueueFull => Connection {
                state: 2,
                syn_retransmits: 1,
                last_retransmit: Some(at),
                drops: dropped(at, if self == Filtered { 2 } else { 0 }),
                local: (self == QueueFull).then(|| "10.0.0.99:40000".parse().expect("an address")).or(plain.local),
                ..plain
            },
            ClosedEarly => Connection { state: 8, fin_received: Some(at), ..stood },
            Reset => Connection {
                state: 7,
                rst_received: reset,
                error: Some((104, at)),
                ..stood
            },
            Stale => Connection {
                state: 8,
                fin_received: Some(at),
                start: Time(request.start.0 - 5_000_000_000),
                reuses: 1,
                reused_at: Some(request.start),
                ..stood
            },
            Served => Connection {
                first_byte: Some(request.first_byte.unwrap_or(at)),
                bytes_received: 300,
                status: Some(200),
                ..stood
            },
            _ => stood,
        }
    }
}

fn dropped(at: Time, count: u32) -> Vec<Drop> {
    let drop = Drop {
        at,
        reason: "NETFILTER_DROP".to_owned(),
        tcp_flags: 2,
        from_upstream: false,
        count,
    };
    (count > 0).then_some(drop).into_iter().collect()
}

fn plain(request: &Request, at: Time, remote: Upstream) -> Connection {
    Connection {
        socket: 0xffff_8880_0000_0001,
        worker: request.worker,
        peer: Some(request.peer),
        tries: request.tries,
        start: request.start,
        closed: at,
        local: Some("10.0.0.100:40000".parse().expect("an address")),
        remote,
        netns: 1,
        established: None,
        first_byte: None,
        status: None,
        fin_received: None,
        rst_received: None,
        rst_in_syn_sent: false,
        error: None,
        state: 7,
        syn_retransmits: 0,
        last_retransmit: None,
        bytes_received: 0,
        bytes_sent: 0,
        reuses: 0,
        reused_at: None,
        rst_sent: None,
        drops: Vec::new(),
        icmp_sent: None,
        routes: RouteLookup::default(),
    }
}

/// What the host sees at an upstream's address.
pub(super) fn listener(address: SocketAddr, queue: u32) -> Finding {
    let full = Some(Upstream::Inet(address)) == QueueFull.upstream();
    let listener = Listener {
        address: Some(address),
        v6_only: false,
        queue,
        limit: 128,
        owner: None,
    };
    Finding::Listener(ListenerView {
        local: full || address.ip().is_loopback(),
        exact: full.then_some(listener).into_iter().collect(),
        ..ListenerView::default()
    })
}

/// What the host sees at a unix socket's path: nothing.
pub(super) fn missing() -> Finding {
    Finding::UnixPath(Box::new(UnixPathView {
        kind: PathKind::Missing,
        file: None,
        missing: None,
        blocked: None,
        listener: None,
        worker_uid: 33,
        worker_gid: 33,
        worker_user: None,
        somaxconn: None,
    }))
}
