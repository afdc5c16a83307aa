//! Writing a record. What finds the ring full is counted.

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use tracer_ebpf::abi::{Header, counter};

use crate::{
    maps::{self, EVENTS},
    task,
};

/// How soon the collector should look.
#[derive(Clone, Copy)]
pub enum Urgency {
    /// At its next look: healthy traffic costs no wakeup.
    Whenever,
    /// A failure: now, or at its next look if it was woken just before. In a flood wakeups would
    /// cost more than all else.
    Soon,
    /// Now: something a question to the host depends on.
    Now,
}

impl Urgency {
    #[inline(always)]
    fn flags(self) -> u64 {
        u64::from(match self {
            Self::Soon if maps::is_wakeup_due(task::now()) => BPF_RB_FORCE_WAKEUP,
            Self::Whenever | Self::Soon => BPF_RB_NO_WAKEUP,
            Self::Now => BPF_RB_FORCE_WAKEUP,
        })
    }
}

/// Writes one record.
#[inline(always)]
pub fn record<T: Copy + 'static>(value: &T, urgency: Urgency) {
    maps::count(match EVENTS.output::<T>(value, urgency.flags()) {
        Ok(()) => counter::WRITTEN,
        Err(_) => counter::LOST,
    });
}

/// Writes one record that `fill` completes in the ring itself: for records too large for the BPF
/// stack.
#[inline(always)]
pub fn in_place<T: Copy + 'static>(empty: &'static T, urgency: Urgency, fill: impl FnOnce(&mut T)) {
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        maps::count(counter::LOST);
        return;
    };
    fill(entry.write(*empty));
    entry.submit(urgency.flags());
    maps::count(counter::WRITTEN);
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
