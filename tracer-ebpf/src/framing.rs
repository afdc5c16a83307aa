//! Is an HTTP/1 response shorter than its `Content-Length`? Asked when its sender closes before nginx did: the one sign of
//! a response cut short where nginx logs nothing.

use aya_ebpf::{helpers::bpf_probe_read_user_buf, macros::map, maps::PerCpuArray};

/// How much of the header is looked at; most are shorter. A power of two.
const LOOKED_AT: usize = 1024;
/// In lower case.
const CONTENT_LENGTH: [u8; 15] = *b"content-length:";
/// Digits of the longest length, and spaces before it.
const LONGEST: usize = 20;

#[repr(C)]
struct Header {
    bytes: [u8; LOOKED_AT],
    /// Where the length stands, and where the header is over; 0 not found. In memory, not in registers: else the verifier
    /// follows each place on its own.
    length_at: u32,
    end: u32,
}

/// Too large for the stack.
#[map]
static HEADER: PerCpuArray<Header> = PerCpuArray::with_max_entries(1, 0);

/// Did less come than the header announces, which nginx keeps at `address`? `false` also where that can not be told.
#[inline(always)]
pub fn is_short(address: u64, received: u64) -> bool {
    let Some(header) = HEADER.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's own; the hook does not interrupt itself.
    let header = unsafe { &mut *header };
    // SAFETY: the helper checks the address itself.
    let read = unsafe { bpf_probe_read_user_buf(address as *const u8, &mut header.bytes) };
    if read.is_err() || header.bytes[..7] != *b"HTTP/1." {
        return false;
    }
    header.length_at = 0;
    header.end = 0;
    for at in 12..LOOKED_AT - CONTENT_LENGTH.len() - 1 {
        if header.bytes[at] != b'\n' {
            continue;
        }
        if header.bytes[at + 1] == b'\r' {
            header.end = at as u32 + 3;
            break;
        }
        if is_content_length(&header.bytes, at + 1) {
            header.length_at = (at + 1 + CONTENT_LENGTH.len()) as u32;
        }
    }
    // SAFETY: members of a live value; volatile for the reason given there.
    let (length_at, end) = unsafe {
        (
            core::ptr::read_volatile(&raw const header.length_at),
            core::ptr::read_volatile(&raw const header.end),
        )
    };
    length_at != 0
        && end != 0
        && received < u64::from(end) + number(&header.bytes, length_at as usize)
}

#[inline(always)]
fn is_content_length(bytes: &[u8; LOOKED_AT], at: usize) -> bool {
    for (index, byte) in CONTENT_LENGTH.iter().enumerate() {
        // Letters become small; `-` and `:` stay.
        if bytes[at + index] | 0x20 != *byte {
            return false;
        }
    }
    true
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
