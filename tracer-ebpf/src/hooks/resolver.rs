//! nginx's resolver on its UDP sockets (src/core/ngx_resolver.c), seen through `sock_send_length` and
//! `sock_recv_length`: what it asked, and how it was answered.

use aya_ebpf::helpers::bpf_probe_read_user_buf;
use tracer_ebpf::abi::{ANSWERED, ASKED, DNS, Dns, FAILED};

use crate::{
    emit::{self, Urgency},
    maps::OFFSETS,
    read, sock, syscall, task,
};

const UDP: u16 = 17;
const EAGAIN: i32 = -11;
/// Of a DNS message, RFC 1035 section 4.1.1.
const HEADER: u64 = 12;

/// A step of which nothing is known yet, in read-only data.
static UNKNOWN: Dns = Dns::UNKNOWN;

/// Some socket was read.
#[inline(always)]
pub fn received(sk: u64, length: i32) {
    step(sk, length, ANSWERED);
}

/// Some socket was written.
#[inline(always)]
pub fn sent(sk: u64, length: i32) {
    step(sk, length, ASKED);
}

#[inline(always)]
fn step(sk: u64, length: i32, step: u8) {
    if length == EAGAIN
        || read::kernel::<u16>(sk, &OFFSETS.protocol).is_none_or(|protocol| protocol & 0xff != UDP)
    {
        return;
    }
    let Some((pid, _)) = task::worker() else {
        return;
    };
    let buffer = syscall::buffer();
    emit::in_place(&UNKNOWN, Urgency::Whenever, |record| {
        record.header = emit::header::<Dns>(DNS, pid, task::now());
        record.server = sock::remote(sk);
        if length < 0 {
            record.step = FAILED;
            record.errno = length.unsigned_abs();
            return;
        }
        record.step = step;
        let Some(buffer) = buffer else { return };
        if let Some(header) = read::user::<[u8; HEADER as usize]>(buffer) {
            record.id = u16::from_be_bytes([header[0], header[1]]);
            record.rcode = header[3] & 15;
            record.answers = u16::from_be_bytes([header[6], header[7]]);
        }
        // SAFETY: the helper checks the address itself.
        let read = unsafe {
            bpf_probe_read_user_buf(
                buffer.wrapping_add(HEADER) as *const u8,
                &mut record.question,
            )
        };
        if read.is_ok() {
            record.question_len = (length as u32).saturating_sub(HEADER as u32);
        }
    });
}
