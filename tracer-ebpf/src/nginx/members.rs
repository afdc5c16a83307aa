//! Where members of nginx's objects lie that move between versions, forks and builds: the worker's
//! own memory shows it, at its first failure and before anything rests on it.
//!
//! A request leads to its client's connection, and that to its log. The log's `data` is the one
//! slot that points to a context, which begins with that connection and a request; `r->upstream`
//! and `pc->log` are the one pair of slots by which the upstream's peer object has that very log. A
//! session of `stream {}` is alike. What shows none, or several, is not known.

use tracer_ebpf::abi::{
    LAYOUT, LayoutShown, Members, NOT_AS_EXPECTED, SHOWN, SHOWN_BY_SESSION, Worker,
};

use crate::{
    apart::{Word, apart},
    emit::{self, Urgency},
    maps,
    nginx::layout::{
        CONNECTION_DATA, CONNECTION_LOG, HTTP, LOG_DATA, LOG_DATA_SLOTS, PC_LOG, PC_LOG_SLOTS,
        REQUEST_CONNECTION, REQUEST_UPSTREAM, SESSION_UPSTREAM, STREAM, UPSTREAM_PEER,
    },
    read, task,
};

/// Has the worker's memory show its members by this log's request or session. To be called where a
/// hook begins: what needs them lies deep in calls, of which the kernel allows eight.
#[inline(always)]
pub fn show_by_log(pid: u32, worker: &mut Worker, log: u64) {
    if !worker.layout.members.are_shown() {
        show(pid, worker, object_of(log));
    }
}

/// The same by a request or session.
#[inline(always)]
pub fn show_by(pid: u32, worker: &mut Worker, object: u64) {
    if !worker.layout.members.are_shown() {
        show(pid, worker, object);
    }
}

/// The same by a connection to an upstream: its `data` is the request or session while it serves
/// it, else its log leads there.
#[inline(always)]
pub fn show_by_connection(pid: u32, worker: &mut Worker, connection: u64) {
    if !worker.layout.members.are_shown() {
        by_connection(pid, worker, connection);
    }
}

#[apart(worker = maps::worker(pid))]
fn by_connection(pid: u32, worker: &mut Worker, connection: u64) {
    let [data] = read::user_or_zero(connection.wrapping_add(CONNECTION_DATA));
    let [log] = read::user_or_zero(connection.wrapping_add(CONNECTION_LOG));
    if !show(pid, worker, data) {
        show(pid, worker, object_of(log));
    }
}

/// The same by a peer object, one of whose members is the log.
#[inline(always)]
pub fn show_by_peer(pid: u32, worker: &mut Worker, peer: u64) {
    if !worker.layout.members.are_shown() {
        show(pid, worker, object_of_peer(peer));
    }
}

/// What its memory showed before.
#[inline(always)]
pub fn known(worker: &Worker) -> Members {
    let members = worker.layout.members;
    if members.state & (SHOWN | SHOWN_BY_SESSION) != 0 {
        members
    } else {
        Members::UNKNOWN
    }
}

/// The request or session that one of a peer object's members leads to, 0 none.
#[apart]
fn object_of_peer(peer: u64) -> u64 {
    let mut object = 0;
    for slot in 0..PC_LOG_SLOTS as u64 {
        let [member] = read::user_or_zero(peer.wrapping_add(PC_LOG + 8 * slot));
        if object == 0 {
            object = object_of(member);
        }
    }
    object
}

/// The request or session that a log leads to, 0 none.
#[apart]
fn object_of(log: u64) -> u64 {
    let mut object = 0;
    for slot in 0..LOG_DATA_SLOTS as u64 {
        let [data] = read::user_or_zero(log.wrapping_add(LOG_DATA + 8 * slot));
        object |= object_at(data, log);
    }
    object
}

/// What the `data` of a log points to: a session, or a context, whose request it gives, the
/// subrequest that is worked on where there is one: that has the upstream. 0: neither.
#[apart]
fn object_at(data: u64, log: u64) -> u64 {
    let [first, request, current] = read::user_or_zero(data);
    if first as u32 == STREAM {
        return data;
    }
    let [own] = read::user_or_zero(first.wrapping_add(CONNECTION_LOG));
    let [signature] = read::user_or_zero(current);
    let request = if signature as u32 == HTTP {
        current
    } else {
        request
    };
    let [signature] = read::user_or_zero(request);
    if own == log && signature as u32 == HTTP {
        request
    } else {
        0
    }
}

