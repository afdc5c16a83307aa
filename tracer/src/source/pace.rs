//! How much the collector is told when it has too much to do. First healthy connections are left out, then of the failed
//! requests all but a sample, of which each is told completely; the kernel side counts what is left out.

use std::time::{Duration, Instant};

/// How often the load is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// So many calm looks lower the level.
const CALM: u32 = 10;
/// Of failed requests at least one in 8192 is told.
const HIGHEST: u32 = 14;

/// The level: 0 all is told, 1 no healthy connections, above that half as many failed requests each.
#[derive(Debug)]
pub(super) struct Pace {
    /// Share of one CPU.
    limit: Option<f64>,
    level: u32,
    looked: Instant,
    used: Duration,
    is_behind: bool,
    calm: u32,
}

impl Pace {
    /// From now on, within this share of one CPU.
    pub(super) fn new(limit: Option<f64>) -> Self {
        Self {
            limit,
            level: 0,
            looked: Instant::now(),
            used: used(),
            is_behind: false,
            calm: 0,
        }
    }

    /// The ring holds more than was taken at once.
    pub(super) fn behind(&mut self) {
        self.is_behind = true;
    }

    /// What to leave out from now on, if that changes: healthy connections, and [`Probes::shed`]'s sample.
    ///
    /// [`Probes::shed`]: crate::probe::Probes::shed
    pub(super) fn look(&mut self) -> Option<(bool, u64)> {
        let elapsed = self.looked.elapsed();
        if elapsed < LOOK {
            return None;
        }
        let now = used();
        let share = (now - self.used).as_secs_f64() / elapsed.as_secs_f64();
        self.looked = Instant::now();
        self.used = now;
        let before = self.level;
        self.level = self.next(share);
        (self.level != before).then(|| (self.level > 0, sample(self.level)))
    }

    fn next(&mut self, share: f64) -> u32 {
        let is_behind = std::mem::take(&mut self.is_behind);
        let excess = self.limit.map_or(0.0, |limit| share / limit);
        if excess > 1.0 {
            self.calm = 0;
            // What is left out halves with each level.
            let step = excess.log2().ceil().max(1.0) as u32;
            return (self.level + step).min(HIGHEST);
        }
        if is_behind {
            self.calm = 0;
            return self.level.max(1);
        }
        // One level less is twice as much to do.
        self.calm = if excess < 0.4 { self.calm + 1 } else { 0 };
        if self.calm < CALM {
            return self.level;
        }
        self.calm = 0;
        self.level.saturating_sub(1)
    }
}

fn sample(level: u32) -> u64 {
    (1 << level.saturating_sub(1)) - 1
}

/// CPU time of this process, all threads.
fn used() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for writes.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn healthy_connections_go_first_then_half_of_the_failures_each() {
        let told: Vec<(bool, u64)> = (0..4).map(|level| (level > 0, sample(level))).collect();
        assert_eq!(told, [(false, 0), (true, 0), (true, 1), (true, 3)]);
    }

    #[test]
    fn without_a_limit_failures_are_told_however_much_there_is() {
        let mut pace = Pace::new(None);
        for _ in 0..100 {
            pace.behind();
            pace.level = pace.next(1.0);
        }
        assert_eq!(pace.level, 1);
        for _ in 0..CALM {
            pace.level = pace.next(0.0);
        }
        assert_eq!(pace.level, 0);
    }

    #[test]
    fn a_limit_is_reached_within_a_few_looks_and_left_slowly() {
        let mut pace = Pace::new(Some(0.05));
        pace.level = pace.next(0.64);
        assert_eq!(pace.level, 4);
        assert_eq!(pace.next(0.04), 4);
        for _ in 0..CALM {
            pace.level = pace.next(0.01);
        }
        assert_eq!(pace.level, 3);
        for _ in 0..100 {
            pace.level = pace.next(5.0);
        }
        assert_eq!(pace.level, HIGHEST);
    }
}
