//! Which request a `ngx_peer_connection_t` stands for. nginx recycles the object, also within one millisecond; a request
//! is told from the one before by its client's connection and the how manieth it is on that.

use tracer_ebpf::abi::Worker;

use crate::{
    maps::{self, Mark, PeerKey, REQUESTS, Request},
    read, task,
};

// ngx_peer_connection_t, src/event/ngx_event_connect.h; unchanged since 1.7.10 in builds with SSL.
const PC_TRIES: u64 = 32;
const PC_START_TIME: u64 = 40;
pub const PC_LOG: u64 = 112;
// ngx_log_t, src/core/ngx_log.h.
pub const LOG_CONNECTION: u64 = 16;
pub const LOG_DATA: u64 = 40;
/// `NGX_STREAM_MODULE`, the signature every `ngx_stream_session_t` begins with (src/stream/ngx_stream.h).
pub const STREAM: u32 = 0x4d52_5453;

/// The request of an attempt that begins, and whether one of it came before.
#[inline(always)]
pub fn tried(pid: u32, worker: &Worker, peer: u64) -> (u64, bool) {
    let tries: u32 = read::user(peer.wrapping_add(PC_TRIES)).unwrap_or(0);
    let is_exact = worker.layout.requests != 0;
    let Some(request) = find(pid, worker, peer, |last| {
        // Without the exact mark: a request's tries fall, or stay after a stale kept-alive connection.
        is_exact
            || last.tried == 0
            || tries < last.tries
            || (tries == last.tries && last.reused != 0)
    }) else {
        return (0, false);
    };
    let is_retry = request.tried != 0;
    request.tries = tries;
    request.tried = 1;
    request.reused = 0;
    request.socket = 0;
    (request.id, is_retry)
}

/// The request that a peer object stands for now.
#[inline(always)]
pub fn of(pid: u32, worker: &Worker, peer: u64) -> Option<&'static mut Request> {
    find(pid, worker, peer, |_| true)
}

/// The last request that a peer object stood for.
#[inline(always)]
pub fn known(pid: u32, peer: u64) -> Option<&'static mut Request> {
    let request = REQUESTS.get_ptr_mut(&PeerKey::new(pid, peer))?;
    // SAFETY: the entry lives as long as the program runs; a worker has one thread that makes requests.
    Some(unsafe { &mut *request })
}

#[inline(always)]
fn find(
    pid: u32,
    worker: &Worker,
    peer: u64,
    is_same: impl Fn(&Request) -> bool,
) -> Option<&'static mut Request> {
    let mark = mark(worker, peer);
    let request = Request {
        id: task::now(),
        mark,
        socket: 0,
        tries: 0,
        reused: 0,
        tried: 0,
    };
    if let Some(last) = known(pid, peer) {
        if last.mark != mark || !is_same(last) {
            // nginx has a few peer objects, and recycles them: a write in place costs a fraction of an insertion.
            *last = request;
        }
        return Some(last);
    }
    maps::insert(&REQUESTS, &PeerKey::new(pid, peer), &request);
    known(pid, peer)
}

#[inline(always)]
fn mark(worker: &Worker, peer: u64) -> Mark {
    let log: u64 = read::user(peer.wrapping_add(PC_LOG)).unwrap_or(0);
    let [connection, .., context] = read_log(log).unwrap_or([0; 4]);
    let ordinal = if worker.layout.requests == 0 {
        read::user(peer.wrapping_add(PC_START_TIME)).unwrap_or(0)
    } else {
        ordinal(worker, context).unwrap_or(0)
    };
    Mark {
        connection,
        ordinal,
    }
}

/// `log->connection` to `log->data`, in one read.
#[inline(always)]
pub fn read_log(log: u64) -> Option<[u64; 4]> {
    const _: () = assert!(LOG_DATA - LOG_CONNECTION == 24);
    read::user(log.wrapping_add(LOG_CONNECTION))
}

/// How many requests the client's connection carried so far, by `log->data`; `None` where that is not known. A `stream {}`
/// session is one, on a connection of its own.
#[inline(always)]
pub fn ordinal(worker: &Worker, context: u64) -> Option<u64> {
    if worker.layout.requests == 0 {
        return None;
    }
    // ngx_http_log_ctx_t begins with it (src/http/ngx_http_request.h); a session begins with its signature.
    let connection: u64 = read::user(context)?;
    if connection as u32 == STREAM {
        return None;
    }
    read::user(connection.wrapping_add(worker.layout.requests))
}
