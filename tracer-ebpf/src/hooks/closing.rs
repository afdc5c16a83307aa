//! `void ngx_close_connection(ngx_connection_t *c)` (src/core/ngx_connection.c): the attempt that
//! failed at once, where nginx's log is too quiet to show it: nothing else calls this from within
//! `ngx_event_connect_peer`. It is also all that shows the end of a unix connection. Without it and
//! the other ways to see attempts by their sockets (`track::join`, `track::at_once`) the entry and
//! the return of `ngx_event_connect_peer` show the same, at a breakpoint each.

use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use tracer_ebpf::abi::FLAG_UNIX;

use crate::{
    links, maps,
    nginx::{
        layout::{CONNECTION_LOG, NGX_DECLINED, NGX_ERROR},
        log_level::is_logged,
        lookup::{holds, peer_of_log},
        members,
    },
    read, stack, task,
    track::{
        at_once::{Text, fails_at_once, is_connecting, socket_of},
        connection,
    },
};

/// nginx closes a connection: one that it never logged, as its log is too quiet, or a unix one.
#[uprobe(multi)]
pub fn closed_at_once(ctx: ProbeContext) -> u32 {
    stack::of_task();
    if !links::counts(&ctx) {
        return 0;
    }
    let (Some((pid, worker)), Some(connection)) = (task::worker(), ctx.arg::<u64>(0)) else {
        return 0;
    };
    if is_connecting(&ctx, worker, &[0; size_of::<Text>()]) {
        let log = read::user(connection.wrapping_add(CONNECTION_LOG)).unwrap_or(0);
        members::show_by_log(pid, worker, log);
        if !is_logged(log) {
            // connect() is called when the peer object has its connection; what fails before it
            // ends the request.
            let peer = peer_of_log(pid, log, |_| true);
            let code = if peer != 0 && holds(peer, connection) {
                NGX_DECLINED
            } else {
                NGX_ERROR
            };
            fails_at_once(pid, worker, peer, connection, code);
        }
    } else if worker.has_unix != 0
        && let Some(sk) = socket_of(connection)
    {
        unix_ends(sk);
    }
    0
}

/// nginx closes a unix connection to an upstream; another may have the socket's place at once.
#[inline(always)]
fn unix_ends(sk: u64) {
    if let Some(connection) = maps::connection(sk)
        && connection.flags & FLAG_UNIX != 0
    {
        connection::finish(sk, connection);
    }
}
