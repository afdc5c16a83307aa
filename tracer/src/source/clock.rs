//! The clocks, read.

use crate::event::{Clock, Time};

/// Nanoseconds since boot, as `bpf_ktime_get_boot_ns`.
#[must_use]
pub fn now() -> Time {
    Time(read(libc::CLOCK_BOOTTIME))
}

/// Both clocks at one moment.
#[must_use]
pub fn reading() -> Clock {
    Clock {
        boot: read(libc::CLOCK_BOOTTIME),
        wall: read(libc::CLOCK_REALTIME),
    }
}

/// Nanoseconds that this thread has had of a CPU.
#[must_use]
pub fn thread_cpu() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for writes; all of them exist on every kernel with BPF ring buffers.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}
