//! A connection's life: entered as it begins, written and forgotten as nginx closes it.

use tracer_ebpf::abi::{
    Connection, Endpoint, FLAG_BROKE_OFF, FLAG_OPEN, FLAG_RETRY, FLAG_RST_IN_SYN_SENT, FLAG_UNIX,
    FlowKey, UnixConnection, Worker, counter,
};

use super::{attempt, join, reply, unix_end};
use crate::{
    apart::apart,
    constants::OFFSETS,
    emit::{self, Urgency},
    hints, maps,
    nginx::address,
    read, sock, task,
};

/// A connection of which nothing is known yet. In read-only data: it is too large for the BPF stack
/// with others.
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
        join::closes(sk, pid, worker, connection);
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
        if address::copy(connection.address, &mut record.address).is_some() {
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

/// Whether it is left out. Then the connection is counted.
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
