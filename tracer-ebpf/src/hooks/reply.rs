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
        request::{CONNECTION_LOG, HTTP, REQUEST_CONNECTION, request_of},
    },
    identity::{self, Context, LOG_DATA, PC_LOG},
    maps::{self, WATCHED_REQUESTS},
    read, task,
};

/// An attempt failed: watches the request that its peer object belongs to.
#[inline(always)]
pub fn watch_peer(pid: u32, worker: &mut Worker, peer: u64, failed: u64) {
    let request = request_of_peer(peer);
    if request != 0 {
        watch_request(pid, worker, request, failed);
    }
}

/// The same by the request. An answer that has begun is told at once.
#[inline(always)]
pub fn watch_request(pid: u32, worker: &mut Worker, request: u64, failed: u64) {
    watch(pid, worker, request, failed, false);
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
    let main = Main::of(worker, request);
    let watched = Watched {
        request: main.request,
        connection: main.connection,
        ordinal: main.ordinal,
        failed,
        worker: pid.into(),
    };
    let status = status(worker, main.request);
    if status != 0 && !(is_answer && main.request == request) {
        if !is_answer {
            tell(&watched, status, 1);
        }
        return status;
    }
    let Some(sk) = main.socket() else {
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

/// Is it the request that was watched last, and still is?
#[inline(always)]
pub fn is_last(worker: &Worker, request: u64) -> bool {
    request != 0 && worker.last_watched == request
}

/// Does the peer object belong to a client's request that is watched: after a failure with another one?
#[inline(always)]
pub fn is_watched(worker: &Worker, peer: u64) -> bool {
    let request = request_of_peer(peer);
    if request == 0 {
        return false;
    }
    let main = Main::of(worker, request);
    let Some(client) = main.socket().and_then(maps::client) else {
        return false;
    };
    client.iter().any(|slot| slot.request == main.request)
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
    let Some(client) = maps::client(sk) else {
        return false;
    };
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
fn is_recycled(worker: &Worker, watched: &Watched) -> bool {
    let now = Main::of(worker, watched.request);
    !now.is_request || now.connection != watched.connection || now.ordinal != watched.ordinal
}

/// The client's own request (`r->main`), and its connection. What can not be read is 0.
pub struct Main {
    /// `ngx_http_request_t *`
    pub request: u64,
    /// `log->connection`, the connection's number.
    pub connection: u64,
    /// The how manieth request on its connection it is.
    ordinal: u64,
    nginx: u64,
    /// What it was asked by is a request.
    is_request: bool,
}

impl Main {
    /// By a request or a subrequest, as its connection's log has it.
    #[inline(always)]
    pub fn of(worker: &Worker, request: u64) -> Self {
        const _: () = assert!(REQUEST_CONNECTION == 8);
        let [signature, nginx] = read::user::<[u64; 2]>(request).unwrap_or_default();
        let log: u64 = read::user(nginx.wrapping_add(CONNECTION_LOG)).unwrap_or(0);
        let [connection, .., context] = identity::read_log(log).unwrap_or_default();
        let (main, ordinal) = Context::at(context).map_or((0, 0), |context| {
            (context.requests()[0], context.ordinal(worker))
        });
        let is_main = main == request || (main != 0 && read::user(main) == Some(HTTP));
        Self {
            request: if is_main { main } else { request },
            connection,
            ordinal,
            nginx,
            is_request: signature as u32 == HTTP,
        }
    }

    /// Its client's socket.
    #[inline(always)]
    pub fn socket(&self) -> Option<u64> {
        task::socket_of(read::user(self.nginx.wrapping_add(CONNECTION_FD))?)
    }
}

/// The request that a peer object belongs to, 0 none.
#[inline(always)]
pub fn request_of_peer(peer: u64) -> u64 {
    read::user::<u64>(peer.wrapping_add(PC_LOG))
        .and_then(|log| read::user(log.wrapping_add(LOG_DATA)))
        .and_then(Context::at)
        .map_or(0, |context| request_of(&context))
}
