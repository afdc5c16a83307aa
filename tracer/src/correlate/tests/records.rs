//! The record that the kernel side writes of each kind of attempt, and what the host sees
//! afterwards.

use std::net::SocketAddr;

use super::{
    kinds::Kind::{self, *},
    scene::Request,
};
use crate::event::{
    Connection, Drop, Failure, RouteLookup, RstSent, Time, Upstream,
    fact::{Finding, Listener, ListenerView, PathKind, UnixPathView},
};

impl Kind {
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
            request: request.request,
            upstream: self.upstream(),
            source: None,
            block: None,
            code,
            errno,
            syn_sent: false,
            routes: RouteLookup {
                lookups,
                error,
                kind: 0,
                security: None,
                unseen: false,
            },
        }
    }

    pub(super) fn connection(self, request: &Request, at: Time) -> Connection {
        let plain = plain(
            request,
            at,
            self.upstream().expect("a connection goes somewhere"),
        );
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
                local: (self == QueueFull)
                    .then(|| "10.0.0.99:40000".parse().expect("an address"))
                    .or(plain.local),
                ..plain
            },
            ClosedEarly => Connection {
                state: 8,
                fin_received: Some(at),
                ..stood
            },
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
        request: Some(request.request),
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
        unread: 0,
        asked: 0,
        last_sent: None,
        last_received: None,
        end_read: None,
        transfer_error: None,
        first_sent: None,
        first_received: None,
        tls_alert: None,
        tls_data: false,
        broke_off: false,
        whole: false,
        body: None,
        listener_pid: None,
        accepted: None,
        holder: None,
        open: false,
        reuses: 0,
        reused_at: None,
        idle: None,
        rst_sent: None,
        drops: Vec::new(),
        icmp_sent: None,
        full_queue: None,
        translated: None,
        routes: RouteLookup::default(),
    }
}

/// What the host sees at an upstream's address.
pub(super) fn listener(address: SocketAddr, queue: u32) -> Finding {
    let full = Some(Upstream::Inet(address)) == QueueFull.upstream();
    let listener = Listener {
        others: Vec::new(),
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

/// What a worker of this user sees at a unix socket's path: nothing.
pub(super) fn missing(worker_uid: u32) -> Finding {
    Finding::UnixPath(Box::new(UnixPathView {
        unseen: None,
        kind: PathKind::Missing,
        file: None,
        missing: None,
        blocked: None,
        listener: None,
        worker_uid,
        worker_gid: 33,
        worker_user: None,
        worker_group: None,
        worker_inside: None,
        somaxconn: None,
    }))
}
