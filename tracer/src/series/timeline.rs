//! A value a span of time, in a bounded number of spans: whenever a time lies too far off,
//! neighbours are merged into wider spans. So one pass over a stream of unknown length does.

use std::collections::VecDeque;

use super::Merge;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
const DAY: u64 = 86_400 * SECOND;

/// Widths of a span in nanoseconds. Each divides the next, and all are what a person would choose.
/// With the widest, all times that there are make 22 spans.
const WIDTHS: [u64; 20] = [
    10 * MS,
    50 * MS,
    100 * MS,
    500 * MS,
    SECOND,
    5 * SECOND,
    10 * SECOND,
    30 * SECOND,
    60 * SECOND,
    300 * SECOND,
    600 * SECOND,
    1800 * SECOND,
    3600 * SECOND,
    6 * 3600 * SECOND,
    DAY,
    10 * DAY,
    50 * DAY,
    100 * DAY,
    1000 * DAY,
    10_000 * DAY,
];

/// Values by time, in at most `SPANS` spans of one width (`SPANS` is 22 or more).
#[derive(Debug, Clone)]
pub struct Timeline<T, const SPANS: usize> {
    width: usize,
    /// The number of the first span, counted from the Unix epoch.
    first: u64,
    spans: VecDeque<T>,
}

impl<T, const SPANS: usize> Default for Timeline<T, SPANS> {
    fn default() -> Self {
        Self {
            width: 0,
            first: 0,
            spans: VecDeque::new(),
        }
    }
}

impl<T: Default + Merge, const SPANS: usize> Timeline<T, SPANS> {
    /// The value of the span that a time (Unix nanoseconds) lies in.
    pub fn at(&mut self, time: u64) -> &mut T {
        loop {
            let span = time / self.width();
            if self.spans.is_empty() {
                self.first = span;
            }
            let last = self.first + (self.spans.len() as u64).saturating_sub(1);
            if self.first.min(span) + SPANS as u64 <= last.max(span) {
                self.coarsen();
                continue;
            }
            while span < self.first {
                self.first -= 1;
                self.spans.push_front(T::default());
            }
            let index = (span - self.first) as usize;
            if index >= self.spans.len() {
                self.spans.resize_with(index + 1, T::default);
            }
            return &mut self.spans[index];
        }
    }

    /// The width of a span in nanoseconds.
    #[must_use]
    pub fn width(&self) -> u64 {
        WIDTHS[self.width]
    }

    /// Nothing was put in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The spans in order: when each begins (Unix nanoseconds), and its value.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &T)> {
        let begin = |index| (self.first + index as u64) * self.width();
        self.spans
            .iter()
            .enumerate()
            .map(move |(i, value)| (begin(i), value))
    }

    fn coarsen(&mut self) {
        let factor = WIDTHS[self.width + 1] / WIDTHS[self.width];
        let first = self.first / factor;
        let mut spans: VecDeque<T> = VecDeque::new();
        for (i, value) in std::mem::take(&mut self.spans).into_iter().enumerate() {
            let span = (self.first + i as u64) / factor;
            if span - first == spans.len() as u64 {
                spans.push_back(value);
            } else if let Some(last) = spans.back_mut() {
                last.merge(value);
            }
        }
        self.width += 1;
        self.first = first;
        self.spans = spans;
    }
}

impl<T: Default + Merge + Clone, const SPANS: usize> Timeline<T, SPANS> {
    /// The same in spans at least so wide, in nanoseconds.
    #[must_use]
    pub fn at_least(&self, width: u64) -> Self {
        let mut coarse = self.clone();
        while coarse.width() < width && coarse.width + 1 < WIDTHS.len() {
            coarse.coarsen();
        }
        coarse
    }
}

impl<T: Default + Merge, const SPANS: usize> Merge for Timeline<T, SPANS> {
    fn merge(&mut self, mut other: Self) {
        while other.width < self.width {
            other.coarsen();
        }
        // Nobody knows where in its wider spans the other's values lie.
        while self.width < other.width {
            self.coarsen();
        }
        let (width, first) = (other.width(), other.first);
        for (i, value) in other.spans.into_iter().enumerate() {
            self.at((first + i as u64) * width).merge(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Counts = Timeline<u64, 24>;

    #[test]
    fn spans_widen_until_all_fit() {
        let mut counts = Counts::default();
        *counts.at(1000 * SECOND) += 1;
        assert_eq!(counts.width(), 10 * MS);
        *counts.at(1010 * SECOND) += 1;
        assert_eq!(counts.width(), 500 * MS);
        assert_eq!(
            counts.iter().filter(|(_, n)| **n > 0).collect::<Vec<_>>(),
            [(1000 * SECOND, &1), (1010 * SECOND, &1)]
        );
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_the_memory_is_bounded(times in prop::collection::vec((any::<u64>(), 0..64u32), 0..60)) {
            let mut counts = Counts::default();
            for (time, shift) in &times {
                *counts.at(time >> shift) += 1;
                prop_assert!(counts.spans.len() <= 24);
            }
            prop_assert_eq!(counts.iter().map(|(_, n)| *n).sum::<u64>(), times.len() as u64);
            let width = counts.width();
            for (begin, _) in counts.iter().filter(|(_, n)| **n > 0) {
                prop_assert!(times.iter().any(|(time, shift)| (begin..=begin.saturating_add(width)).contains(&(time >> shift))));
            }
        }

        #[test]
        fn merging_is_counting_together(a in prop::collection::vec(0..u64::MAX / 1000, 1..20), b in prop::collection::vec(0..u64::MAX, 1..20)) {
            let counted = |times: &[u64]| {
                let mut counts = Counts::default();
                times.iter().for_each(|time| *counts.at(*time) += 1);
                counts
            };
            let mut merged = counted(&a);
            merged.merge(counted(&b));
            prop_assert_eq!(merged.iter().map(|(_, n)| *n).sum::<u64>(), (a.len() + b.len()) as u64);
            prop_assert_eq!(merged.width(), counted(&[a, b].concat()).width());
        }
    }
}
