//! `sock_recv_length(struct sock *sk, int ret, int flags)` and `sock_send_length(…)`, since 6.5:
//! what the worker read from and wrote to an upstream, TCP and unix alike. Without them the first
//! byte's time, the upstream's own status, and the order of a close and a write are not known, nor
//! how unix connections end.
//!
//! Before 6.5: `int inet_recvmsg(struct socket *sock, struct msghdr *msg, size_t size, int flags)`
//! and `int inet_sendmsg(struct socket *sock, struct msghdr *msg, size_t size)`, and their siblings
//! of IPv6 and unix sockets, when they return. They are called by pointer: what is above them is
//! inlined, and a hook there attaches and sees nothing.

use aya_ebpf::{
    macros::{fexit, raw_tracepoint},
    programs::{FExitContext, RawTracePointContext},
};
use tracer_ebpf::abi::{
    ANSWERED, ASKED, Connection, Endpoint, FIRST_BYTE, FLAG_RETRY, FLAG_TLS_DATA, FLAG_UNASKED,
    FLAG_UNIX, FirstByte, Worker,
};

use crate::{
    apart::apart,
    constants::OFFSETS,
    emit::{self, Urgency},
    framing, hints, maps,
    nginx::{address, client, log_level, request},
    read, sock, syscall, task,
    track::{attempt, connection, join, reply, resolver, unix_end},
};

/// First bytes of TLS records (RFC 8446 section 5.1). An alert's are 7, the last of them its
/// description.
const TLS_ALERT: u8 = 0x15;
const TLS_HANDSHAKE: u8 = 0x16;
const TLS_DATA: u8 = 0x17;
/// The type of the frame that begins an answer in HTTP/2 (RFC 9113 section 6.5).
const HTTP2_SETTINGS: u8 = 4;
const MSG_PEEK: i32 = 2;
const EINTR: i32 = -4;
const EAGAIN: i32 = -11;

/// The parameters of `inet_recvmsg` and `inet_sendmsg`: what they returned follows them.
const RECVMSG_PARAMETERS: usize = 4;
const SENDMSG_PARAMETERS: usize = 3;

/// A socket was read.
#[raw_tracepoint(tracepoint = "sock_recv_length")]
pub fn received(ctx: RawTracePointContext) -> i32 {
    was_read(ctx.arg(0), ctx.arg(1), ctx.arg(2))
}

/// The same, of an IPv4 socket.
#[fexit]
pub fn received_exit(ctx: FExitContext) -> i32 {
    read_ends(&ctx)
}

/// The same, of an IPv6 socket.
#[fexit]
pub fn received_exit6(ctx: FExitContext) -> i32 {
    read_ends(&ctx)
}

/// The same, of a unix socket.
#[fexit]
pub fn received_exit_unix(ctx: FExitContext) -> i32 {
    read_ends(&ctx)
}

#[inline(always)]
fn read_ends(ctx: &FExitContext) -> i32 {
    match read::kernel(ctx.arg(0), &OFFSETS.socket_sk) {
        Some(sk) => was_read(sk, ctx.arg(RECVMSG_PARAMETERS), ctx.arg(3)),
        None => 0,
    }
}

