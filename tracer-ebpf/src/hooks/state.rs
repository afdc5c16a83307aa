//! `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`, since
//! 4.16, and `tcp_destroy_sock(struct sock *sk)`, since 4.15: a connection's life. Without them
//! nothing is known of it.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::{
    hints, maps,
    sock::{self, state},
    task,
    track::{attempt, connection, ending, join, reply},
};

/// A socket changes its state.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub fn set_state(ctx: RawTracePointContext) -> i32 {
    let (sk, old, new): (u64, i32, i32) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    if old == state::CLOSE {
        if new == state::SYN_SENT {
            opened(sk);
        }
        return 0;
    }
    let Some(connection) = maps::connection(sk) else {
        // Only a close() of this end leads to these two, in the closer's own context.
        if new == state::FIN_WAIT1 || new == state::LAST_ACK {
            ending::closed(sk);
        }
        return 0;
    };
    match new {
        state::ESTABLISHED => connection.established = task::now(),
        state::CLOSE_WAIT => {
            connection.fin_received = task::now();
            connection.state = state::CLOSE_WAIT as u8;
        }
        // Only the worker's own close() (or shutdown()) leads here.
        state::FIN_WAIT1 | state::LAST_ACK => {
            connection.state = old as u8;
            connection::finish(sk, connection);
        }
        state::CLOSE => connection.state = old as u8,
        _ => {}
    }
    0
}

/// A socket's last moment. After a RST, or before a handshake, this is the worker's close().
#[raw_tracepoint(tracepoint = "tcp_destroy_sock")]
pub fn destroy(ctx: RawTracePointContext) -> i32 {
    let sk: u64 = ctx.arg(0);
    hints::forget_no_upstream(sk);
    if hints::is_unknown(sk) {
        return 0;
    }
    let Some(connection) = maps::connection(sk) else {
        reply::gone(sk);
        return 0;
    };
    if attempt::fails_at_once(sk) {
        // Its failure is told as such when the call returns.
        maps::remove_connection(sk);
    } else {
        connection::finish(sk, connection);
    }
    0
}

#[inline(always)]
fn opened(sk: u64) {
    let Some((pid, worker)) = task::worker() else {
        return;
    };
    if !sock::is_tcp(sk) {
        return;
    }
    let start = match worker.peer {
        0 => task::now(),
        _ => worker.start,
    };
    worker.socket = sk;
    let Some(connection) = connection::enter(sk, pid, worker, worker.peer, start, 0) else {
        maps::add_upstream(&sock::remote(sk));
        return;
    };
    maps::add_upstream(&connection.remote);
    if !maps::is_loopback(&connection.remote.address) {
        connection.local = sock::local(sk);
        maps::add_source(&connection.local.address, sock::netns(sk), pid);
    }
    if worker.layout.is_by_socket() {
        join::opened(sk, pid, worker, connection);
    }
}
