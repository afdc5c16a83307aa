//! How many verdicts of each cause.

use super::Merge;

/// Counts by cause; there are no more than the catalogue has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CauseCounts {
    /// Cause, verdicts, and how many of them a retry hid.
    counts: Vec<(&'static str, u64, u64)>,
}

impl CauseCounts {
    /// Counts a verdict.
    pub fn add(&mut self, cause: &'static str, masked: bool) {
        self.put(cause, 1, u64::from(masked));
    }

    /// Verdicts of a cause.
    #[must_use]
    pub fn of(&self, cause: &str) -> u64 {
        let found = self.counts.iter().find(|(id, _, _)| *id == cause);
        found.map_or(0, |(_, count, _)| *count)
    }

    /// All verdicts.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|(_, count, _)| count).sum()
    }

    /// All that a retry hid.
    #[must_use]
    pub fn masked(&self) -> u64 {
        self.counts.iter().map(|(_, _, masked)| masked).sum()
    }

    /// Cause, verdicts, and how many of them a retry hid; the most frequent first.
    #[must_use]
    pub fn ranked(&self) -> Vec<(&'static str, u64, u64)> {
        let mut ranked = self.counts.clone();
        ranked.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        ranked
    }

    fn put(&mut self, cause: &'static str, count: u64, masked: u64) {
        match self.counts.iter_mut().find(|(id, _, _)| *id == cause) {
            Some(entry) => {
                entry.1 += count;
                entry.2 += masked;
            }
            None => self.counts.push((cause, count, masked)),
        }
    }
}

impl Merge for CauseCounts {
    fn merge(&mut self, other: Self) {
        for (cause, count, masked) in other.counts {
            self.put(cause, count, masked);
        }
    }
}
