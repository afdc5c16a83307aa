//! Boot time, and its relation to the wall clock.

use serde::{Deserialize, Serialize};

/// Nanoseconds since boot, suspend included (`CLOCK_BOOTTIME`).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Time(pub u64);

impl Time {
    /// Nanoseconds from `earlier` to `self`; 0 if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The whole millisecond before: fine enough for deadlines, and short to write down.
    #[must_use]
    pub fn whole_millisecond(self) -> Self {
        Self(self.0 - self.0 % 1_000_000)
    }

    /// `self` moved by `nanoseconds` into the future.
    #[must_use]
    pub fn plus(self, nanoseconds: u64) -> Self {
        Self(self.0.saturating_add(nanoseconds))
    }
}

/// One reading of both clocks: turns boot times into Unix times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Boot time of the reading, in nanoseconds.
    pub boot: u64,
    /// Unix time of the reading, in nanoseconds.
    pub wall: u64,
}

impl Clock {
    /// Unix time in nanoseconds of a boot time.
    #[must_use]
    pub fn unix_nanos(self, time: Time) -> u64 {
        let offset = i128::from(self.wall) - i128::from(self.boot);
        u64::try_from(i128::from(time.0) + offset).unwrap_or(0)
    }

    /// Boot time in nanoseconds of a Unix time in nanoseconds.
    #[must_use]
    pub fn boot_time(self, unix: u64) -> u64 {
        let offset = i128::from(self.wall) - i128::from(self.boot);
        u64::try_from(i128::from(unix) - offset).unwrap_or(0)
    }

    /// The time of this clock's host as `other`'s would have shown it.
    #[must_use]
    pub fn translate(self, time: Time, other: Self) -> Time {
        Time(other.boot_time(self.unix_nanos(time)))
    }
}
