//! `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`, since 4.16, and
//! `tcp_destroy_sock(struct sock *sk)`, since 4.15: a connection's life. Without them nothing is known of it.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use tracer_ebpf::abi::{
    Connection, Endpoint, FLAG_BROKE_OFF, FLAG_OPEN, FLAG_RETRY, FLAG_RST_IN_SYN_SENT, FLAG_UNIX,
    FlowKey, UnixConnection, Worker, counter,
};

use crate::{
    apart::apart,
    constants::OFFSETS,
    emit::{self, Urgency},
    hints,
    hooks::{attempt, backend, by_socket, reply, unix_end},
    maps, read,
    sock::{self, state},
    task,
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
            backend::closed(sk);
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
            finish(sk, connection);
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
        finish(sk, connection);
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
    let Some(connection) = enter(sk, pid, worker, worker.peer, start, 0) else {
        maps::add_upstream(&sock::remote(sk));
        return;
    };
    maps::add_upstream(&connection.remote);
    if !maps::is_loopback(&connection.remote.address) {
        connection.local = sock::local(sk);
        maps::add_source(&connection.local.address, sock::netns(sk), pid);
    }
    if worker.layout.is_by_socket() {
        by_socket::opened(sk, pid, worker, connection);
    }
}

/// A connection of which nothing is known yet. In read-only data: it is too large for the BPF stack beside others.
static UNKNOWN: Connection = Connection::UNKNOWN;

/// Enters a connection into the map.
#[inline(always)]
pub fn enter(
    sk: u64,
    pid: u32,
    worker: &Worker,
    peer: u64,
    start: u64,
    flags: u16,
) -> Option<&'static mut Connection> {
    maps::add_connection(sk, &UNKNOWN);
    let connection = maps::connection(sk)?;
    connection.header.pid = pid;
    connection.socket = sk;
    connection.peer = peer;
    connection.start = start;
    connection.flags = flags;
    // The resolver's own connections serve no request.
    if peer != 0 {
        connection.request = worker.request;
        connection.flags |= attempt::retry_flag(worker);
    }
    if flags & FLAG_UNIX == 0 {
        connection.remote = sock::remote(sk);
    } else {
        connection.netns = sock::netns(sk);
    }
    Some(connection)
}

/// Writes the connection's record and forgets it.
#[apart(connection = maps::connection(sk))]
pub fn finish(sk: u64, connection: &mut Connection) {
    if let Some((pid, worker)) = task::worker()
        && pid == connection.header.pid
    {
        by_socket::closes(sk, pid, worker, connection);
        if connection.first_byte == 0
            && maps::is_told(connection.request)
            && !reply::is_last(worker, connection.request)
        {
            reply::watch_peer(pid, worker, connection.peer, connection.request);
        }
    }
    // Mostly nothing is to be told, and nothing of its packets to be forgotten.
    let is_plain = connection.flags & FLAG_UNIX == 0
        && is_unasked(connection)
        && !maps::are_unasked_told()
        && !hints::may_have_flow(|| sock::local_port(sk));
    if !is_plain {
        write(sk, connection);
    }
    if connection.flags & FLAG_UNIX != 0 {
        unix_end::forget(connection);
    }
    maps::remove_connection(sk);
}

/// Served well, and nothing was asked?
#[inline(always)]
fn is_unasked(connection: &Connection) -> bool {
    connection.request == 0
        && connection.turn != 0
        && connection.first_byte != 0
        && is_healthy(connection)
}

/// Writes the connection's record.
#[inline(always)]
pub fn write(sk: u64, connection: &mut Connection) {
    connection.header.at = task::now();
    if connection.flags & FLAG_UNIX == 0 {
        connection.local = sock::local(sk);
        connection.netns = sock::netns(sk);
        let received: u64 = read::kernel(sk, &OFFSETS.bytes_received).unwrap_or(0);
        // A FIN takes a place in the sequence and is counted as a byte.
        let fin = u64::from(connection.fin_received != 0);
        connection.bytes_received = received.saturating_sub(fin);
        connection.bytes_sent = read::kernel(sk, &OFFSETS.bytes_sent).unwrap_or(0);
        let mut key = FlowKey {
            local: connection.local,
            remote: connection.remote,
            netns: connection.netns,
        };
        let has_other_flow =
            hints::may_have_flow(|| key.local.port) && !maps::take_flow(&key, &mut connection.flow);
        let is_given_up = connection.first_byte == 0 && connection.established != 0;
        if is_given_up {
            // nginx gave up: whose close() follows at the other end tells who had accepted.
            maps::give_up(&key);
        }
        if (has_other_flow || is_given_up) && !maps::is_loopback(&connection.remote.address) {
            // What was met beyond an address translation is known by nginx's end alone.
            key.remote = Endpoint::NONE;
            if has_other_flow {
                maps::take_flow(&key, &mut connection.flow);
            }
            if is_given_up {
                maps::give_up(&key);
            }
        }
    }
    if connection.flags & FLAG_RST_IN_SYN_SENT != 0 && connection.flow.rst_sent == 0 {
        take_stray(sk, connection);
    }
    if is_unasked(connection) {
        if !maps::are_unasked_told() {
            return;
        }
        // Which request it served was not asked: its time is a number that no other request has.
        connection.request = connection.start.max(connection.reused_at);
    }
    if connection.flags & FLAG_OPEN == 0 && is_shed(connection) {
        return;
    }
    let urgency = if connection.first_byte == 0 {
        Urgency::Soon
    } else {
        Urgency::Whenever
    };
    if connection.flags & FLAG_UNIX == 0 {
        emit::record(connection, urgency);
        return;
    }
    emit::in_place(&UNIX_UNKNOWN, urgency, |record| {
        record.connection = *connection;
        record.connection.header.len = size_of::<UnixConnection>() as u16;
        if attempt::address_at(connection.address, &mut record.address).is_some() {
            record.address_len = connection.address_len;
        }
        unix_end::tell(connection, record);
    });
}

/// A RST answered its SYN, and none that this host sent to nginx's address: to a translated one?
#[apart(connection = maps::connection(sk))]
fn take_stray(sk: u64, connection: &mut Connection) {
    if let Some(sequence) = read::kernel::<u32>(sk, &OFFSETS.snd_una) {
        maps::take_stray(sequence, connection.start, &mut connection.flow);
    }
}

/// Is the collector not to be told? Then the connection is counted.
#[inline(always)]
fn is_shed(connection: &Connection) -> bool {
    if connection.first_byte == 0 {
        if maps::is_told(connection.request) {
            return false;
        }
        maps::count(counter::UNTOLD);
        return true;
    }
    if !is_healthy(connection) || maps::are_healthy_told() {
        return false;
    }
    maps::count(counter::HEALTHY);
    true
}

/// Of one whose response began: nothing went wrong, as far as is known.
#[inline(always)]
pub fn is_healthy(connection: &Connection) -> bool {
    // One condition: the verifier follows each of several.
    let wrong = u64::from(connection.flags & (FLAG_RETRY | FLAG_BROKE_OFF))
        | connection.rst_received
        | u64::from(connection.transfer_error);
    wrong == 0 && !matches!(connection.status, 502 | 504)
}

/// A unix connection of which nothing is known yet, in read-only data.
static UNIX_UNKNOWN: UnixConnection = UnixConnection::UNKNOWN;
