//! Where members of nginx's objects lie that move between versions, forks and builds: the worker's own memory shows it, at its
//! first failure and before anything rests on it.
//!
//! A request leads to its client's connection, and that to its log. The log's `data` is the one slot that points to a context,
//! which begins with that connection and a request; `r->upstream` and `pc->log` are the one pair of slots by which the upstream's
//! peer object has that very log. A session of `stream {}` is alike. What shows none, or several, is not known.

use tracer_ebpf::abi::{
    LAYOUT, LayoutShown, Members, NOT_AS_EXPECTED, SHOWN, SHOWN_BY_SESSION, Worker,
};

use crate::{
    emit::{self, Urgency},
    hooks::request::{CONNECTION_LOG, HTTP, REQUEST_CONNECTION, UPSTREAM_PEER},
    identity::STREAM,
    lead::SESSION_UPSTREAM,
    maps, read, task,
};

/// Where `data` may lie in an `ngx_log_t`.
const DATA: u64 = 24;
const DATA_SLOTS: usize = 5;
/// Where `log` may lie in an `ngx_peer_connection_t`.
const LOG: u64 = 80;
const LOG_SLOTS: usize = 11;
/// Where `upstream` may lie in an `ngx_http_request_t`.
const UPSTREAM: [u64; 3] = [56, 64, 72];

/// A worker's members, as its memory showed them or shows them now by this log's request or session; what it does not show is 0.
#[inline(always)]
pub fn of_log(pid: u32, worker: &Worker, log: u64) -> Members {
    let members = worker.layout.members;
    if members.are_shown() {
        return members;
    }
    Members::from_bits(tracer_layout_of_log(pid, log))
}

/// The same by a request or session.
#[inline(always)]
pub fn of_object(pid: u32, worker: &Worker, object: u64) -> Members {
    let members = worker.layout.members;
    if members.are_shown() {
        return members;
    }
    Members::from_bits(tracer_layout_of(pid, object))
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

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracer_layout_of_log(pid: u32, log: u64) -> u64 {
    let slots: [u64; DATA_SLOTS] = read::user(log.wrapping_add(DATA)).unwrap_or_default();
    for data in slots {
        let Some([first, request]) = read::user::<[u64; 2]>(data) else {
            continue;
        };
        if first as u32 == STREAM {
            return tracer_layout_of(pid, data);
        }
        if read::user(first.wrapping_add(CONNECTION_LOG)) == Some(log)
            && read::user(request) == Some(HTTP)
        {
            return tracer_layout_of(pid, request);
        }
    }
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracer_layout_of(pid: u32, object: u64) -> u64 {
    let Some(worker) = maps::worker(pid) else {
        return 0;
    };
    let kind: u32 = read::user(object).unwrap_or(0);
    let connection: u64 = read::user(object.wrapping_add(REQUEST_CONNECTION)).unwrap_or(0);
    let log: u64 = read::user(connection.wrapping_add(CONNECTION_LOG)).unwrap_or(0);
    if log == 0 || (kind != HTTP && kind != STREAM) {
        return 0;
    }
    let mut found = Members {
        log_data: log_data(kind, object, connection, log),
        ..Members::UNKNOWN
    };
    let mut pairs = 0;
    if kind == HTTP {
        for slot in UPSTREAM {
            let (at, more) = peer_log(object.wrapping_add(slot), UPSTREAM_PEER, log);
            if more != 0 {
                found.upstream = slot as u16;
                found.peer_log = at;
            }
            pairs += more;
        }
        found.state = SHOWN;
    } else {
        for slot in SESSION_UPSTREAM {
            let (at, more) = peer_log(object.wrapping_add(slot), 0, log);
            if more != 0 {
                found.peer_log = at;
            }
            pairs += more;
        }
        // Of requests nothing was shown.
        found.upstream = worker.layout.members.upstream;
        found.state = SHOWN_BY_SESSION;
    }
    let expected = worker.layout.members;
    if pairs != 1 || found.log_data == 0 {
        let slot = object.wrapping_add(u64::from(expected.upstream));
        let has_upstream =
            kind == HTTP && expected.upstream != 0 && read::user::<u64>(slot).unwrap_or(0) != 0;
        if has_upstream && expected.state & NOT_AS_EXPECTED == 0 {
            worker.layout.members.state |= NOT_AS_EXPECTED;
            tell(pid, expected, Members::UNKNOWN);
        }
        // A request that has no upstream shows where its log leads all the same.
        found = Members {
            log_data: found.log_data,
            ..Members::UNKNOWN
        };
        return found.bits();
    }
    let is_new = !(expected.state & SHOWN_BY_SESSION != 0 && found.state == SHOWN_BY_SESSION);
    worker.layout.members = found;
    if !found.are_at(expected) && is_new {
        tell(pid, expected, found);
    }
    found.bits()
}

/// Where `data` lies in a log, 0 if nowhere or in several places.
#[inline(always)]
fn log_data(kind: u32, object: u64, connection: u64, log: u64) -> u16 {
    let slots: [u64; DATA_SLOTS] = read::user(log.wrapping_add(DATA)).unwrap_or_default();
    let (mut at, mut places) = (0, 0);
    for (index, data) in slots.into_iter().enumerate() {
        let is_it = if kind == STREAM {
            data == object
        } else {
            read::user::<[u64; 2]>(data).is_some_and(|[first, request]| {
                first == connection && read::user(request) == Some(HTTP)
            })
        };
        if is_it {
            at = DATA as u16 + 8 * index as u16;
            places += 1;
        }
    }
    if places == 1 { at } else { 0 }
}

/// Where the peer object of the upstream in this slot has the log, and in how many places.
#[inline(always)]
fn peer_log(slot: u64, peer: u64, log: u64) -> (u16, u32) {
    let upstream: u64 = read::user(slot).unwrap_or(0);
    if upstream == 0 {
        return (0, 0);
    }
    let members: [u64; LOG_SLOTS] =
        read::user(upstream.wrapping_add(peer + LOG)).unwrap_or_default();
    let (mut at, mut places) = (0, 0);
    for (index, member) in members.into_iter().enumerate() {
        if member == log {
            at = LOG as u16 + 8 * index as u16;
            places += 1;
        }
    }
    (at, places)
}

#[inline(always)]
fn tell(pid: u32, expected: Members, shown: Members) {
    let record = LayoutShown {
        header: emit::header::<LayoutShown>(LAYOUT, pid, task::now()),
        expected,
        shown,
    };
    emit::record(&record, Urgency::Whenever);
}
