//! When a burst of failed requests begins and ends: for each, the ring is written to a file.

use std::collections::VecDeque;

use crate::event::Time;

/// So many failed requests within so long (nanoseconds) are a burst.
const BURST: usize = 10;
const WITHIN: u64 = 10_000_000_000;
/// It ends when that long had fewer than these: far enough below the other that a rate between them
/// is one burst, not many.
const QUIET: usize = 5;

/// The failures that count, and whether a burst is open.
#[derive(Debug, Default)]
pub(super) struct Bursts {
    /// The newest, [`BURST`] at most.
    failures: VecDeque<Time>,
    is_open: bool,
}

impl Bursts {
    /// A request failed. Does a burst begin with it?
    pub(super) fn failed(&mut self, at: Time) -> bool {
        self.failures.push_back(at);
        self.forget(at);
        let begins = !self.is_open && self.failures.len() >= BURST;
        self.is_open |= begins;
        begins
    }

    /// Time passed. Does the burst end?
    pub(super) fn passed(&mut self, now: Time) -> bool {
        self.forget(now);
        let ends = self.is_open && self.failures.len() < QUIET;
        self.is_open &= !ends;
        ends
    }

    /// What failed so far is in a file: the next burst begins anew.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    fn forget(&mut self, now: Time) {
        while self.failures.len() > BURST
            || self
                .failures
                .front()
                .is_some_and(|first| now.since(*first) > WITHIN)
        {
            self.failures.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: u64 = 1_000_000;

    fn at(milliseconds: u64) -> Time {
        Time(milliseconds * MILLISECOND)
    }

    #[test]
    fn each_burst_begins_once_and_ends_once() {
        let mut bursts = Bursts::default();
        let mut begun = Vec::new();
        let mut ended = Vec::new();
        // Twenty failures at 60 s, 120 s and 180 s.
        for now in (0..240_000).step_by(20) {
            if now % 60_000 == 0 && now > 0 {
                begun.extend((0..20).filter(|_| bursts.failed(at(now))).map(|_| now));
            }
            ended.extend(bursts.passed(at(now)).then_some(now));
        }
        assert_eq!(begun, [60_000, 120_000, 180_000]);
        assert_eq!(ended, [70_020, 130_020, 190_020]);
    }

    #[test]
    fn a_few_failures_are_no_burst() {
        let mut bursts = Bursts::default();
        for now in (0..600_000).step_by(1_200) {
            assert!(!bursts.failed(at(now)), "{now}");
        }
        assert!(bursts.failures.len() < BURST);
    }

    #[test]
    fn a_rate_that_falls_a_little_is_the_same_burst() {
        let mut bursts = Bursts::default();
        let mut begun = 0;
        for now in (0..10_000).step_by(500) {
            begun += usize::from(bursts.failed(at(now)));
        }
        for now in (10_000..60_000).step_by(1_500) {
            begun += usize::from(bursts.failed(at(now)));
            assert!(!bursts.passed(at(now + 20)), "{now}");
        }
        assert_eq!(begun, 1);
        assert!(bursts.passed(at(70_000)));
    }

    #[test]
    fn after_a_file_that_was_asked_for_a_burst_that_goes_on_begins_anew() {
        let mut bursts = Bursts::default();
        assert_eq!((0..20).filter(|_| bursts.failed(at(0))).count(), 1);
        bursts.reset();
        assert_eq!((0..20).filter(|_| bursts.failed(at(1))).count(), 1);
    }
}
