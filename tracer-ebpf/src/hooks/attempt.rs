//! `ngx_int_t ngx_event_connect_peer(ngx_peer_connection_t *pc)` (src/event/ngx_event_connect.c):
//! every attempt to reach an upstream, of http, stream and mail alike. Without it connect()
//! failures that never become a socket event (unix sockets, routes, security hooks) are not
//! visible, and attempts are not joined to requests. Its entry and return cost healthy requests a
//! breakpoint each: [`join`](crate::track::join) sees attempts otherwise where it can.

use aya_ebpf::{
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use tracer_ebpf::abi::{Routes, Worker};

use crate::{
    links, maps,
    nginx::{
        layout::{CONNECTION_FD, NGX_AGAIN, NGX_DONE, NGX_OK, PC_CONNECTION},
        members,
    },
    read, sock, stack, task,
    track::attempt::{Of, begin, connected_unix, failed, has_socket, reused},
};

/// The call begins.
#[uprobe(multi)]
pub fn connect_peer(ctx: ProbeContext) -> u32 {
    stack::of_task();
    if !links::counts(&ctx) {
        return 0;
    }
    if let (Some((pid, worker)), Some(peer)) = (task::worker(), ctx.arg::<u64>(0)) {
        // The binary is another's too, whose attempts can not be seen by their sockets.
        if worker.layout.is_by_socket() {
            return 0;
        }
        members::show_by_peer(pid, worker, peer);
        begin(pid, worker, peer, Of::Another);
        worker.peer = peer;
        worker.socket = 0;
        worker.has_logged = 0;
        worker.logged_errno = 0;
        worker.routes = Routes::default();
    }
    0
}

/// The call returns.
#[uretprobe(multi)]
pub fn connect_peer_return(ctx: RetProbeContext) -> u32 {
    stack::of_task();
    if !links::counts(&ctx) {
        return 0;
    }
    let Some((pid, worker)) = task::worker() else {
        return 0;
    };
    let peer = worker.peer;
    if peer == 0 {
        return 0;
    }
    worker.peer = 0;
    let code = ctx.ret::<i64>() as i32;
    let socket = match code {
        // The one that moved to SYN_SENT within the call.
        NGX_OK | NGX_AGAIN if worker.socket != 0 => worker.socket,
        NGX_OK | NGX_AGAIN | NGX_DONE => socket(peer).unwrap_or(0),
        _ => 0,
    };
    has_socket(pid, worker, peer, socket, code == NGX_DONE);
    match code {
        NGX_OK | NGX_AGAIN => connected(pid, worker, peer, socket),
        NGX_DONE => reused(pid, worker, peer, socket),
        _ => failed(pid, worker, peer, code),
    }
    0
}

/// The socket behind `pc->connection`.
#[inline(always)]
fn socket(peer: u64) -> Option<u64> {
    let connection: u64 = read::user(peer.wrapping_add(PC_CONNECTION))?;
    task::socket_of(read::user(connection.wrapping_add(CONNECTION_FD))?)
}

/// TCP sockets were entered when they moved to `SYN_SENT`; a unix socket is entered here.
#[inline(always)]
fn connected(pid: u32, worker: &Worker, peer: u64, sk: u64) {
    if worker.socket != 0 {
        if let Some(connection) = maps::connection(worker.socket) {
            connection.routes = worker.routes;
        }
        return;
    }
    if sk != 0 && sock::family(sk) == sock::AF_UNIX {
        connected_unix(pid, worker, peer, sk);
    }
}
