//! Attempts seen by their sockets: no breakpoint stands on the way of a healthy request.
//!
//! A new connection is seen as it moves to `SYN_SENT` (a unix one at its first write or read), a kept-alive one at the
//! first write of its next request. The socket leads to nginx's own connection by way of epoll, that to the request.
//! The `connect()` that failed at once shows where nginx logs it, as does what never had a socket. Where its log is too quiet,
//! `void ngx_close_connection(ngx_connection_t *c)` (src/core/ngx_connection.c) shows it: nothing else calls that from within
//! `ngx_event_connect_peer`. It is also all that shows the end of a unix connection. Without these the entry and the return of
//! `ngx_event_connect_peer` show the same, at a breakpoint each.

use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use tracer_ebpf::abi::{Connection, FLAG_UNASKED, FLAG_UNIX, Routes, Worker, counter};

use crate::{
    apart::apart,
    constants::OFFSETS,
    hints,
    hooks::{
        attempt::{self, Of},
        reply, request, state,
    },
    identity,
    lead::{connection_of, holds, is_of_peer, peer_of, peer_of_log, peer_of_unset},
    links, main_request, maps,
    nginx::{
        layout::{
            CONNECTION_FD, CONNECTION_LOG, LOG_LEVEL, NGX_BUSY, NGX_DECLINED, NGX_ERROR,
            PC_CONNECTION, PC_NAME, PC_SOCKADDR,
        },
        members,
    },
    read, sock, stack, task,
};

/// A worker's socket moved to `SYN_SENT` and was entered: an attempt of a request begins, unless it is the resolver's.
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

/// The worker read or wrote some socket: what routing said before belongs to no `connect()` to come. One that failed is
/// logged first, perhaps to a syslog server.
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

/// The worker writes to an upstream. After a response this may be the next request's. Which one's is asked when it matters,
/// or when some request of the worker's is looking for another upstream.
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

/// Has another request taken the connection? Gives the how manieth request on it that is.
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
        // While it serves the request; before it is connected, and as it is being closed, its `data` is another's.
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

/// A response begins whose status nginx may not take for an answer (`proxy_next_upstream http_503` and the like), or that could
/// not be read: the next attempt may be the same request's.
#[inline(always)]
pub fn leads_on(sk: u64, pid: u32, worker: &mut Worker, connection: &mut Connection) {
    if worker.layout.is_by_socket() && !matches!(connection.status, 100..=402 | 405..=428) {
        ask(sk, pid, worker, connection);
        worker.is_led_on = 1;
    }
}

/// The worker closes a connection to an upstream: if its next request found it dead there was no write. nginx has freed
/// its connection, of which the log stays.
#[inline(always)]
pub fn closes(sk: u64, pid: u32, worker: &mut Worker, connection: &mut Connection) {
    if connection.nginx == 0 || !worker.layout.is_by_socket() {
        return;
    }
    if connection.first_byte != 0 && may_be_dead(sk, connection) {
        turns(worker, connection, task::now);
    }
    if connection.first_byte == 0 || !state::is_healthy(connection) {
        ask(sk, pid, worker, connection);
        // What nginx told of it just before was found by it.
        let is_checked = reply::is_last(worker, connection.request);
        if connection.first_byte == 0 && connection.request != 0 && !is_checked {
            let peer = peer_of_unset(pid, connection.nginx);
            main_request::by_peer(pid, worker, peer);
            if identity::of(pid, worker, peer).map(|request| request.id) != Some(connection.request)
            {
                missed(connection);
            }
        }
    } else if !request::logs_errors(connection) {
        // Whether nginx took it for an answer is told by the next attempt only.
        ask(sk, pid, worker, connection);
        worker.is_led_on = 1;
    }
}

/// Could a request that took it from the cache have found it dead? A socket that has an error to tell is closed.
#[inline(always)]
fn may_be_dead(sk: u64, connection: &Connection) -> bool {
    connection.flags & FLAG_UNIX != 0 || sock::tcp_state(sk) == sock::state::CLOSE
}

/// nginx logs or answers something about [`Worker::main`]: one whose connection was found dead has written nothing.
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

/// What is known is of an earlier connection, in whose socket's place this one is: the kernel skipped the hooks that its end and
/// this one's beginning should have met.
#[inline(always)]
fn missed(connection: &mut Connection) {
    connection.request = 0;
    connection.turn = 0;
    maps::count(counter::LOST);
}

/// The worker reads or writes a socket of which nothing is known: a unix connection that it has just opened, or one from
/// before tracer came.
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
        state::enter(sk, pid, worker, peer, 0, 0);
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

