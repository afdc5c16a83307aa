//! What the client of a request really gets, where an attempt of it failed: an error page, a named location, a cache
//! or a retry may take the failure's place. `r->headers_out.status` is read when nginx next writes to that client, by
//! `sock_send_length` (since 6.5): healthy requests are not watched. Without it the status is the one with which nginx
//! began its error answer.
//!
//! A request's memory is recycled: a watched one is left if it is another one of its client's connection, or another's.

use tracer_ebpf::abi::{REPLY, Reply, WATCHED, Watched, Worker};

use crate::{
    apart,
    emit::{self, Urgency},
    hooks::{
        attempt::CONNECTION_FD,
        request::{CONNECTION_LOG, CONTEXT_REQUEST, HTTP, REQUEST_CONNECTION, request_of},
    },
    identity::{self, LOG_CONNECTION, LOG_DATA, PC_LOG},
    maps::{self, CLIENTS, WATCHED_REQUESTS},
    read, task,
};

/// An attempt failed: watches the request that its peer object belongs to. An answer that has begun is told at once.
#[inline(always)]
pub fn watch_peer(pid: u32, worker: &mut Worker, peer: u64, failed: u64) {
    let request = request_of_peer(peer);
    if request != 0 {
        watch(pid, worker, request, failed, false);
    }
}

/// nginx makes an error answer to a request or subrequest: watches the client's request that it belongs to. Gives its
/// status if it was answered already, [`WATCHED`] if its answer will be told, or 0.
#[inline(always)]
pub fn watch_answer(pid: u32, worker: &mut Worker, request: u64, failed: u64) -> u16 {
    watch(pid, worker, request, failed, true)
}

