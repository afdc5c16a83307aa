//! What is missing in the stream: records that were lost, for the rest of the run, and runs of
//! hooks that the kernel skipped, for the requests that lasted then.

use std::collections::VecDeque;

use crate::event::{Lost, Skipped, Time};

/// Looks that found skipped runs and are kept apart; earlier ones are joined, and so touch more
/// requests, never fewer.
const LOOKS: usize = 64;
/// Hooks counted separately: more than there are. Runs of others are counted to the last.
const HOOKS: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Losses {
    records: u64,
    /// By the time of the look, oldest first.
    skipped: VecDeque<(Time, Vec<Skipped>)>,
}

impl Losses {
    pub(super) fn add(&mut self, lost: Lost) {
        self.records = self.records.saturating_add(lost.events);
        if lost.skipped.is_empty() {
            return;
        }
        let mut skipped = Vec::new();
        join(&mut skipped, &lost.skipped);
        self.skipped.push_back((lost.at, skipped));
        if self.skipped.len() > LOOKS
            && let Some((_, oldest)) = self.skipped.pop_front()
            && let Some((_, next)) = self.skipped.front_mut()
        {
            join(next, &oldest);
        }
    }

    /// Records lost so far in this run.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// What was skipped since then, once for each hook.
    pub(super) fn skipped(&self, begun: Time) -> Vec<Skipped> {
        let mut all = Vec::new();
        for (_, some) in self.skipped.iter().filter(|(until, _)| *until >= begun) {
            join(&mut all, some);
        }
        all
    }
}

/// What was skipped during two parts of a request, which may overlap.
pub(super) fn either(mut one: Vec<Skipped>, other: Vec<Skipped>) -> Vec<Skipped> {
    for skipped in other {
        let known = one.iter().position(|same| same.hook == skipped.hook);
        match known.or((one.len() >= HOOKS).then_some(HOOKS - 1)) {
            Some(at) => one[at].runs = one[at].runs.max(skipped.runs),
            None => one.push(skipped),
        }
    }
    one
}

fn join(all: &mut Vec<Skipped>, others: &[Skipped]) {
    for one in others {
        let is_full = all.len() >= HOOKS;
        let known = all.iter().position(|other| other.hook == one.hook);
        match known.or(is_full.then_some(HOOKS - 1)) {
            Some(at) => {
                let other = &mut all[at];
                other.runs = other.runs.saturating_add(one.runs);
                other.since = other.since.min(one.since);
            }
            None => all.push(one.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skipped(hook: &str, runs: u64) -> Skipped {
        Skipped {
            hook: hook.to_owned(),
            runs,
            since: Time(0),
        }
    }

    fn look(losses: &mut Losses, at: u64, hook: &str) {
        losses.add(Lost {
            at: Time(at),
            skipped: vec![skipped(hook, 1)],
            ..Lost::default()
        });
    }

    #[test]
    fn a_skipped_run_touches_what_lasted_then_and_nothing_later() {
        let mut losses = Losses::default();
        look(&mut losses, 10, "sent");
        look(&mut losses, 20, "received");
        look(&mut losses, 30, "sent");
        assert_eq!(losses.skipped(Time(31)), []);
        assert_eq!(losses.skipped(Time(30)), [skipped("sent", 1)]);
        let all = [skipped("sent", 2), skipped("received", 1)];
        assert_eq!(losses.skipped(Time(0)), all);
        assert_eq!(losses.records(), 0);
    }

    #[test]
    fn of_many_looks_none_is_forgotten() {
        let mut losses = Losses::default();
        (0..1000).for_each(|at| look(&mut losses, at, "sent"));
        assert_eq!(losses.skipped.len(), LOOKS);
        assert_eq!(losses.skipped(Time(0)), [skipped("sent", 1000)]);
        // The first hundreds were joined to a later look.
        assert_eq!(losses.skipped(Time(999)), [skipped("sent", 1)]);
    }
}
