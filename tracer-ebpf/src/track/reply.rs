//! What the client of a request really gets, where an attempt of it failed: an error page, a named
//! location, a cache or a retry may take the failure's place. `r->headers_out.status` is read when
//! nginx next writes to that client, by `sock_send_length` (since 6.5): healthy requests are not
//! watched. Without it the status is the one with which nginx began its error answer.
//!
//! A request's memory is recycled: a watched one is left if it is another one of its client's
//! connection, or another's.

use tracer_ebpf::abi::{REPLY, Reply, WATCHED, Watched, Worker};

use crate::{
    apart::apart,
    emit::{self, Urgency},
    maps::{self, WATCHED_REQUESTS},
    nginx::request,
    read, task,
};

/// An attempt failed: watches the request that its peer object belongs to.
#[inline(always)]
pub fn watch_peer(pid: u32, worker: &mut Worker, peer: u64, failed: u64) {
    request::by_peer(pid, worker, peer);
    watch_request(pid, worker, failed);
}

/// The same of [`Worker::main`]. An answer that has begun is reported at once.
#[inline(always)]
pub fn watch_request(pid: u32, worker: &mut Worker, failed: u64) {
    if worker.main.by != 0 {
        watch(pid, worker, failed, false);
    }
}

/// nginx makes an error answer to the request or subrequest that [`Worker::main`] was found by:
/// watches the client's. Returns its status if it was answered already, [`WATCHED`] if its answer
/// will be reported, or 0.
#[inline(always)]
pub fn watch_answer(pid: u32, worker: &mut Worker, failed: u64) -> u16 {
    watch(pid, worker, failed, true)
}

#[apart(worker = maps::worker(pid))]
fn watch(pid: u32, worker: &mut Worker, failed: u64, is_answer: bool) -> u16 {
    if worker.layout.status == 0 {
        return 0;
    }
    let main = worker.main;
    let watched = Watched {
        request: main.request,
        connection: main.connection,
        ordinal: main.ordinal,
        failed,
        worker: pid.into(),
    };
    let status = status(worker, main.request);
    if status != 0 && !(is_answer && main.request == main.by) {
        if !is_answer {
            tell(&watched, status, 1);
        }
        return status;
    }
    let Some(sk) = request::socket(&mut worker.main) else {
        worker.is_led_on = 1;
        return 0;
    };
    if maps::client(sk).is_none() {
        maps::add_client(sk);
    }
    let Some(client) = maps::client(sk) else {
        return 0;
    };
    let mut free = WATCHED_REQUESTS;
    for (index, slot) in client.iter().enumerate() {
        if slot.request == main.request {
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
    worker.last_watched = failed;
    WATCHED
}

/// Whether it is the request that was watched last, and still is.
#[inline(always)]
pub fn is_last(worker: &Worker, request: u64) -> bool {
    request != 0 && worker.last_watched == request
}

/// Is [`Worker::main`] watched: after a failure with another peer object?
#[inline(always)]
pub fn is_watched(worker: &mut Worker) -> bool {
    let request = worker.main.request;
    if request == 0 {
        return false;
    }
    let Some(client) = request::socket(&mut worker.main).and_then(maps::client) else {
        return false;
    };
    client.iter().any(|slot| slot.request == request)
}

/// A socket of the worker's was written: is it a watched client's?
#[apart(worker = maps::worker(pid))]
pub fn sent(sk: u64, pid: u32, worker: &mut Worker) -> bool {
    let Some(client) = maps::client(sk) else {
        return false;
    };
    let mut waiting = false;
    for slot in client {
        if slot.request == 0 {
            continue;
        }
        let status = if is_recycled(pid, worker, slot) {
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
        worker.last_watched = 0;
        worker.watched = worker.watched.saturating_sub(1);
    }
    if !waiting {
        maps::remove_client(sk);
    }
    true
}

/// A socket's last moment: a client that is watched gets nothing any more.
#[inline(always)]
pub fn gone(sk: u64) {
    let Some(client) = maps::client(sk) else {
        return;
    };
    for slot in client {
        if slot.request == 0 {
            continue;
        }
        tell(slot, 0, 0);
        if let Some(worker) = maps::worker(slot.worker as u32) {
            worker.watched = worker.watched.saturating_sub(1);
            worker.last_watched = 0;
        }
    }
    maps::remove_client(sk);
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
fn is_recycled(pid: u32, worker: &mut Worker, watched: &Watched) -> bool {
    request::by_request(pid, worker, watched.request);
    let now = &worker.main;
    now.by == 0 || now.connection != watched.connection || now.ordinal != watched.ordinal
}
