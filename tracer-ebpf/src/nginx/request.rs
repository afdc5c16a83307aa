//! Which request of a client's a hook is about, read once, into its worker's [`Worker::main`].
//! Whatever it is found by, a request, its log, or its peer object, it is the same client's.

use tracer_ebpf::abi::{Main, Members, Worker};

use super::{
    identity::{self, Context},
    layout::{
        CONNECTION_FD, CONNECTION_LOG, CONNECTION_REQUESTS, HTTP, REQUEST_CONNECTION, UPSTREAM_PEER,
    },
    members,
};
use crate::{apart::apart, maps, read, task};

/// By a request or a subrequest.
#[apart(worker = maps::worker(pid))]
pub fn by_request(pid: u32, worker: &mut Worker, request: u64) {
    if !is_still(worker, request) {
        worker.main = Main::NONE;
        let members = members::known(worker);
        if enter(worker, members, request) {
            let log = read::user(worker.main.nginx.wrapping_add(CONNECTION_LOG)).unwrap_or(0);
            worker.main.connection = identity::number(log).unwrap_or(0);
            client(worker, Context::of_log(members, log));
        }
    }
}

/// By a log. Gives the `stream {}` session that it belongs to, 0 if it is none's.
#[apart(worker = maps::worker(pid))]
pub fn by_log(pid: u32, worker: &mut Worker, log: u64) -> u64 {
    worker.main = Main::NONE;
    worker.main.connection = identity::number(log).unwrap_or(0);
    let members = members::known(worker);
    let Some(context) = Context::of_log(members, log) else {
        return 0;
    };
    if context.is_session() {
        return context.session();
    }
    let [main, current] = context.requests();
    if enter(worker, members, current) || enter(worker, members, main) {
        client(worker, Some(context));
    }
    0
}

/// By a peer object.
#[inline(always)]
pub fn by_peer(pid: u32, worker: &mut Worker, peer: u64) {
    let member = members::known(worker).peer_log;
    if member != 0
        && let Some(log) = read::user(peer.wrapping_add(member.into()))
    {
        by_log(pid, worker, log);
    } else {
        worker.main = Main::NONE;
    }
}

/// Whether it is a request.
#[inline(always)]
fn enter(worker: &mut Worker, members: Members, request: u64) -> bool {
    let Some(connection) = connection(request) else {
        return false;
    };
    worker.main.request = request;
    worker.main.by = request;
    worker.main.nginx = connection;
    worker.main.upstream = upstream(members, request);
    true
}

/// Was it the last one asked for? What fails is logged, then answered, then written.
#[inline(always)]
fn is_still(worker: &mut Worker, request: u64) -> bool {
    let main = worker.main;
    if main.by != request || main.life[CONNECTION_REQUESTS] == 0 {
        return false;
    }
    let members = worker.layout.members;
    if !members.are_shown()
        || connection(request) != Some(main.nginx)
        || life(worker, main.nginx) != main.life
    {
        return false;
    }
    worker.main.upstream = upstream(members, request);
    true
}

/// The client's connection of a request, if it is one.
#[inline(always)]
fn connection(request: u64) -> Option<u64> {
    const CONNECTION: usize = REQUEST_CONNECTION as usize / 8;
    let members = read::user::<[u64; CONNECTION + 1]>(request)?;
    (members[0] as u32 == HTTP).then_some(members[CONNECTION])
}

/// `r->upstream`; 0 where it is not known.
#[inline(always)]
fn upstream(members: Members, request: u64) -> u64 {
    match members.upstream {
        0 => 0,
        upstream => read::user(request.wrapping_add(upstream.into())).unwrap_or(0),
    }
}

/// See [`Main::life`].
#[inline(always)]
fn life(worker: &Worker, connection: u64) -> [u64; 3] {
    match worker.layout.requests {
        0 => [0; 3],
        requests => read::user(connection.wrapping_add(requests - 8 * CONNECTION_REQUESTS as u64))
            .unwrap_or_default(),
    }
}

/// The client's own request, and its ordinal.
#[inline(always)]
fn client(worker: &mut Worker, context: Option<Context>) {
    let mut connection = worker.main.nginx;
    if let Some(context) = context {
        let [main, _] = context.requests();
        if main != 0 && main != worker.main.by && read::user(main) == Some(HTTP) {
            worker.main.request = main;
        }
        connection = context.connection();
    }
    worker.main.life = life(worker, connection);
    worker.main.ordinal = worker.main.life[CONNECTION_REQUESTS];
}

/// The peer object of the request that it was found by, 0 if there is none.
#[inline(always)]
pub fn peer(main: &Main) -> u64 {
    match main.upstream {
        0 => 0,
        upstream => upstream.wrapping_add(UPSTREAM_PEER),
    }
}

/// Its client's socket.
#[inline(always)]
pub fn socket(main: &mut Main) -> Option<u64> {
    if main.socket == 0 {
        main.socket = task::socket_of(read::user(main.nginx.wrapping_add(CONNECTION_FD))?)?;
    }
    Some(main.socket)
}
