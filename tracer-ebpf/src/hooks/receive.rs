//! `sock_recv_length(struct sock *sk, int ret, int flags)`, since 6.5: what the worker read from an upstream, TCP and
//! unix alike. Without it the first byte's time and the upstream's own status are not known.

use aya_ebpf::{
    bindings::pt_regs,
    helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use tracer_ebpf::abi::{Connection, FIRST_BYTE, FLAG_RETRY, FirstByte};

use crate::{
    emit::{self, Urgency},
    hooks::attempt,
    maps::CONNECTIONS,
    read, task,
};

/// A socket was read.
#[btf_tracepoint(function = "sock_recv_length")]
pub fn received(ctx: BtfTracePointContext) -> i32 {
    let length: i32 = ctx.arg(1);
    if length <= 0 {
        return 0;
    }
    let sk: u64 = ctx.arg(0);
    let Some(connection) = CONNECTIONS.get_ptr_mut(&sk) else {
        return 0;
    };
    // SAFETY: the entry lives as long as the program runs.
    let connection: &mut Connection = unsafe { &mut *connection };
    if connection.first_byte != 0 {
        return 0;
    }
    connection.first_byte = task::now();
    if length >= 12 {
        connection.status = status_line();
    }
    if connection.flags & FLAG_RETRY != 0 {
        emit::in_place(&UNKNOWN, Urgency::Whenever, |record| {
            record.header =
                emit::header::<FirstByte>(FIRST_BYTE, connection.header.pid, connection.first_byte);
            record.socket = sk;
            record.peer = connection.peer;
            record.start = connection.start;
            record.begun = connection.begun;
            record.status = connection.status;
            record.address_len =
                attempt::address(connection.peer, &mut record.address).unwrap_or(0);
        });
    }
    0
}

/// A first byte of which nothing is known yet, in read-only data.
static UNKNOWN: FirstByte = FirstByte::UNKNOWN;

/// The status in `HTTP/1.x NNN`, read where `recvfrom(fd, buffer, …)` just put it; 0 if that is not what stands there.
#[inline(always)]
fn status_line() -> u16 {
    // SAFETY: both helpers take the current task; the registers are those of its system call.
    let registers = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as *const pt_regs;
    if registers.is_null() {
        return 0;
    }
    #[cfg(bpf_target_arch = "x86_64")]
    // SAFETY: probe_read checks the address itself.
    let buffer: Option<u64> = read::kernel_at(unsafe { &raw const (*registers).rsi } as u64);
    #[cfg(not(bpf_target_arch = "x86_64"))]
    let buffer: Option<u64> = read::kernel_at((registers as u64).wrapping_add(8));
    let Some(head) = buffer.and_then(read::user::<[u8; 12]>) else {
        return 0;
    };
    if head[..7] != *b"HTTP/1." {
        return 0;
    }
    let mut status = 0;
    for digit in &head[9..12] {
        if !digit.is_ascii_digit() {
            return 0;
        }
        status = status * 10 + u16::from(digit - b'0');
    }
    status
}
