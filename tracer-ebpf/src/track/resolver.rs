//! nginx's resolver on its UDP and TCP sockets (src/core/ngx_resolver.c), seen through
//! `sock_send_length` and `sock_recv_length`: what it asked, and how it was answered.

use aya_ebpf::helpers::bpf_probe_read_user_buf;
use tracer_ebpf::abi::{ANSWERED, Connection, DNS, Dns, FAILED, IS_ANSWER};

use crate::{
    apart::apart,
    emit::{self, Urgency},
    maps, read, sock, syscall, task,
};

const EINTR: i32 = -4;
const EAGAIN: i32 = -11;
/// Of a DNS message, RFC 1035 section 4.1.1.
const HEADER: u32 = 12;
/// Before each message over TCP: its length (RFC 1035 section 4.2.2).
const PREFIX: u32 = 2;
/// Messages looked at in one read or write over TCP: nginx asks for both families at once.
const MESSAGES: u32 = 8;

/// A step of which nothing is known yet, in read-only data.
static UNKNOWN: Dns = Dns::UNKNOWN;

/// Some UDP socket was read from or written to.
#[apart]
pub fn over_udp(sk: u64, length: i32, step: u8) {
    let Some((pid, _)) = task::worker() else {
        return;
    };
    if length < 0 {
        failed(sk, pid, length, 0);
    } else if let Some(buffer) = syscall::buffer() {
        message(sk, buffer, length as u32, step, 0);
    }
}

/// A connection that no attempt at an upstream made was read from or written to: the resolver's,
/// which turns to TCP for what is too long for UDP.
#[apart(connection = maps::connection(sk))]
pub fn over_tcp(sk: u64, connection: &mut Connection, length: i32, step: u8) {
    let pid = connection.header.pid;
    if length < 0 {
        failed(sk, pid, length, 1);
        return;
    }
    let Some(buffer) = syscall::buffer() else {
        return;
    };
    // ngx_resolver_tcp_read() keeps a message that is not whole yet at the beginning of its buffer,
    // and reads on behind it.
    let before = if step == ANSWERED {
        u32::from(connection.pending)
    } else {
        0
    };
    let mut at = buffer.wrapping_sub(u64::from(before));
    let mut left = (length as u32).wrapping_add(before);
    for _ in 0..MESSAGES {
        let Some(prefix) = read::user::<[u8; PREFIX as usize]>(at) else {
            return;
        };
        let len = u32::from(u16::from_be_bytes(prefix));
        if left < PREFIX || left - PREFIX < len {
            break;
        }
        at = at.wrapping_add(u64::from(PREFIX));
        message(sk, at, len, step, 1);
        at = at.wrapping_add(u64::from(len));
        left -= PREFIX + len;
    }
    if step == ANSWERED {
        connection.pending = left as u16;
    }
}

/// A DNS message, if it looks like one: a worker has other datagrams too (QUIC, syslog).
#[apart]
fn message(sk: u64, buffer: u64, length: u32, step: u8, tcp: u8) {
    let Some(header) = read::user::<[u8; HEADER as usize]>(buffer) else {
        return;
    };
    let flags = u16::from_be_bytes([header[2], header[3]]);
    let questions = u16::from_be_bytes([header[4], header[5]]);
    let fits = (flags & IS_ANSWER != 0) == (step == ANSWERED) && questions <= 1;
    if length < HEADER || !fits {
        return;
    }
    emit::in_place(&UNKNOWN, Urgency::Whenever, |record| {
        record.header = emit::header::<Dns>(DNS, task::pid(), task::now());
        record.server = sock::remote(sk);
        record.step = step;
        record.tcp = tcp;
        record.id = u16::from_be_bytes([header[0], header[1]]);
        record.flags = flags;
        record.answers = u16::from_be_bytes([header[6], header[7]]);
        let question = buffer.wrapping_add(u64::from(HEADER)) as *const u8;
        // SAFETY: the helper checks the address itself.
        if unsafe { bpf_probe_read_user_buf(question, &mut record.question) }.is_ok() {
            record.question_len = length - HEADER;
        }
    });
}

#[inline(always)]
fn failed(sk: u64, pid: u32, length: i32, tcp: u8) {
    if length == EAGAIN || length == EINTR {
        return;
    }
    emit::in_place(&UNKNOWN, Urgency::Whenever, |record| {
        record.header = emit::header::<Dns>(DNS, pid, task::now());
        record.server = sock::remote(sk);
        record.step = FAILED;
        record.tcp = tcp;
        record.errno = length.unsigned_abs();
    });
}
