//! When a shortage begins and when it ends: reported once each, with hysteresis.

use crate::event::Time;

/// It is over once it has been low for so long (nanoseconds).
const CALM: u64 = 10_000_000_000;

/// One resource that may be near its limit.
#[derive(Debug, Default)]
pub(in crate::source) struct Gauge {
    is_raised: bool,
    low_since: Option<Time>,
}

/// What a sample changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source) enum Change {
    Begins,
    Ends,
}

impl Gauge {
    /// Takes a sample. Between high and low it stays what it was.
    pub(in crate::source) fn sample(
        &mut self,
        now: Time,
        is_high: bool,
        is_low: bool,
    ) -> Option<Change> {
        if !self.is_raised {
            self.is_raised = is_high;
            return is_high.then_some(Change::Begins);
        }
        if !is_low {
            self.low_since = None;
            return None;
        }
        let since = *self.low_since.get_or_insert(now);
        if now.since(since) < CALM {
            return None;
        }
        *self = Self::default();
        Some(Change::Ends)
    }

    /// The same for a part of a limit: nine tenths are high, less than eight are low.
    pub(in crate::source) fn share(&mut self, now: Time, used: u64, limit: u64) -> Option<Change> {
        let tenths = |n: u64| u128::from(used) * 10 >= u128::from(limit) * u128::from(n);
        self.sample(now, limit > 0 && tenths(9), !tenths(8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn changes(used: &[u64]) -> Vec<(usize, Change)> {
        let mut gauge = Gauge::default();
        let sampled = used.iter().enumerate().filter_map(|(second, used)| {
            let change = gauge.share(Time(second as u64 * SECOND), *used, 100)?;
            Some((second, change))
        });
        sampled.collect()
    }

    #[test]
    fn a_strain_is_reported_once_and_its_end_after_a_calm() {
        let used: Vec<u64> = [50, 89, 90, 100, 85].into_iter().chain([70; 20]).collect();
        assert_eq!(changes(&used), [(2, Change::Begins), (15, Change::Ends)]);
    }

    #[test]
    fn what_wavers_is_reported_once() {
        let used: Vec<u64> = (0..100)
            .map(|second| if second % 5 == 0 { 95 } else { 10 })
            .collect();
        assert_eq!(changes(&used), [(0, Change::Begins)]);
    }

    #[test]
    fn without_a_limit_nothing_is_short() {
        let mut gauge = Gauge::default();
        assert_eq!(gauge.share(Time(0), 0, 0), None);
    }
}
