//! The clocks, read.

use rustix::time::{ClockId, clock_gettime};

use crate::event::{Clock, Time};

/// Nanoseconds since boot, as `bpf_ktime_get_boot_ns`.
#[must_use]
pub(crate) fn now() -> Time {
    Time(read(ClockId::Boottime))
}

/// Both clocks at one moment.
#[must_use]
pub(crate) fn reading() -> Clock {
    Clock {
        boot: read(ClockId::Boottime),
        wall: read(ClockId::Realtime),
    }
}

/// Nanoseconds that this thread has had of a CPU.
#[must_use]
pub(crate) fn thread_cpu() -> u64 {
    read(ClockId::ThreadCPUTime)
}

/// The same of all threads of this process.
#[must_use]
pub(crate) fn process_cpu() -> u64 {
    read(ClockId::ProcessCPUTime)
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}