#[inline(always)]
fn was_read(sk: u64, length: i32, flags: i32) -> i32 {
    let Some((pid, worker)) = task::worker() else {
        unix_end::used(sk);
        return 0;
    };
    let mut known = connection(sk, pid);
    if worker.layout.is_by_socket() {
        join::transferred(worker);
        if known.is_none() {
            if hints::is_no_upstream(sk) {
                return 0;
            }
            if sock::protocol(sk) == Some(sock::UNIX) {
                known = join::adopted(sk, pid, worker);
            }
        }
    }
    let Some(connection) = known else {
        of_another(sk, length, ANSWERED);
        return 0;
    };
    if worker.layout.is_by_socket() {
        join::read(sk, pid, worker, connection);
    }
    if is_resolver(connection) {
        resolver::over_tcp(sk, connection, length, ANSWERED);
    }
    if length <= 0 {
        ended(sk, connection, length, flags);
        return 0;
    }
    connection.last_received = task::now();
    if flags & MSG_PEEK == 0 {
        connection.read = connection.read.saturating_add(length as u32);
        // Of TCP the socket's own count replaces it; a unix socket keeps none.
        connection.bytes_received = connection.bytes_received.wrapping_add(length as u64);
    }
    if connection.first_byte != 0 {
        connection.response = connection.response.saturating_add(length as u32);
        return 0;
    }
    connection.response = length as u32;
    if connection.first_received != 0 && in_handshake(connection) {
        return 0;
    }
    head(connection, length);
    if connection.first_byte == 0 {
        return 0;
    }
    join::leads_on(sk, pid, worker, connection);
    // A retry's success, and an answer that nginx passes on, have no other sign while the
    // connection is kept alive.
    let is_error = matches!(connection.status, 502 | 504) || may_pass_to_itself(sk, connection);
    if connection.flags & FLAG_RETRY != 0 || is_error {
        first_byte(sk, pid, worker, connection);
    }
    0
}

#[apart(worker = maps::worker(pid), connection = maps::connection(sk))]
fn first_byte(sk: u64, pid: u32, worker: &mut Worker, connection: &mut Connection) {
    if maps::is_told(connection.request) {
        request::by_peer(pid, worker, connection.peer);
        let request = worker.main.by;
        if connection.flags & FLAG_RETRY != 0 || connection.status != 500 {
            reply::watch_request(pid, worker, connection.request);
        } else if !came_by(worker, &connection.remote) {
            return;
        }
        emit::in_place(&UNKNOWN, Urgency::Whenever, |record| {
            record.header =
                emit::header::<FirstByte>(FIRST_BYTE, connection.header.pid, connection.first_byte);
            record.socket = sk;
            record.request = connection.request;
            record.start = connection.start;
            record.status = connection.status;
            record.address_len =
                address::of_peer(connection.peer, &mut record.address).unwrap_or(0);
            if connection.flags & FLAG_UNIX == 0 {
                record.local = sock::local(sk);
            }
            if request != 0 {
                client::of_request(pid, worker, request, &mut record.client);
            }
        });
    }
}

/// Whether it is a 500 from an address of this host. The upstream may be nginx itself, which has no
/// connection left.
#[inline(always)]
fn may_pass_to_itself(sk: u64, connection: &Connection) -> bool {
    connection.status == 500
        && connection.flags & FLAG_UNIX == 0
        && sock::local(sk).address == connection.remote.address
}

/// Did the client of [`Worker::main`] connect to this address?
#[inline(always)]
fn came_by(worker: &mut Worker, address: &Endpoint) -> bool {
    request::socket(&mut worker.main).is_some_and(|client| sock::local(client) == *address)
}

/// A socket was written.
#[raw_tracepoint(tracepoint = "sock_send_length")]
pub fn sent(ctx: RawTracePointContext) -> i32 {
    was_written(ctx.arg(0), ctx.arg(1))
}

/// The same, of an IPv4 socket.
#[fexit]
pub fn sent_exit(ctx: FExitContext) -> i32 {
    write_ends(&ctx)
}

/// The same, of an IPv6 socket.
#[fexit]
pub fn sent_exit6(ctx: FExitContext) -> i32 {
    write_ends(&ctx)
}

/// The same, of a unix socket.
#[fexit]
pub fn sent_exit_unix(ctx: FExitContext) -> i32 {
    write_ends(&ctx)
}

#[inline(always)]
fn write_ends(ctx: &FExitContext) -> i32 {
    match read::kernel(ctx.arg(0), &OFFSETS.socket_sk) {
        Some(sk) => was_written(sk, ctx.arg(SENDMSG_PARAMETERS)),
        None => 0,
    }
}

