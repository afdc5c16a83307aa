//! Shedding: what the kernel side leaves out when the collector has too much to do, or holds too
//! much. First healthy connections, then the details of failed requests; to keep to a limit, all
//! failed requests but a sample, each of which is reported completely. The kernel side counts what
//! is left out.

use std::time::{Duration, Instant};

use super::clock;
use super::memory::{self, Memory};
use crate::probe::{Shed, Sizes};

/// How often the load is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How often memory is measured: a flood fills megabytes between two polls.
const WEIGH: Duration = Duration::from_millis(20);
/// The part of the upper half of the memory at which the least is reported.
const FULL: f64 = 0.4;
/// So many calm looks lower the level.
const CALM: u32 = 10;
/// Up to this level each failed request is reported.
const ALL_FAILURES: u32 = 2;
/// Of failed requests at least one in 8192 is reported.
const HIGHEST: u32 = ALL_FAILURES + 13;

/// Failed requests in 134 ms that all workers share, whatever the sample, and the most of one.
const GRANTED: u64 = 64;
const GRANTED_EACH: u64 = 8;

/// What the collector keeps to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ceilings {
    /// Share of one CPU; `None`: as much as it takes.
    pub cpu: Option<f64>,
    /// Bytes of memory of its own, without what the kernel shares with it; `None`: by this host's
    /// size.
    pub memory: Option<u64>,
    /// Bytes that the process holds in addition.
    pub beside: u64,
}

/// The shedding level: 0 nothing; 1 healthy connections; 2 also request details; each above halves
/// the failure sample.
#[derive(Debug)]
pub(super) struct Pace {
    /// Share of one CPU.
    limit: Option<f64>,
    /// By what there is to do.
    level: u32,
    looked: Instant,
    used: Duration,
    is_behind: bool,
    calm: u32,
    memory: Memory,
    weighed: Instant,
    /// The higher of the two, as last reported.
    reported: u32,
}

impl Pace {
    /// From now on, within these.
    pub(super) fn new(ceilings: Ceilings, sizes: &Sizes) -> Self {
        let now = Instant::now();
        let memory = ceilings.memory.unwrap_or_else(|| sizes.memory());
        Self {
            limit: ceilings.cpu,
            level: 0,
            looked: now,
            used: used(),
            is_behind: false,
            calm: 0,
            memory: Memory::new(memory.saturating_add(ceilings.beside)),
            weighed: now,
            reported: 0,
        }
    }

    /// The ring holds more than was taken at once.
    pub(super) fn behind(&mut self) {
        self.is_behind = true;
    }

    /// What to leave out from now on, if that changes.
    pub(super) fn look(&mut self, workers: usize) -> Option<Shed> {
        if self.weighed.elapsed() < WEIGH {
            return None;
        }
        self.weighed = Instant::now();
        let elapsed = self.looked.elapsed();
        if elapsed >= LOOK {
            let now = used();
            let share = (now - self.used).as_secs_f64() / elapsed.as_secs_f64();
            self.looked = self.weighed;
            self.used = now;
            self.level = self.next(share);
            if self.memory.pressure() > 0.0 {
                memory::give_back();
            }
        }
        let level = self.level.max(heavy(self.memory.pressure()));
        let before = std::mem::replace(&mut self.reported, level);
        (level != before).then(|| Shed {
            // At the highest level by CPU nothing else is left to leave out.
            grant: if self.level == HIGHEST {
                0
            } else {
                grant(workers)
            },
            ..shed(level)
        })
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
            return self.level.max((self.level + 1).min(ALL_FAILURES));
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

/// The level by memory: it follows at once in both directions, and is the highest well below the
/// limit, for what is in flight still comes.
fn heavy(pressure: f64) -> u32 {
    let part = (pressure / FULL).min(1.0);
    (part * f64::from(HIGHEST)).ceil() as u32
}

fn shed(level: u32) -> Shed {
    Shed {
        healthy: level > 0,
        details: level == ALL_FAILURES,
        sample: (1 << level.saturating_sub(ALL_FAILURES)) - 1,
        grant: 0,
    }
}

/// How many failed requests each worker is granted: a share of what is explained at about 1 % of a
/// CPU, so that few workers have several, and many at least one each.
fn grant(workers: usize) -> u64 {
    (GRANTED / workers.max(1) as u64).clamp(1, GRANTED_EACH)
}

/// CPU time of this process, all threads.
fn used() -> Duration {
    Duration::from_nanos(clock::process_cpu())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(cpu: Option<f64>) -> Pace {
        let ceilings = Ceilings {
            cpu,
            memory: Some(u64::MAX),
            beside: 0,
        };
        Pace::new(ceilings, &Sizes::of_host(None))
    }

    #[test]
    fn the_fuller_the_memory_the_less_is_reported() {
        let levels: Vec<u32> = [0.0, 0.01, 0.1, 0.3, 0.4, 2.0].map(heavy).to_vec();
        assert_eq!(levels, [0, 1, 4, 12, HIGHEST, HIGHEST]);
    }

    #[test]
    fn healthy_connections_go_first_then_details_then_half_of_the_failures_each() {
        let left_out: Vec<(bool, bool, u64)> = (0..5)
            .map(shed)
            .map(|shed| (shed.healthy, shed.details, shed.sample))
            .collect();
        assert_eq!(
            left_out,
            [
                (false, false, 0),
                (true, false, 0),
                (true, true, 0),
                (true, false, 1),
                (true, false, 3)
            ]
        );
    }

    #[test]
    fn without_a_limit_failures_are_reported_however_much_there_is() {
        let mut pace = pace(None);
        for _ in 0..100 {
            pace.behind();
            pace.level = pace.next(1.0);
        }
        assert_eq!((pace.level, shed(pace.level).sample), (ALL_FAILURES, 0));
        for _ in 0..ALL_FAILURES * CALM {
            pace.level = pace.next(0.0);
        }
        assert_eq!(pace.level, 0);
    }

    #[test]
    fn a_limit_is_reached_within_a_few_looks_and_left_slowly() {
        let mut pace = pace(Some(0.05));
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

    #[test]
    fn each_worker_is_granted_some_and_all_together_few() {
        assert_eq!(grant(0), GRANTED_EACH);
        assert_eq!(grant(2), GRANTED_EACH);
        assert_eq!(grant(16), 4);
        assert_eq!(grant(64), 1);
        assert_eq!(grant(1000), 1);
    }
}
