//! Durations counted in bins whose width grows with them: quantiles within 1/8 of their value,
//! whatever the range.
//!
//! Only the span of bins that is in use is kept: most upstreams need a few dozen.

use std::ops::Range;

use super::Merge;

/// Bins an octave, as a power of two: each bin is at most 1/8 of its value wide.
const FINENESS: u32 = 3;

/// Counts of durations in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// The bin that `counts` begins with.
    first: u16,
    counts: Vec<u64>,
    count: u64,
    max: u64,
}

impl Histogram {
    /// Counts a duration.
    pub fn add(&mut self, nanoseconds: u64) {
        *self.bin(bin_of(nanoseconds)) += 1;
        self.count += 1;
        self.max = self.max.max(nanoseconds);
    }

    /// Bytes of its bins.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.counts.as_slice())
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest, exactly; 0 if none was counted.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The shortest bin's begin, in nanoseconds; `None` if nothing was counted.
    #[must_use]
    pub fn least(&self) -> Option<u64> {
        self.bins().next().map(|(range, _)| range.start)
    }

    /// The duration that the share `q` of all does not exceed, in nanoseconds: the middle of its
    /// bin, or the maximum where that is less. `None` if nothing was counted.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let rank = ((self.count as f64 * q).ceil() as u64).max(1);
        let mut below = 0;
        self.bins().find_map(|(range, count)| {
            below += count;
            (below >= rank).then(|| (range.start + (range.end - range.start) / 2).min(self.max))
        })
    }

    /// The bins that are not empty, shortest first: their ranges in nanoseconds, and how many fell
    /// into each.
    pub fn bins(&self) -> impl Iterator<Item = (Range<u64>, u64)> {
        self.counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(i, count)| (range_of(self.first + i as u16), *count))
    }

    /// The count of a bin, which is made if needed.
    fn bin(&mut self, bin: u16) -> &mut u64 {
        if self.counts.is_empty() {
            self.first = bin;
        }
        if bin < self.first {
            let missing = usize::from(self.first - bin);
            self.counts.splice(0..0, std::iter::repeat_n(0, missing));
            self.first = bin;
        }
        let index = usize::from(bin - self.first);
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        &mut self.counts[index]
    }
}

impl Merge for Histogram {
    fn merge(&mut self, other: Self) {
        for (i, count) in other.counts.into_iter().enumerate() {
            if count > 0 {
                *self.bin(other.first + i as u16) += count;
            }
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }
}

/// The bin of a value: the value itself below 8, then 8 bins an octave.
fn bin_of(value: u64) -> u16 {
    let octave = 63 - (value | 1).leading_zeros();
    if octave < FINENESS {
        return value as u16;
    }
    let within = (value >> (octave - FINENESS)) & ((1 << FINENESS) - 1);
    (((octave - FINENESS + 1) << FINENESS) as u16) | within as u16
}

/// The values of a bin.
fn range_of(bin: u16) -> Range<u64> {
    let (octave, within) = (u32::from(bin >> FINENESS), u64::from(bin) & 7);
    if octave == 0 {
        return within..within + 1;
    }
    let (base, width) = (8 + within, 1u64 << (octave - 1));
    let start = base * width;
    start..start.saturating_add(width)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_value_lies_in_its_bin(value in any::<u64>(), shift in 0..64u32) {
            let value = value >> shift;
            let range = range_of(bin_of(value));
            prop_assert!(range.start <= value && (value < range.end || range.end == u64::MAX));
            prop_assert!(range.end - range.start <= (range.start / 8).max(1));
        }

        #[test]
        fn quantiles_are_within_an_eighth(mut values in prop::collection::vec(1..10_000_000_000u64, 1..200), q in 0.0..1.0f64) {
            let mut histogram = Histogram::default();
            for value in &values {
                histogram.add(*value);
            }
            values.sort_unstable();
            let rank = ((values.len() as f64 * q).ceil() as usize).max(1);
            let (exact, estimate) = (values[rank - 1], histogram.quantile(q).expect("counted"));
            prop_assert!(estimate.abs_diff(exact) <= exact / 8 + 1, "{estimate} for {exact}");
        }

        #[test]
        fn merging_is_counting_together(a in prop::collection::vec(any::<u32>(), 0..50), b in prop::collection::vec(any::<u32>(), 0..50)) {
            let counted = |values: &[u32]| {
                let mut histogram = Histogram::default();
                values.iter().for_each(|value| histogram.add(u64::from(*value)));
                histogram
            };
            let mut merged = counted(&a);
            merged.merge(counted(&b));
            let together = counted(&[a, b].concat());
            prop_assert_eq!(merged.bins().collect::<Vec<_>>(), together.bins().collect::<Vec<_>>());
            prop_assert_eq!((merged.count(), merged.max()), (together.count(), together.max()));
        }
    }
}