#[inline(always)]
fn watch(pid: u32, worker: &mut Worker, request: u64, failed: u64, is_answer: bool) -> u16 {
    apart::call(worker, &mut (), || {
        tracer_watch(pid, request, failed, is_answer.into())
    }) as u16
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracer_watch(pid: u32, request: u64, failed: u64, is_answer: u32) -> u64 {
    maps::worker(pid).map_or(0, |worker| {
        watched(pid, worker, request, failed, is_answer != 0).into()
    })
}

#[inline(always)]
fn watched(pid: u32, worker: &mut Worker, request: u64, failed: u64, is_answer: bool) -> u16 {
    if worker.layout.status == 0 {
        return 0;
    }
    let (main, connection) = main(request);
    let watched = Watched {
        request: main,
        connection,
        ordinal: ordinal(worker, main),
        failed,
        worker: pid.into(),
    };
    let status = status(worker, main);
    if status != 0 && !(is_answer && main == request) {
        if !is_answer {
            tell(&watched, status, 1);
        }
        return status;
    }
    let Some(sk) = client_socket(request) else {
        worker.is_led_on = 1;
        return 0;
    };
    if CLIENTS.get_ptr(&sk).is_none() {
        let _ = CLIENTS.insert(&sk, &NOBODY, 0);
    }
    let Some(client) = CLIENTS.get_ptr_mut(&sk) else {
        return 0;
    };
    // SAFETY: the entry lives as long as the program runs.
    let client = unsafe { &mut *client };
    let mut free = WATCHED_REQUESTS;
    for (index, slot) in client.iter().enumerate() {
        if slot.request == main {
            free = index;
            break;
        }
        if slot.request == 0 {
            free = index;
        }
    }
    let Some(slot) = client.get_mut(free) else {
        worker.is_led_on = 1;
        return 0;
    };
    if slot.request == 0 {
        worker.watched = worker.watched.saturating_add(1);
    }
    *slot = watched;
    WATCHED
}

/// A client with no watched request, in read-only data.
static NOBODY: [Watched; WATCHED_REQUESTS] = [Watched::NONE; WATCHED_REQUESTS];

/// Does the peer object belong to a client's request that is watched: after a failure with another one?
#[inline(always)]
pub fn is_watched(peer: u64) -> bool {
    let request = request_of_peer(peer);
    if request == 0 {
        return false;
    }
    let (main, _) = main(request);
    let Some(client) = client_socket(request).and_then(|sk| CLIENTS.get_ptr(&sk)) else {
        return false;
    };
    // SAFETY: as above.
    let client = unsafe { &*client };
    client.iter().any(|slot| slot.request == main)
}

/// A socket of the worker's was written: is it a watched client's?
#[inline(always)]
pub fn sent(sk: u64, pid: u32, worker: &mut Worker) -> bool {
    apart::call(worker, &mut (), || tracer_replied(sk, pid)) != 0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracer_replied(sk: u64, pid: u32) -> u64 {
    maps::worker(pid).map_or(0, |worker| replied(sk, worker).into())
}

#[inline(always)]
fn replied(sk: u64, worker: &mut Worker) -> bool {
    let Some(client) = CLIENTS.get_ptr_mut(&sk) else {
        return false;
    };
    // SAFETY: as above.
    let client = unsafe { &mut *client };
    let mut waiting = false;
    for slot in client {
        if slot.request == 0 {
            continue;
        }
        let status = if is_recycled(worker, slot) {
            0
        } else {
            let status = status(worker, slot.request);
            if status == 0 {
                waiting = true;
                continue;
            }
            status
        };
        tell(slot, status, 0);
        slot.request = 0;
        worker.watched = worker.watched.saturating_sub(1);
    }
    if !waiting {
        let _ = CLIENTS.remove(&sk);
    }
    true
}

/// A socket's last moment: a client that is watched gets nothing any more.
#[inline(always)]
pub fn gone(sk: u64) {
    let Some(client) = CLIENTS.get_ptr_mut(&sk) else {
        return;
    };
    // SAFETY: as above.
    for slot in unsafe { &mut *client } {
        if slot.request == 0 {
            continue;
        }
        tell(slot, 0, 0);
        if let Some(worker) = maps::worker(slot.worker as u32) {
            worker.watched = worker.watched.saturating_sub(1);
        }
    }
    let _ = CLIENTS.remove(&sk);
}

#[inline(always)]
fn tell(watched: &Watched, status: u16, is_earlier: u16) {
    let record = Reply {
        header: emit::header::<Reply>(REPLY, watched.worker as u32, task::now()),
        request: watched.request,
        connection: watched.connection,
        failed: watched.failed,
        status,
        is_earlier,
        padding: [0; 2],
    };
    emit::record(&record, Urgency::Whenever);
}

/// `r->headers_out.status`, 0 before it has one.
#[inline(always)]
fn status(worker: &Worker, request: u64) -> u16 {
    read::user::<u64>(request.wrapping_add(worker.layout.status)).unwrap_or(0) as u16
}

#[inline(always)]
fn is_recycled(worker: &Worker, watched: &Watched) -> bool {
    if read::user::<u32>(watched.request) != Some(HTTP) {
        return true;
    }
    let (_, connection) = main(watched.request);
    connection != watched.connection || ordinal(worker, watched.request) != watched.ordinal
}

/// The how manieth request on its client's connection it is, 0 unknown.
#[inline(always)]
fn ordinal(worker: &Worker, request: u64) -> u64 {
    log(request)
        .and_then(|log| identity::requests(worker, log))
        .unwrap_or(0)
}

/// The client's own request, and the number of its connection.
#[inline(always)]
pub fn main(request: u64) -> (u64, u64) {
    let Some(log) = log(request) else {
        return (request, 0);
    };
    let connection = read::user(log.wrapping_add(LOG_CONNECTION)).unwrap_or(0);
    let main = read::user::<u64>(log.wrapping_add(LOG_DATA))
        .and_then(|context| read::user::<u64>(context.wrapping_add(CONTEXT_REQUEST)));
    match main {
        Some(main) if main != 0 && read::user::<u32>(main) == Some(HTTP) => (main, connection),
        _ => (request, connection),
    }
}

/// `r->connection->log`
#[inline(always)]
fn log(request: u64) -> Option<u64> {
    let connection: u64 = read::user(request.wrapping_add(REQUEST_CONNECTION))?;
    read::user(connection.wrapping_add(CONNECTION_LOG))
}

#[inline(always)]
fn request_of_peer(peer: u64) -> u64 {
    match read::user::<u64>(peer.wrapping_add(PC_LOG)) {
        Some(log) if log != 0 => request_of(log),
        _ => 0,
    }
}

#[inline(always)]
fn client_socket(request: u64) -> Option<u64> {
    let connection: u64 = read::user(request.wrapping_add(REQUEST_CONNECTION))?;
    task::socket_of(read::user(connection.wrapping_add(CONNECTION_FD))?)
}
