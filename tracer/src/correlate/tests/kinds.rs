//! Ways an attempt can end, each with nginx's log call and the cause that is right. A kind has an
//! upstream of its own, so its address says which cause a verdict on it must name.

use crate::event::Upstream;

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

use Kind::*;

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
            Stale => "keepalive-race",
            Aborted | Served => "unexplained",
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

    /// The format and errno of the line that nginx logs at `error`; a client that goes away is
    /// logged at `info`.
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
}
