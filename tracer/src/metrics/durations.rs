//! Durations in fixed buckets, as Prometheus wants them: the same for all upstreams and hosts, so
//! that they can be added up.

/// From `connect()` to the end of the handshake (seconds).
pub(super) const CONNECT: [f64; 11] = [
    0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0,
];
/// To the first byte of a response (seconds).
pub(super) const FIRST_BYTE: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];

/// How many fell into each bucket.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Durations<const N: usize> {
    bounds: &'static [f64; N],
    within: [u64; N],
    count: u64,
    sum: f64,
}

impl<const N: usize> Durations<N> {
    /// With these upper bounds, in seconds.
    pub(super) fn new(bounds: &'static [f64; N]) -> Self {
        Self {
            bounds,
            within: [0; N],
            count: 0,
            sum: 0.0,
        }
    }

    /// Counts one, in nanoseconds.
    pub(super) fn add(&mut self, nanoseconds: u64) {
        let seconds = nanoseconds as f64 / 1e9;
        if let Some(bucket) = self.bounds.iter().position(|bound| seconds <= *bound) {
            self.within[bucket] += 1;
        }
        self.count += 1;
        self.sum += seconds;
    }

    /// All of them, in seconds.
    pub(super) fn sum(&self) -> f64 {
        self.sum
    }

    /// How many.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Each upper bound with how many lie in its bucket alone; the last has none.
    pub(super) fn buckets(&self) -> Vec<(f64, u64)> {
        let beyond = self.count - self.within.iter().sum::<u64>();
        let bounds = self.bounds.iter().copied().zip(self.within);
        bounds.chain([(f64::INFINITY, beyond)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_that_holds_it() {
        let mut durations = Durations::new(&CONNECT);
        for nanoseconds in [1, 100_000, 100_001, 60_000_000_000] {
            durations.add(nanoseconds);
        }
        let buckets = durations.buckets();
        assert_eq!(buckets[..2], [(0.0001, 2), (0.0005, 1)]);
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, 1)));
        assert_eq!(durations.count(), 4);
        assert!(durations.sum() > 60.0);
    }
}
