//! When to ask the kernel for the runs that it skipped: before judging anything that they could
//! have reported, else now and then.

use std::collections::HashMap;

use crate::{
    event::{Skipped, Time},
    probe::Probes,
    source::clock,
};

/// Nanoseconds between two looks while nothing comes that could be judged.
const LOOK: u64 = 200_000_000;

/// What was known at the last look.
#[derive(Debug)]
pub(super) struct Skips {
    looked: Time,
    runs: HashMap<&'static str, u64>,
}

impl Skips {
    /// From now on.
    pub(super) fn new() -> Self {
        Self {
            looked: clock::now(),
            runs: HashMap::new(),
        }
    }

    /// What was skipped since the last look, if there is to be one.
    pub(super) fn look(&mut self, probes: &Probes, is_due: bool) -> Vec<Skipped> {
        let now = clock::now();
        if !is_due && now.since(self.looked) < LOOK {
            return Vec::new();
        }
        let since = std::mem::replace(&mut self.looked, now);
        let mut skipped = Vec::new();
        for (hook, runs) in probes.skipped() {
            let before = self.runs.insert(hook, runs).unwrap_or(0);
            if runs > before {
                skipped.push(Skipped {
                    hook: hook.to_owned(),
                    runs: runs - before,
                    since,
                });
            }
        }
        skipped.sort_by(|one, other| one.hook.cmp(&other.hook));
        skipped
    }
}
