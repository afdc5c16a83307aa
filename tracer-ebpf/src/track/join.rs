//! Which request a socket serves.
//!
//! A new connection is seen as it moves to `SYN_SENT` (a unix one at its first write or read), a
//! kept-alive one at the first write of its next request. The socket leads to nginx's own
//! connection by way of epoll, that to the request: no breakpoint is on the way of a healthy one.

use tracer_ebpf::abi::{Connection, FLAG_UNASKED, FLAG_UNIX, Routes, Worker, counter};

use super::{
    attempt::{self, Of},
    connection, reply,
};
use crate::{
    apart::apart,
    constants::OFFSETS,
    hints, maps,
    nginx::{
        identity,
        layout::{CONNECTION_FD, PC_CONNECTION},
        log_level,
        lookup::{connection_of, peer_of, peer_of_unset},
        members, request,
    },
    read, sock, task,
};

/// A worker's socket moved to `SYN_SENT` and was entered: an attempt of a request begins, unless it
/// is the resolver's.
#[inline(always)]
pub fn opened(sk: u64, pid: u32, worker: &mut Worker, connection: &mut Connection) {
    connection.routes = worker.routes;
    worker.routes = Routes::default();
    worker.has_logged = 0;
    connection.nginx = connection_of(sk);
    if connection.nginx != 0 {
        connection.flags |= FLAG_UNASKED;
        if is_expected(worker) {
            ask(sk, pid, worker, connection);
        }
    }
}

/// May the next attempt be a further one of a request? That is to be known as it begins.
#[inline(always)]
fn is_expected(worker: &Worker) -> bool {
    worker.watched != 0 || worker.is_led_on != 0 || worker.layout.status == 0
}

/// The worker read or wrote some socket: what routing said before belongs to no `connect()` to
/// come. One that failed is logged first, perhaps to a syslog server.
#[inline(always)]
pub fn transferred(worker: &mut Worker) {
    if worker.has_logged == 0 {
        worker.routes = Routes::default();
    }
}

/// The worker reads from an upstream to which it has not written: not `http {}` does so.
#[inline(always)]
pub fn read(sk: u64, pid: u32, worker: &mut Worker, connection: &mut Connection) {
    if connection.turn == 0 {
        ask(sk, pid, worker, connection);
    }
}

/// The worker writes to an upstream. After a response this may be the next request's. Which one's
/// is asked when it matters, or when some request of the worker's is looking for another upstream.
#[inline(always)]
pub fn written(sk: u64, pid: u32, worker: &mut Worker, connection: &mut Connection, now: u64) {
    if connection.nginx == 0 || (connection.first_byte == 0 && connection.turn != 0) {
        return;
    }
    // Only `http {}` counts; a session, and the resolver, are asked for at their first write.
    if turns(worker, connection, || now) == 0 || is_expected(worker) {
        ask(sk, pid, worker, connection);
    }
}

/// Whether another request has taken the connection: returns its ordinal on it.
#[inline(always)]
fn turns(worker: &Worker, connection: &mut Connection, now: impl FnOnce() -> u64) -> u64 {
    let turn = turn(worker, connection.nginx);
    if turn > 1 && turn != connection.turn {
        attempt::reuse(connection, now());
        connection.request = 0;
        connection.flags |= FLAG_UNASKED;
    }
    connection.turn = turn;
    turn
}

/// Asks which request the connection serves, unless that is known.
#[inline(always)]
pub fn ask(sk: u64, pid: u32, worker: &mut Worker, connection: &mut Connection) {
    ask_of(sk, pid, worker, connection, 0);
}

/// The same where its peer object is known (0: it is not), one of [`Worker::main`].
#[inline(always)]
fn ask_of(sk: u64, pid: u32, worker: &mut Worker, connection: &mut Connection, peer: u64) {
    if connection.flags & FLAG_UNASKED != 0 {
        members::show_by_connection(pid, worker, connection.nginx);
        asked(sk, pid, worker, connection, peer);
    }
}

#[apart(worker = maps::worker(pid), connection = maps::connection(sk))]
fn asked(sk: u64, pid: u32, worker: &mut Worker, connection: &mut Connection, known: u64) {
    let nginx = connection.nginx;
    connection.flags &= !FLAG_UNASKED;
    let (peer, of) = if known != 0 {
        (known, Of::Main)
    } else {
        // While it serves the request; before it is connected, and as it is being closed, its
        // `data` is another's.
        let peer = match peer_of(pid, nginx) {
            0 => peer_of_unset(pid, nginx),
            peer => peer,
        };
        (peer, Of::Another)
    };
    if peer == 0 {
        return;
    }
    attempt::begin(pid, worker, peer, of);
    attempt::has_socket(pid, worker, peer, sk, connection.turn > 1);
    attempt::serves(connection, worker, peer, sk);
}

/// A response begins whose status nginx may not take for an answer (`proxy_next_upstream http_503`
/// and the like), or that could not be read: the next attempt may be the same request's.
#[inline(always)]
pub fn leads_on(sk: u64, pid: u32, worker: &mut Worker, connection: &mut Connection) {
    if worker.layout.is_by_socket() && !matches!(connection.status, 100..=402 | 405..=428) {
        ask(sk, pid, worker, connection);
        worker.is_led_on = 1;
    }
}

