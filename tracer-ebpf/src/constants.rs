//! The constants that the loader fills in.

use tracer_ebpf::abi::{ABSENT, DROP_SITES, DropSite, Offsets, WantedDrops};

/// Where this kernel keeps its members.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::NONE;

/// Which drops this kernel's numbers make worth keeping.
#[unsafe(no_mangle)]
pub static WANTED_DROPS: WantedDrops = WantedDrops {
    any: [0; 4],
    opening: [0; 4],
};

/// Where this kernel drops packets without saying why.
#[unsafe(no_mangle)]
pub static SITES: [DropSite; DROP_SITES] = [DropSite {
    start: 0,
    end: 0,
    reason: 0,
    padding: 0,
}; DROP_SITES];

/// Bytes from a task's stack to the registers of its system call; 0: the kernel has a helper that
/// finds them.
#[unsafe(no_mangle)]
pub static STACK_REGISTERS: u32 = 0;

/// 1: every nginx of the host is followed, not only certain ones.
#[unsafe(no_mangle)]
pub static FOLLOWS_ALL: u32 = 0;

/// See `worker_places`.
#[unsafe(no_mangle)]
pub static SEED: u32 = 0;

/// 1: on this kernel a breakpoint's program learns by which link it runs.
#[unsafe(no_mangle)]
pub static HAS_COOKIES: u32 = 0;

/// The offset that the loader filled in, `None` where this kernel lacks the member.
#[inline(always)]
pub fn offset(field: &'static u16) -> Option<usize> {
    // SAFETY: `field` is a member of OFFSETS; volatile, or the compiler would take the initial
    // value for final.
    let value = unsafe { core::ptr::read_volatile(field) };
    if value == ABSENT {
        None
    } else {
        Some(value as usize)
    }
}

/// A number that the loader filled in.
#[inline(always)]
pub fn number(value: &'static u32) -> u32 {
    // SAFETY: a static; volatile for the reason in `offset`.
    unsafe { core::ptr::read_volatile(value) }
}

/// Why a packet that is freed at this address was dropped, on kernels that do not say.
#[inline(always)]
pub fn reason_at(address: u64) -> Option<u32> {
    for site in &SITES {
        // SAFETY: a static; volatile for the reason in `offset`.
        let site = unsafe { core::ptr::read_volatile(site) };
        if site.start <= address && address < site.end {
            return Some(site.reason);
        }
    }
    None
}

/// Is this drop reason one to keep, of whatever packet?
#[inline(always)]
pub fn is_wanted(reason: u32) -> bool {
    is_in(&WANTED_DROPS.any, reason)
}

/// Is this drop reason one to keep, of a packet that opens a connection of nginx's?
#[inline(always)]
pub fn is_wanted_of_opening(reason: u32) -> bool {
    is_in(&WANTED_DROPS.opening, reason)
}

#[inline(always)]
fn is_in(words: &'static [u64; 4], reason: u32) -> bool {
    // SAFETY: a local. By way of the stack, so that the register has no upper half: the verifier
    // does not take a check of the lower one for a check of all.
    let reason = unsafe { core::ptr::read_volatile(&raw const reason) };
    if reason >= 256 {
        return false;
    }
    // SAFETY: in bounds by the check above; volatile for the reason in `offset`.
    let word = unsafe { core::ptr::read_volatile(&raw const words[(reason / 64) as usize]) };
    word & (1 << (reason % 64)) != 0
}
