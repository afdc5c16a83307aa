//! How long an HTTP/1 response should be, by its header. Asked when its sender closes before nginx
//! did, the one sign of a response cut short where nginx logs nothing, and when nginx logs
//! something about it.

use core::hint::black_box;

use aya_ebpf::{helpers::bpf_probe_read_user_buf, macros::map, maps::PerCpuArray};

use tracer_ebpf::abi::{Connection, FLAG_BROKE_OFF, FLAG_MEASURED, FLAG_WHOLE, NO_LENGTH};

use crate::{apart::apart, maps, sock};

/// How much of the header is looked at; most are shorter. A power of two.
const LOOKED_AT: usize = 1024;
/// A line's first sixteen bytes, the line feed before it among them; letters small, as [`SMALL`]
/// makes them. The second half is searched for, the first is of other names too.
const CONTENT_LENGTH: [u64; 2] = [
    u64::from_be_bytes(*b"\ncontent") | SMALL,
    u64::from_be_bytes(*b"-length:") | SMALL,
];
/// Letters become small; `-` and `:` stay.
const SMALL: u64 = 0x2020_2020_2020_2020;
/// The line feed of the last line and the carriage return of the empty one.
const EMPTY_LINE: u64 = 0x0a0d;
/// Digits of the longest length, and spaces before it.
const LONGEST: usize = 20;

#[repr(C)]
struct Header {
    bytes: [u8; LOOKED_AT],
    /// Behind the name of the length, and behind the empty line: where they first occur, 0 not
    /// found. The second of each is written where they do not.
    length_at: [u32; 2],
    end: [u32; 2],
    /// Which worker's.
    user: u32,
    padding: u32,
}

/// Too large for the stack. One for each family of sockets: before 6.5 each has a program of its
/// own, and one of them may come in the midst of another's run; and one for breakpoints.
#[map]
static HEADER: PerCpuArray<Header> = PerCpuArray::with_max_entries(4, 0);
const BREAKPOINTS: u32 = 3;

/// Compares what came by a socket of this family with what the response's header announces: sets
/// [`FLAG_BROKE_OFF`], [`FLAG_WHOLE`], or neither where that is not known.
#[inline(always)]
pub fn compare(family: u16, connection: &mut Connection) {
    let slot = match family {
        sock::AF_UNIX => 0,
        sock::AF_INET => 1,
        _ => 2,
    };
    measure(slot, 0, connection);
    if connection.flags & FLAG_MEASURED == 0 || connection.head_at == NO_LENGTH {
        return;
    }
    let whole = u64::from(connection.pending).wrapping_add(connection.head_at);
    connection.flags |= if u64::from(connection.response) < whole {
        FLAG_BROKE_OFF
    } else {
        FLAG_WHOLE
    };
}

/// nginx logs something about the request of this worker's that the socket serves: measures the
/// response that has begun.
#[apart]
pub fn measure_logged(pid: u32, sk: u64) {
    if let Some(connection) = maps::connection(sk)
        && connection.header.pid == pid
        && connection.status != 0
    {
        measure(BREAKPOINTS, pid, connection);
    }
}

#[inline(always)]
fn measure(slot: u32, pid: u32, connection: &mut Connection) {
    if connection.flags & FLAG_MEASURED != 0 {
        return;
    }
    let measured = measured(slot, pid, connection.head_at);
    if measured != 0 {
        connection.flags |= FLAG_MEASURED;
        connection.pending = measured as u16;
        connection.head_at = measured >> 16;
    }
}

/// The header's length and, shifted by 16 bits, what it announces; 0 where there is none.
#[apart]
fn measured(slot: u32, pid: u32, address: u64) -> u64 {
    let Some(header) = HEADER.get_ptr_mut(slot) else {
        return 0;
    };
    // SAFETY: this CPU's and this program's own, which does not come in the midst of itself; a
    // breakpoint's may, which `user` shows.
    let header = unsafe { &mut *header };
    header.user = pid;
    // SAFETY: the helper checks the address itself.
    let read = unsafe { bpf_probe_read_user_buf(address as *const u8, &mut header.bytes) };
    if read.is_err() || header.bytes[..7] != *b"HTTP/1." {
        return 0;
    }
    header.length_at = [0; 2];
    header.end = [0; 2];
    // Backwards, so that the first place is the last that is noted. Without a branch, as the
    // verifier follows each branch of each round; eight bytes from a place on are a number.
    let mut from = 0u64;
    for at in (12..LOOKED_AT).rev() {
        from = from >> 8 | u64::from(header.bytes[at]) << 56;
        header.length_at[is_not((from | SMALL) ^ CONTENT_LENGTH[1])] = at as u32 + 8;
        header.end[is_not(from >> 48 ^ EMPTY_LINE)] = at as u32 + 3;
    }
    // SAFETY: members of a live value; volatile, or the verifier would follow what the compiler
    // keeps in registers.
    let (length_at, end) = unsafe {
        (
            core::ptr::read_volatile(&raw const header.length_at[0]),
            core::ptr::read_volatile(&raw const header.end[0]),
        )
    };
    if end == 0 {
        return 0;
    }
    let has_length =
        length_at >= 16 && length_at < end && is_content(&header.bytes, length_at as usize - 16);
    let length = if has_length {
        number(&header.bytes, length_at as usize).min(NO_LENGTH)
    } else {
        NO_LENGTH
    };
    // SAFETY: as above.
    if unsafe { core::ptr::read_volatile(&raw const header.user) } != pid {
        return 0;
    }
    u64::from(end) | length << 16
}

/// Does the name begin so? One that only ends alike, further up, hides it: then nothing is said.
#[inline(always)]
fn is_content(bytes: &[u8; LOOKED_AT], at: usize) -> bool {
    let mut from = 0u64;
    for index in 0..8 {
        from = from << 8 | u64::from(bytes[(at + index) & (LOOKED_AT - 1)]);
    }
    from | SMALL == CONTENT_LENGTH[0]
}

/// 0 for 0, 1 for anything else, by arithmetic: the compiler makes a branch of a comparison.
#[inline(always)]
fn is_not(difference: u64) -> usize {
    (black_box(difference | difference.wrapping_neg()) >> 63) as usize
}

#[inline(always)]
fn number(bytes: &[u8; LOOKED_AT], at: usize) -> u64 {
    let mut number = 0u64;
    for index in 0..LONGEST {
        let byte = bytes[(at + index) & (LOOKED_AT - 1)];
        if byte.is_ascii_digit() {
            number = number.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
        } else if byte != b' ' {
            break;
        }
    }
    number
}