/// nginx closes a connection: one that it never told of, for its log is too quiet, or a unix one.
#[uprobe]
pub fn closed_at_once(ctx: ProbeContext) -> u32 {
    stack::of_task();
    if !links::counts(&ctx) {
        return 0;
    }
    let (Some((pid, worker)), Some(connection)) = (task::worker(), ctx.arg::<u64>(0)) else {
        return 0;
    };
    if is_connecting(&ctx, worker, &[0; size_of::<Text>()]) {
        let log = read::user(connection.wrapping_add(CONNECTION_LOG)).unwrap_or(0);
        members::show_by_log(pid, worker, log);
        if !is_logged(log) {
            // connect() is called when the peer object has its connection; what fails before it ends the request.
            let peer = peer_of_log(pid, log, |_| true);
            let code = if peer != 0 && holds(peer, connection) {
                NGX_DECLINED
            } else {
                NGX_ERROR
            };
            fails_at_once(pid, worker, peer, connection, code);
        }
    } else if worker.has_unix != 0
        && let Some(sk) = socket_of(connection)
    {
        unix_ends(sk);
    }
    0
}

/// Does nginx say what fails where this log is the one to say it to?
#[inline(always)]
fn is_logged(log: u64) -> bool {
    read::user::<u64>(log.wrapping_add(LOG_LEVEL)).is_some_and(request::is_told)
}

/// The socket of an `ngx_connection_t`.
#[inline(always)]
fn socket_of(connection: u64) -> Option<u64> {
    task::socket_of(read::user(connection.wrapping_add(CONNECTION_FD))?)
}

/// The attempt fails before `ngx_event_connect_peer` returns; `peer` and `connection` are 0 where there is none.
#[apart(worker = maps::worker(pid))]
fn fails_at_once(pid: u32, worker: &mut Worker, peer: u64, connection: u64, code: i32) {
    let logged_at = worker.start;
    // connect() had moved it to SYN_SENT and found no port: the attempt had begun, and is told as this failure.
    let sk = socket_of(connection).unwrap_or(0);
    let opened = maps::connection(sk).filter(|opened| opened.flags & FLAG_UNIX == 0);
    let asked = opened
        .as_ref()
        .filter(|opened| opened.flags & FLAG_UNASKED == 0);
    if let Some(asked) = asked {
        worker.request = asked.request;
    } else if peer != 0 {
        attempt::begin(pid, worker, peer, Of::Another);
    }
    worker.socket = 0;
    if let Some(opened) = opened {
        worker.socket = sk;
        worker.start = opened.start;
        worker.routes = opened.routes;
        maps::remove_connection(sk);
    } else if worker.has_logged != 0 {
        worker.start = logged_at;
    }
    if peer != 0 {
        attempt::failed(pid, worker, peer, code);
    }
    forget(worker);
}

/// nginx closes a unix connection to an upstream; another may have the socket's place at once.
#[inline(always)]
fn unix_ends(sk: u64) {
    if let Some(connection) = maps::connection(sk)
        && connection.flags & FLAG_UNIX != 0
    {
        state::finish(sk, connection);
    }
}

/// Places in the format of a log call, of which so much is read.
pub type Text = [u8; 24];

/// nginx logs. Gives with what code the attempt ends that this is about, if it does; [`NGX_BUSY`]: there was no upstream left.
#[inline(always)]
pub fn logs(
    ctx: &ProbeContext,
    worker: &mut Worker,
    log: u64,
    errno: u32,
    text: &Text,
) -> Option<i32> {
    if !worker.layout.is_by_socket() {
        return None;
    }
    if begins(text, NO_UPSTREAM) {
        return Some(NGX_BUSY);
    }
    let has_none = begins(text, NO_CONNECTION);
    if !has_none && !is_connecting(ctx, worker, text) {
        return None;
    }
    worker.start = task::now();
    worker.has_logged = 1;
    worker.logged_errno = errno;
    if has_none || begins(text, NO_SOCKET) {
        return Some(NGX_ERROR);
    }
    // Where the log lets only worse through the closing tells of them all.
    if !is_logged(log) {
        return None;
    }
    if begins(text, CONNECT) {
        return Some(NGX_DECLINED);
    }
    let is_option = begins(text, OPTION) && !KEPT.contains(&option(text));
    let ends = is_option || ENDS.iter().any(|start| begins(text, *start));
    ends.then_some(NGX_ERROR)
}

/// The attempt that nginx has just logged ends with this code.
#[inline(always)]
pub fn ends(pid: u32, worker: &mut Worker, peer: u64, code: i32) {
    // What fails before connect() is not the peer object's yet.
    let connection = match code {
        NGX_DECLINED => read::user(peer.wrapping_add(PC_CONNECTION)).unwrap_or(0),
        _ => 0,
    };
    fails_at_once(pid, worker, peer, connection, code);
}