/// Has a request or session show where its members lie; `false` if it does not.
#[apart(worker = maps::worker(pid))]
fn show(pid: u32, worker: &mut Worker, object: u64) -> bool {
    let kind: u32 = read::user(object).unwrap_or(0);
    let connection: u64 = read::user(object.wrapping_add(REQUEST_CONNECTION)).unwrap_or(0);
    let log: u64 = read::user(connection.wrapping_add(CONNECTION_LOG)).unwrap_or(0);
    if log == 0 || (kind != HTTP && kind != STREAM) {
        return false;
    }
    let mut found = Members {
        log_data: log_data(kind, object, connection, log) as u16,
        ..Members::UNKNOWN
    };
    // Sums: there is one pair, or they are not used.
    let (mut pairs, mut peer_at, mut upstream_at) = (0, 0, 0);
    if kind == HTTP {
        for slot in REQUEST_UPSTREAM {
            let more = peer_log(object.wrapping_add(slot), UPSTREAM_PEER, log);
            upstream_at += (more & 0xffff) * slot;
            peer_at += more >> 32;
            pairs += more & 0xffff;
        }
        found.state = SHOWN;
    } else {
        for slot in SESSION_UPSTREAM {
            let more = peer_log(object.wrapping_add(slot), 0, log);
            peer_at += more >> 32;
            pairs += more & 0xffff;
        }
        // Of requests nothing was shown: `upstream` stays unknown.
        found.state = SHOWN_BY_SESSION;
    }
    found.peer_log = peer_at as u16;
    found.upstream = upstream_at as u16;
    let expected = worker.layout.members;
    if pairs != 1 || found.log_data == 0 {
        let slot = object.wrapping_add(u64::from(expected.upstream));
        let has_upstream =
            kind == HTTP && expected.upstream != 0 && read::user::<u64>(slot).unwrap_or(0) != 0;
        if has_upstream && expected.state & NOT_AS_EXPECTED == 0 {
            worker.layout.members.state |= NOT_AS_EXPECTED;
            tell(pid, expected, Members::UNKNOWN);
        }
        return false;
    }
    worker.layout.members = found;
    let is_as_expected = found.peer_log == expected.peer_log
        && found.log_data == expected.log_data
        && (found.upstream == expected.upstream || found.upstream == 0 || expected.upstream == 0);
    if !is_as_expected {
        tell(pid, expected, found);
    }
    true
}

/// Where `data` lies in a log, 0 if nowhere or in several places.
#[apart]
fn log_data(kind: u32, object: u64, connection: u64, log: u64) -> u64 {
    let (mut found, mut places) = (0, 0);
    for index in 0..LOG_DATA_SLOTS as u64 {
        let at = LOG_DATA + 8 * index;
        let is_it = if kind == STREAM {
            has(log.wrapping_add(at), object) & 1
        } else {
            leads_to(log.wrapping_add(at), connection) & 1
        };
        found += is_it * at;
        places += is_it;
    }
    if places == 1 { found } else { 0 }
}

/// 1: this address holds the place of a context of this connection, which goes on with a request.
#[apart]
fn leads_to(address: u64, connection: u64) -> u64 {
    let [data] = read::user_or_zero(address);
    let [first, request] = read::user_or_zero(data);
    let [signature] = read::user_or_zero(request);
    same(first, connection) & same(signature & 0xffff_ffff, u64::from(HTTP))
}

/// Whether it is a client's own request, no subrequest: the context of its connection's log names
/// it first.
#[apart]
pub fn is_main(request: u64) -> bool {
    let [connection] = read::user_or_zero(request.wrapping_add(REQUEST_CONNECTION));
    let [log] = read::user_or_zero(connection.wrapping_add(CONNECTION_LOG));
    let mut is_main = 0;
    for index in 0..LOG_DATA_SLOTS as u64 {
        let [data] = read::user_or_zero(log.wrapping_add(LOG_DATA + 8 * index));
        let [first, main] = read::user_or_zero(data);
        is_main |= same(first, connection) & same(main, request);
    }
    is_main != 0
}

/// In how many places the peer object of the upstream in this slot has the log, and, shifted by 32
/// bits, the sum of where.
#[apart]
fn peer_log(slot: u64, peer: u64, log: u64) -> u64 {
    let [upstream] = read::user_or_zero(slot);
    let mut found = 0;
    for index in 0..PC_LOG_SLOTS as u64 {
        let at = PC_LOG + 8 * index;
        let is_it = has(upstream.wrapping_add(peer + at), log) & 1;
        found += is_it * ((at << 32) + 1);
    }
    found
}

/// 1: this address holds that value. A function of its own, as each read would take its caller's
/// stack.
#[apart]
fn has(address: u64, value: u64) -> u64 {
    let [held] = read::user_or_zero(address);
    same(held, value)
}

/// 1 if they are the same, else 0, without a branch: the verifier follows each way of those to its
/// end.
#[inline(always)]
pub fn same(one: u64, other: u64) -> u64 {
    let difference = one ^ other;
    1 ^ ((difference | difference.wrapping_neg()) >> 63)
}

impl Word for Members {
    #[inline(always)]
    fn word(self) -> u64 {
        self.bits()
    }

    #[inline(always)]
    fn from_word(word: u64) -> Self {
        Self::from_bits(word)
    }
}

#[apart]
fn tell(pid: u32, expected: Members, shown: Members) {
    let record = LayoutShown {
        header: emit::header::<LayoutShown>(LAYOUT, pid, task::now()),
        expected,
        shown,
    };
    emit::record(&record, Urgency::Whenever);
}