#[inline(always)]
fn was_written(sk: u64, length: i32) -> i32 {
    let Some((pid, worker)) = task::worker() else {
        unix_end::used(sk);
        return 0;
    };
    let is_by_socket = worker.layout.is_by_socket();
    let mut known = connection(sk, pid);
    if is_by_socket {
        join::transferred(worker);
        if known.is_none() {
            if hints::is_no_upstream(sk) {
                if worker.watched != 0 {
                    reply::sent(sk, pid, worker);
                }
                return 0;
            }
            known = join::adopted(sk, pid, worker);
        }
    }
    let Some(connection) = known else {
        if worker.watched == 0 || !reply::sent(sk, pid, worker) {
            of_another(sk, length, ASKED);
        }
        return 0;
    };
    let now = task::now();
    if is_by_socket {
        join::written(sk, pid, worker, connection, now);
    }
    if is_resolver(connection) {
        resolver::over_tcp(sk, connection, length, ASKED);
    }
    if length < 0 {
        failed(connection, length);
        return 0;
    }
    connection.last_sent = now;
    connection.bytes_sent = connection.bytes_sent.wrapping_add(length as u64);
    let heard = connection.first_byte
        | connection.end_read
        | u64::from(connection.first_received)
        | u64::from(connection.transfer_error);
    if heard == 0 {
        let asked = u32::from(connection.asked).saturating_add(length as u32);
        connection.asked = asked.min(u16::MAX.into()) as u16;
    }
    if connection.first_sent == 0 {
        connection.first_sent = syscall::written::<u8>().unwrap_or(0);
    } else if connection.first_sent == TLS_HANDSHAKE
        && connection.flags & FLAG_TLS_DATA == 0
        && syscall::written::<u8>() == Some(TLS_DATA)
    {
        if in_handshake(connection) {
            connection.first_received = 0;
            connection.alert = 0;
        }
        connection.flags |= FLAG_TLS_DATA;
    }
    0
}

/// nginx's own TLS handshake: its bytes are no response. `stream {}` counts no requests, and its
/// TLS may be a client's.
#[inline(always)]
fn in_handshake(connection: &Connection) -> bool {
    connection.turn != 0
        && connection.first_sent == TLS_HANDSHAKE
        && connection.flags & FLAG_TLS_DATA == 0
}

/// Whether it is known to serve no request.
#[inline(always)]
fn is_resolver(connection: &Connection) -> bool {
    connection.peer == 0 && connection.flags & FLAG_UNASKED == 0
}

/// The current worker's upstream connection that the socket is.
#[inline(always)]
fn connection(sk: u64, pid: u32) -> Option<&'static mut Connection> {
    let connection = maps::connection(sk)?;
    if attempt::is_still(sk, pid, connection) {
        return Some(connection);
    }
    maps::remove_connection(sk);
    None
}

/// Some socket of a worker's that is no end of nginx's of a connection to an upstream.
#[inline(always)]
fn of_another(sk: u64, length: i32, step: u8) {
    match sock::protocol(sk) {
        Some(sock::UDP) => resolver::over_udp(sk, length, step),
        Some(sock::UNIX) => unix_end::used(sk),
        _ => {}
    }
}

/// A first byte of which nothing is known yet, in read-only data.
static UNKNOWN: FirstByte = FirstByte::UNKNOWN;

/// `recv()` gave 0 or an error. A unix socket has no later event.
#[inline(always)]
fn ended(sk: u64, connection: &mut Connection, length: i32, flags: i32) {
    if length == EAGAIN || length == EINTR {
        return;
    }
    if length == 0 {
        connection.end_read = task::now();
    } else {
        failed(connection, length);
    }
    // A look at an idle kept-alive connection is after the response. nginx logs a failed read also
    // where all had come.
    if flags & MSG_PEEK == 0
        && connection.status != 0
        && connection.response != u32::MAX
        && (length < 0 || !log_level::logs_errors(connection))
    {
        framing::compare(sock::family(sk), connection);
    }
    if connection.flags & FLAG_UNIX != 0 {
        connection::finish(sk, connection);
        hints::set_over(sk, sock::inode(sk));
    }
}

