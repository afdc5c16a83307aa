//! Which request a `ngx_peer_connection_t` represents. nginx recycles the object, also within one
//! millisecond; a request is distinguished from the one before by its client's
//! connection and its ordinal on that.

use tracer_ebpf::abi::{Members, Worker, shedding};

use super::layout::{
    self, CONTEXT_CONNECTION, CONTEXT_CURRENT, CONTEXT_MEMBERS, CONTEXT_REQUEST, LOG_CONNECTION,
    PC_START_TIME, STREAM,
};
use crate::{
    maps::{self, Mark, PeerKey, REQUESTS, Request},
    read, task,
};

/// The request of an attempt that begins, and whether one of it came before. The peer object is one
/// of [`Worker::main`].
#[inline(always)]
pub fn tried(pid: u32, worker: &mut Worker, peer: u64) -> (u64, bool) {
    let tries: u32 =
        read::user(peer.wrapping_add(layout::tries(worker.layout.members))).unwrap_or(0);
    let is_exact = worker.layout.requests != 0;
    let Some(request) = find(pid, worker, peer, |last| {
        // Without the exact mark: a request's tries fall, or stay after a stale kept-alive
        // connection.
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

/// The request that a peer object of [`Worker::main`] stands for now.
#[inline(always)]
pub fn of(pid: u32, worker: &mut Worker, peer: u64) -> Option<&'static mut Request> {
    find(pid, worker, peer, |_| true)
}

/// The last request of a peer object.
#[inline(always)]
pub fn known(pid: u32, peer: u64) -> Option<&'static mut Request> {
    let request = REQUESTS.get_ptr_mut(&PeerKey::new(pid, peer))?;
    // SAFETY: the entry lives as long as the program runs; a worker has one thread that makes
    // requests.
    Some(unsafe { &mut *request })
}

#[inline(always)]
fn find(
    pid: u32,
    worker: &mut Worker,
    peer: u64,
    is_same: impl Fn(&Request) -> bool,
) -> Option<&'static mut Request> {
    let mark = mark(worker, peer);
    if known(pid, peer).is_none() {
        // From read-only data: the stack of what calls this is nearly full.
        maps::insert(&REQUESTS, &PeerKey::new(pid, peer), &NEVER);
    }
    let request = known(pid, peer)?;
    if request.id == 0 || request.mark != mark || !is_same(request) {
        // nginx has a few peer objects, and recycles them: a write in place costs a fraction of an
        // insertion.
        request.id = new_id(worker);
        request.mark = mark;
        request.socket = 0;
        request.tries = 0;
        request.reused = 0;
        request.tried = 0;
    }
    Some(request)
}

/// No request yet.
static NEVER: Request = Request {
    id: 0,
    mark: Mark {
        connection: 0,
        ordinal: 0,
    },
    socket: 0,
    tries: 0,
    reused: 0,
    tried: 0,
};

/// A new request identifier: the time, its last bit saying whether the request is reported
/// whatever the sample.
#[inline(always)]
pub fn new_id(worker: &mut Worker) -> u64 {
    let now = task::now();
    let granted = if maps::grant(worker, now) {
        shedding::GRANTED
    } else {
        0
    };
    now & !shedding::GRANTED | granted
}

/// What distinguishes the request of a peer object of [`Worker::main`] from those before.
#[inline(always)]
pub fn mark(worker: &Worker, peer: u64) -> Mark {
    let ordinal = if worker.layout.requests == 0 {
        let start_time = layout::tries(worker.layout.members) + PC_START_TIME;
        read::user(peer.wrapping_add(start_time)).unwrap_or(0)
    } else {
        worker.main.ordinal
    };
    Mark {
        connection: worker.main.connection,
        ordinal,
    }
}

// Members of nginx's objects that are needed together are read at once: a read costs the same
// whatever its size.

/// The number of the connection that a log is of.
#[inline(always)]
pub fn number(log: u64) -> Option<u64> {
    read::user(log.wrapping_add(LOG_CONNECTION))
}

/// What the `data` of a log points to: an `ngx_http_log_ctx_t` has the client's connection, its
/// request, and the request or subrequest that is worked on; a `stream {}` session begins with its
/// signature.
pub struct Context {
    at: u64,
    members: [u64; CONTEXT_MEMBERS],
}

impl Context {
    #[inline(always)]
    pub fn at(data: u64) -> Option<Self> {
        let members = read::user(data)?;
        Some(Self { at: data, members })
    }

    /// The one that a log leads to.
    #[inline(always)]
    pub fn of_log(members: Members, log: u64) -> Option<Self> {
        match members.log_data {
            0 => None,
            data => Self::at(read::user(log.wrapping_add(data.into()))?),
        }
    }

    /// Where it lies, if it is one.
    #[inline(always)]
    pub fn session(&self) -> u64 {
        self.at
    }

    #[inline(always)]
    pub fn is_session(&self) -> bool {
        self.members[0] as u32 == STREAM
    }

    /// The client's request, and the one that is worked on; they may be anything.
    #[inline(always)]
    pub fn requests(&self) -> [u64; 2] {
        [self.members[CONTEXT_REQUEST], self.members[CONTEXT_CURRENT]]
    }

    /// The client's connection, if it is one of a request's.
    #[inline(always)]
    pub fn connection(&self) -> u64 {
        self.members[CONTEXT_CONNECTION]
    }
}