#[inline(always)]
fn begins(text: &Text, start: [u8; 8]) -> bool {
    text.first_chunk() == Some(&start)
}

/// Of which option a `setsockopt()` failed.
#[inline(always)]
fn option(text: &Text) -> [u8; 8] {
    let mut name = [0; 8];
    name.copy_from_slice(&text[11..19]);
    name
}

/// What a log call begins with where no socket came to be: there was no upstream left, which is logged when the call
/// has returned.
const NO_UPSTREAM: [u8; 8] = *b"no live ";
/// See [`NO_UPSTREAM`]: no connection of nginx's, logged within the call by what it calls.
const NO_CONNECTION: [u8; 8] = *b"%ui work";
/// See [`NO_UPSTREAM`]: no descriptor, logged within the call.
const NO_SOCKET: [u8; 8] = *b"socket()";
/// `connect()` itself failed.
const CONNECT: [u8; 8] = *b"connect(";
/// What follows if it tells to where: what fails later is told as `connect() failed`.
const TO: [u8; 4] = *b") to";
/// What else ends an attempt: the socket can not be made what it should be.
const ENDS: [[u8; 8]; 2] = [*b"bind(%V)", *b"ioctl(FI"];
/// An option can not be set: so does that,
const OPTION: [u8; 8] = *b"setsocko";
/// but for `SO_KEEPALIVE` and `IP_BIND_ADDRESS_NO_PORT`, which nginx does without.
const KEPT: [[u8; 8]; 2] = [*b"SO_KEEPA", *b"IP_BIND_"];

/// An attempt failed without a socket, with this errno.
#[inline(always)]
pub fn failed(pid: u32, worker: &mut Worker, peer: u64, code: i32, errno: u32) {
    let logged_at = worker.start;
    attempt::begin(pid, worker, peer, Of::Another);
    if code != NGX_BUSY {
        worker.start = logged_at;
    }
    worker.has_logged = 1;
    worker.logged_errno = errno;
    attempt::failed(pid, worker, peer, code);
    forget(worker);
}

/// nginx answers a request that made no attempt: was there no upstream left, and `error_log` too quiet to say so? Then the
/// balancer gives its group's name, and not a peer's.
#[inline(always)]
pub fn answered(pid: u32, worker: &mut Worker, peer: u64) {
    let member = |at: u64| read::user::<u64>(peer.wrapping_add(at)).unwrap_or(u64::MAX);
    // The peer object is known by it.
    let log = u64::from(members::known(worker).peer_log);
    let is_quiet = read::user::<u64>(member(log)).is_some_and(|level| !request::is_told(level));
    let name = member(PC_NAME);
    let is_group = name != 0 && name != u64::MAX && !is_of_peer(name);
    if is_quiet {
        maps::count(counter::CLOSINGS);
    }
    if is_quiet && is_group && member(PC_CONNECTION) == 0 && member(PC_SOCKADDR) == 0 {
        failed(pid, worker, peer, NGX_BUSY, 0);
    }
}

#[inline(always)]
fn forget(worker: &mut Worker) {
    worker.has_logged = 0;
    worker.logged_errno = 0;
    worker.routes = Routes::default();
    worker.socket = 0;
}

/// Was the function that has just been entered called from `ngx_event_connect_peer`? Its own words tell as well, as some call
/// from code that nothing names; the resolver has the same, but its logs lead to no request.
#[inline(always)]
fn is_connecting(ctx: &ProbeContext, worker: &Worker, text: &Text) -> bool {
    if !worker.layout.is_by_socket() {
        return false;
    }
    // SAFETY: the registers are the context.
    #[cfg(bpf_target_arch = "x86_64")]
    let caller = read::user::<u64>(unsafe { (*ctx.regs).rsp }).unwrap_or(0);
    #[cfg(not(bpf_target_arch = "x86_64"))]
    let caller =
        read::kernel_at::<u64>((ctx.regs as *const u64).wrapping_add(30) as u64).unwrap_or(0);
    let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = *text;
    let start = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
    let more = u32::from_ne_bytes([i, j, k, l]);
    is_called_by_connect(worker.pid, caller, start, more)
}

/// Apart: the verifier would follow each of its ways through all that comes behind.
#[apart]
fn is_called_by_connect(pid: u32, caller: u64, start: u64, more: u32) -> bool {
    let says = start.to_ne_bytes() == CONNECT && more.to_ne_bytes() == TO;
    let is_within = || maps::worker(pid).is_some_and(|worker| worker.layout.is_connecting(caller));
    says || is_within()
}

/// `c->requests`
#[inline(always)]
fn turn(worker: &Worker, connection: u64) -> u64 {
    read::user(connection.wrapping_add(worker.layout.requests)).unwrap_or(0)
}