/// The worker closes a connection to an upstream: if its next request found it dead there was no
/// write. nginx has freed its connection, of which the log stays.
#[inline(always)]
pub fn closes(sk: u64, pid: u32, worker: &mut Worker, connection: &mut Connection) {
    if connection.nginx == 0 || !worker.layout.is_by_socket() {
        return;
    }
    if connection.first_byte != 0 && may_be_dead(sk, connection) {
        turns(worker, connection, task::now);
    }
    if connection.first_byte == 0 || !connection::is_healthy(connection) {
        ask(sk, pid, worker, connection);
        // What nginx told of it just before was found by it.
        let is_checked = reply::is_last(worker, connection.request);
        if connection.first_byte == 0 && connection.request != 0 && !is_checked {
            let peer = peer_of_unset(pid, connection.nginx);
            request::by_peer(pid, worker, peer);
            if identity::of(pid, worker, peer).map(|request| request.id) != Some(connection.request)
            {
                missed(connection);
            }
        }
    } else if !log_level::logs_errors(connection) {
        // Whether nginx took it for an answer is told by the next attempt only.
        ask(sk, pid, worker, connection);
        worker.is_led_on = 1;
    }
}

/// Could a request that took it from the cache have found it dead? A socket that has an error to
/// tell is closed.
#[inline(always)]
fn may_be_dead(sk: u64, connection: &Connection) -> bool {
    connection.flags & FLAG_UNIX != 0 || sock::tcp_state(sk) == sock::state::CLOSE
}

/// nginx logs or answers something about [`Worker::main`]: one whose connection was found dead has
/// written nothing.
#[inline(always)]
pub fn told(pid: u32, worker: &mut Worker, peer: u64, request: u64) {
    let nginx = read::user::<u64>(peer.wrapping_add(PC_CONNECTION)).unwrap_or(0);
    if nginx == 0 {
        return;
    }
    let Some(sk) = read::user(nginx.wrapping_add(CONNECTION_FD)).and_then(task::socket_of) else {
        return;
    };
    let Some(connection) = maps::connection(sk) else {
        adopted(sk, pid, worker);
        return;
    };
    if connection.nginx == nginx {
        if connection.first_byte != 0 {
            turns(worker, connection, task::now);
        }
        ask_of(sk, pid, worker, connection, peer);
    }
    if connection.request != request {
        missed(connection);
    }
}

/// What is known is of an earlier connection, in whose socket's place this one is: the kernel
/// skipped the hooks that its end and this one's beginning should have met.
#[inline(always)]
fn missed(connection: &mut Connection) {
    connection.request = 0;
    connection.turn = 0;
    maps::count(counter::LOST);
}

/// The worker reads or writes a socket of which nothing is known: a unix connection that it has
/// just opened, or one from before tracer came.
#[inline(always)]
pub fn adopted(sk: u64, pid: u32, worker: &mut Worker) -> Option<&'static mut Connection> {
    if !adopt(sk, pid, worker) {
        return None;
    }
    maps::connection(sk)
}

#[apart(worker = maps::worker(pid))]
fn adopt(sk: u64, pid: u32, worker: &mut Worker) -> bool {
    let family = sock::family(sk);
    let is_unix = family == sock::AF_UNIX;
    let is_client = if is_unix {
        // accept() gives a socket its listener's address; nginx's own end of a connection has none.
        read::kernel::<u64>(sk, &OFFSETS.unix_addr).is_none_or(|address| address != 0)
            || hints::is_over(sk, sock::inode(sk))
    } else {
        !sock::is_tcp(sk) || hints::is_no_upstream(sk)
    };
    if is_client {
        return false;
    }
    let nginx = connection_of(sk);
    members::show_by_connection(pid, worker, nginx);
    let peer = if nginx == 0 { 0 } else { peer_of(pid, nginx) };
    if peer == 0 {
        if !is_unix {
            hints::set_no_upstream(sk);
        }
        return false;
    }
    let turn = turn(worker, nginx);
    attempt::begin(pid, worker, peer, Of::Another);
    attempt::has_socket(pid, worker, peer, sk, turn > 1);
    if turn > 1 {
        attempt::reused(pid, worker, peer, sk);
    } else if is_unix {
        attempt::connected_unix(pid, worker, peer, sk);
    } else {
        connection::enter(sk, pid, worker, peer, 0, 0);
    }
    worker.has_logged = 0;
    if is_unix {
        worker.has_unix = 1;
        maps::count(counter::CLOSINGS);
    }
    let Some(connection) = maps::connection(sk) else {
        return false;
    };
    connection.nginx = nginx;
    connection.turn = turn;
    if worker.reset == sk {
        connection.rst_received = worker.reset_at;
    }
    true
}

/// `c->requests`
#[inline(always)]
fn turn(worker: &Worker, connection: u64) -> u64 {
    read::user(connection.wrapping_add(worker.layout.requests)).unwrap_or(0)
}
