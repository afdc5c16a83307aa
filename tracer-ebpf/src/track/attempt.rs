//! The attempts of a request: what begins, has a socket, serves or fails.

use tracer_ebpf::abi::{
    Connection, FAILURE, FLAG_BROKE_OFF, FLAG_LOGS_ERRORS, FLAG_MEASURED, FLAG_RETRY, FLAG_UNIX,
    FLAG_WHOLE, Failure, RETRY, Retry, Worker, counter,
};

use super::{connection, reply, unix_end};
use crate::{
    apart::apart,
    emit::{self, Urgency},
    maps::{self, BACKENDS, FAMILY},
    nginx::{
        address, identity,
        layout::{NGX_BUSY, PC_SOCKADDR, PC_SOCKLEN},
        request,
    },
    read, sock, task,
};

// See `Worker::is_retry`.
const RETRIED: u32 = 1;
const LED_ON: u32 = 2;

/// Whose peer object is it?
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// That is to be read.
    Another,
    /// The request's that [`Worker::main`] was found by.
    Main,
}

/// An attempt of a request begins: which request's, and did one come before?
#[inline(always)]
pub fn begin(pid: u32, worker: &mut Worker, peer: u64, of: Of) {
    if of == Of::Another {
        request::by_peer(pid, worker, peer);
    }
    begun(pid, worker, peer);
}

#[apart(worker = maps::worker(pid))]
fn begun(pid: u32, worker: &mut Worker, peer: u64) {
    worker.start = task::now();
    worker.is_led_on = 0;
    let (request, is_retry) = identity::tried(pid, worker, peer);
    worker.request = request;
    worker.is_retry = if is_retry {
        RETRIED
    } else if worker.watched != 0 && (reply::is_last(worker, request) || reply::is_watched(worker))
    {
        LED_ON
    } else {
        0
    };
}

/// The attempt that has begun has a socket (0: it can not be found).
#[inline(always)]
pub fn has_socket(pid: u32, worker: &Worker, peer: u64, sk: u64, is_reused: bool) {
    if let Some(request) = identity::known(pid, peer) {
        request.socket = sk;
        request.reused = u16::from(is_reused);
    }
    if worker.is_retry == RETRIED && sk != 0 && maps::is_told(worker.request) {
        let record = Retry {
            header: emit::header::<Retry>(RETRY, pid, worker.start),
            request: worker.request,
        };
        emit::record(&record, Urgency::Whenever);
    }
}

/// Enters a unix socket.
#[inline(always)]
pub fn connected_unix(pid: u32, worker: &Worker, peer: u64, sk: u64) {
    connection::enter(sk, pid, worker, peer, worker.start, FLAG_UNIX);
    unix_end::watch(sk);
    if let Some(connection) = maps::connection(sk) {
        let listener = sock::peer_pid(sk);
        connection.established = task::now();
        connection.listener_pid = listener;
        keep_ends(connection, sk, peer);
        let _ = BACKENDS.insert(&listener, &FAMILY, 0);
    }
}

/// Where a unix connection leads: `pc->sockaddr` lies in nginx's configuration, and is taken from
/// `pc` at the request's end, before its answer.
#[inline(always)]
fn keep_ends(connection: &mut Connection, sk: u64, peer: u64) {
    if connection.flags & FLAG_UNIX != 0 {
        connection.upstream_end = unix_end::other_end(sk);
        connection.address = read::user(peer.wrapping_add(PC_SOCKADDR)).unwrap_or(0);
        connection.address_len = read::user(peer.wrapping_add(PC_SOCKLEN)).unwrap_or(0);
        connection.inode = sock::inode(sk) as u32;
    }
}

/// Whether the socket is the one that was entered: the worker's, and a unix one with the same
/// inode. Its end may have been reported nowhere, or the kernel skipped what should have seen it;
/// then another has its place.
#[inline(always)]
pub fn is_still(sk: u64, pid: u32, connection: &Connection) -> bool {
    pid == connection.header.pid
        && (connection.flags & FLAG_UNIX == 0 || sock::inode(sk) as u32 == connection.inode)
}