#[inline(always)]
fn failed(connection: &mut Connection, length: i32) {
    if length != EAGAIN && length != EINTR {
        connection.transfer_error = length.unsigned_abs();
        connection.transfer_error_at = task::now();
    }
}

/// The first byte of a response, the alert of a TLS record, and the status. What is TLS's own
/// begins no response.
#[inline(always)]
fn head(connection: &mut Connection, length: i32) {
    if !in_handshake(connection) {
        connection.first_byte = connection.last_received;
    }
    let Some(at) = syscall::buffer() else {
        return;
    };
    connection.head_at = at;
    // At once as far as any of them needs it: each read of its own costs as much as all.
    let mut start = [0; HEAD];
    if length >= HEAD as i32
        && let Some(whole) = read::user::<[u8; HEAD]>(at)
    {
        start = whole;
    } else if length >= SHORT_HEAD as i32
        && let Some(begin) = read::user::<[u8; SHORT_HEAD]>(at)
    {
        start[..SHORT_HEAD].copy_from_slice(&begin);
    } else if let Some(begin) = read::user::<[u8; ALERT]>(at) {
        start[..ALERT].copy_from_slice(&begin);
    } else if let Some(first) = read::user::<u8>(at) {
        start[0] = first;
    }
    // What a SETTINGS frame begins with says nothing: its length, mostly 0.
    connection.first_received = match (start[0], start[3]) {
        (0, HTTP2_SETTINGS) => HTTP2_SETTINGS,
        (first, _) => first,
    };
    if start[0] == TLS_ALERT && start[4] == PLAIN_LENGTH && length >= ALERT as i32 {
        connection.alert = 0x100 | u16::from(start[6]);
    }
    connection.status = status(&start, length).unwrap_or(0);
    // What nginx writes begins so in TLS only.
    if matches!(connection.first_sent, TLS_HANDSHAKE | TLS_DATA) && is_alert(&start, length) {
        connection.first_byte = 0;
    }
}

/// A read that is an alert, a close_notify mostly. In TLS 1.3 that looks like data, but for its
/// length.
#[inline(always)]
fn is_alert(start: &[u8; HEAD], length: i32) -> bool {
    start[0] == TLS_ALERT || (start[0] == TLS_DATA && length == ENCRYPTED_ALERT)
}

/// A TLS record's header and an alert.
const ALERT: usize = 7;
/// The low byte of the length of an alert that is not encrypted.
const PLAIN_LENGTH: u8 = 2;
/// In TLS 1.3: the header, the alert's two bytes, its type and a tag of 16 bytes (RFC 8446 section
/// 5.2).
const ENCRYPTED_ALERT: i32 = 24;
/// `HTTP/1.x NNN` and `Status: NNN`.
const SHORT_HEAD: usize = 12;
/// `Status: NNN` after a FastCGI record's header.
const HEAD: usize = 19;

/// The status in `HTTP/1.x NNN`, and in the `Status: NNN` of SCGI, uwsgi and FastCGI (after a
/// record's header: version 1, type 6), where nginx's read begins with it.
#[inline(always)]
fn status(start: &[u8; HEAD], length: i32) -> Option<u16> {
    if length < SHORT_HEAD as i32 {
        return None;
    }
    if start[..7] == *b"HTTP/1." {
        return number([start[9], start[10], start[11]]);
    }
    if start[..8] == *b"Status: " {
        return number([start[8], start[9], start[10]]);
    }
    if length < HEAD as i32 || start[..2] != [1, 6] || start[8..16] != *b"Status: " {
        return None;
    }
    number([start[16], start[17], start[18]])
}

#[inline(always)]
fn number(digits: [u8; 3]) -> Option<u16> {
    let mut number = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number * 10 + u16::from(digit - b'0');
    }
    Some(number)
}
