//! Writing a record. What finds the ring full is counted.

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use tracer_ebpf::abi::{Header, counter};

use crate::maps::{COUNTERS, EVENTS};

/// How soon the collector should look.
#[derive(Clone, Copy)]
pub enum Urgency {
    /// At its next look: healthy traffic costs no wakeup.
    Whenever,
    /// Now: a failure, or something a question to the host depends on.
    Now,
}

/// Writes one record.
#[inline(always)]
pub fn record<T: Copy + 'static>(value: &T, urgency: Urgency) {
    let flags = match urgency {
        Urgency::Whenever => BPF_RB_NO_WAKEUP,
        Urgency::Now => BPF_RB_FORCE_WAKEUP,
    };
    if EVENTS.output::<T>(value, u64::from(flags)).is_err() {
        lost();
    }
}

/// The header of a record of type `T`.
#[inline(always)]
pub fn header<T>(tag: u16, pid: u32, at: u64) -> Header {
    Header {
        tag,
        len: size_of::<T>() as u16,
        pid,
        at,
    }
}

#[inline(always)]
fn lost() {
    if let Some(count) = COUNTERS.get_ptr_mut(counter::LOST) {
        // SAFETY: a per-CPU slot.
        unsafe { *count += 1 };
    }
}