/// A kept-alive connection serves another request.
#[inline(always)]
pub fn reused(pid: u32, worker: &Worker, peer: u64, sk: u64) {
    if sk == 0 {
        return;
    }
    let is_known = maps::connection(sk).is_some_and(|connection| is_still(sk, pid, connection));
    if !is_known {
        let flag = if sock::family(sk) == sock::AF_UNIX {
            FLAG_UNIX
        } else {
            0
        };
        connection::enter(sk, pid, worker, peer, 0, flag);
        if flag == FLAG_UNIX {
            unix_end::watch(sk);
        }
    }
    let Some(connection) = maps::connection(sk) else {
        return;
    };
    reuse(connection, task::now());
    serves(connection, worker, peer, sk);
}

/// A kept-alive connection begins anew.
#[inline(always)]
pub fn reuse(connection: &mut Connection, now: u64) {
    if connection.last_received != 0 {
        connection.idle = now.saturating_sub(connection.last_received);
    }
    connection.reuses += 1;
    connection.reused_at = now;
    connection.first_byte = 0;
    connection.first_received = 0;
    connection.alert = 0;
    connection.asked = 0;
    connection.last_sent = 0;
    connection.end_read = 0;
    connection.transfer_error = 0;
    connection.transfer_error_at = 0;
    connection.status = 0;
    connection.flags &=
        !(FLAG_RETRY | FLAG_BROKE_OFF | FLAG_WHOLE | FLAG_MEASURED | FLAG_LOGS_ERRORS);
}

/// Which request it serves.
#[inline(always)]
pub fn serves(connection: &mut Connection, worker: &Worker, peer: u64, sk: u64) {
    keep_ends(connection, sk, peer);
    connection.peer = peer;
    connection.request = worker.request;
    connection.flags |= retry_flag(worker);
}

/// Does nginx close the socket before `ngx_event_connect_peer` returned? `connect()` had moved it
/// to `SYN_SENT` and found no port.
#[inline(always)]
pub fn fails_at_once(sk: u64) -> bool {
    task::worker().is_some_and(|(_, worker)| worker.peer != 0 && worker.socket == sk)
}

/// [`FLAG_RETRY`] if an attempt of this request came before.
#[inline(always)]
pub fn retry_flag(worker: &Worker) -> u16 {
    if worker.is_retry == 0 { 0 } else { FLAG_RETRY }
}

/// A failure of which nothing is known yet, in read-only data.
static UNKNOWN: Failure = Failure::UNKNOWN;

#[inline(always)]
pub fn failed(pid: u32, worker: &mut Worker, peer: u64, code: i32) {
    let request = worker.request;
    if !maps::is_told(request) {
        maps::count(counter::UNTOLD);
        return;
    }
    reply::watch_peer(pid, worker, peer, request);
    emit::in_place(&UNKNOWN, Urgency::Soon, |record| {
        record.header = emit::header::<Failure>(FAILURE, pid, task::now());
        record.start = worker.start;
        record.request = worker.request;
        record.code = code;
        record.errno = match (code, worker.has_logged) {
            // No system call failed: the thread's errno is an older one's.
            (NGX_BUSY, _) => 0,
            (_, 0) => task::errno(worker),
            _ => worker.logged_errno,
        };
        record.routes = worker.routes;
        record.syn_sent = u8::from(worker.socket != 0);
        if let Some(source) = address::source(worker, peer) {
            record.source = source;
        }
        if code == NGX_BUSY {
            record.address_len = address::name(peer, &mut record.address).unwrap_or(0);
        } else if let Some(len) = address::of_peer(peer, &mut record.address) {
            record.has_address = 1;
            record.address_len = len;
        }
    });
}
