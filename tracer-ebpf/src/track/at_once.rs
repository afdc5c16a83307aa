//! Attempts that fail within `ngx_event_connect_peer`: the `connect()` that fails at once, and what
//! never had a socket. nginx's log shows them; where it is too quiet, nginx's closing does.

use aya_ebpf::programs::ProbeContext;
use tracer_ebpf::abi::{FLAG_UNASKED, FLAG_UNIX, Routes, Worker, counter};

use super::attempt::{self, Of};
use crate::{
    apart::apart,
    maps,
    nginx::{
        layout::{
            CONNECTION_FD, NGX_BUSY, NGX_DECLINED, NGX_ERROR, PC_CONNECTION, PC_NAME, PC_SOCKADDR,
        },
        log_level,
        lookup::is_of_peer,
        members,
    },
    read, task,
};

/// Was the function that has just been entered called from `ngx_event_connect_peer`? Its own words
/// tell as well, as some call from code that nothing names; the resolver has the same, but its logs
/// lead to no request.
#[inline(always)]
pub fn is_connecting(ctx: &ProbeContext, worker: &Worker, text: &Text) -> bool {
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

/// The attempt fails before `ngx_event_connect_peer` returns; `peer` and `connection` are 0 where
/// there is none.
#[apart(worker = maps::worker(pid))]
pub fn fails_at_once(pid: u32, worker: &mut Worker, peer: u64, connection: u64, code: i32) {
    let logged_at = worker.start;
    // connect() had moved it to SYN_SENT and found no port: the attempt had begun, and is told as
    // this failure.
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

/// The socket of an `ngx_connection_t`.
#[inline(always)]
pub fn socket_of(connection: u64) -> Option<u64> {
    task::socket_of(read::user(connection.wrapping_add(CONNECTION_FD))?)
}

/// Places in the format of a log call, of which so much is read.
pub type Text = [u8; 24];

/// nginx logs. Gives with what code the attempt ends that this is about, if it does; [`NGX_BUSY`]:
/// there was no upstream left.
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
    if !log_level::is_logged(log) {
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

/// What a log call begins with where no socket came to be: there was no upstream left, which is
/// logged when the call has returned.
const NO_UPSTREAM: [u8; 8] = *b"no live ";
/// See [`NO_UPSTREAM`]: no connection of nginx's, logged within the call by what it calls.
const NO_CONNECTION: [u8; 8] = *b"%ui work";
/// See [`NO_UPSTREAM`]: no descriptor, logged within the call.
const NO_SOCKET: [u8; 8] = *b"socket()";
/// `connect()` itself failed.
const CONNECT: [u8; 8] = *b"connect(";
/// What follows if it names the destination: what fails later is logged as `connect() failed`.
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

/// nginx answers a request that made no attempt: was there no upstream left, and `error_log` too
/// quiet to say so? Then the balancer gives its group's name, and not a peer's.
#[inline(always)]
pub fn answered(pid: u32, worker: &mut Worker, peer: u64) {
    let member = |at: u64| read::user::<u64>(peer.wrapping_add(at)).unwrap_or(u64::MAX);
    // The peer object is known by it.
    let log = u64::from(members::known(worker).peer_log);
    let is_quiet = read::user::<u64>(member(log)).is_some_and(|level| !log_level::is_told(level));
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
