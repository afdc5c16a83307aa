//! Accept queues of listeners, as far as the host was asked about them: when a SYN was sent again,
//! or a connection failed. Nothing is known of the time between.

use std::collections::HashMap;

use super::{COARSE, Merge, Timeline};
use crate::event::{
    Clock, Fact, Question,
    fact::{Finding, Listener},
};

/// Listeners kept apart; those that come later are counted.
const LISTENERS: usize = 256;

/// A queue at its fullest within a span of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Connections waiting for `accept()` (`sk_ack_backlog`).
    pub queue: u32,
    /// `sk_max_ack_backlog` at that moment; full means `queue > limit`.
    pub limit: u32,
    /// It was asked about within the span.
    pub asked: bool,
}

impl Depth {
    /// Share of the limit, in thousandths.
    #[must_use]
    pub fn fullness(&self) -> u64 {
        u64::from(self.queue) * 1000 / u64::from(self.limit.max(1))
    }
}

impl Merge for Depth {
    fn merge(&mut self, other: Self) {
        if !self.asked || (other.asked && other.fullness() > self.fullness()) {
            *self = other;
        }
    }
}

/// The queues of all listeners that were asked about.
#[derive(Debug, Default)]
pub struct Queues {
    each: HashMap<String, Timeline<Depth, COARSE>>,
    /// Answers about listeners that came when there were too many.
    pub left_out: u64,
}

impl Queues {
    pub(super) fn fact(&mut self, fact: &Fact, clock: &Clock) {
        let Some((name, depth)) = depth_of(fact) else {
            return;
        };
        if self.each.len() == LISTENERS && !self.each.contains_key(&name) {
            self.left_out += 1;
            return;
        }
        let depths = self.each.entry(name).or_default();
        depths.at(clock.unix_nanos(fact.at)).merge(depth);
    }

    /// The first `count`, fullest first, and how many more there are.
    #[must_use]
    pub fn ranked(&self, count: usize) -> (Vec<(&str, &Timeline<Depth, COARSE>)>, usize) {
        let fullest = |depths: &Timeline<Depth, COARSE>| {
            depths.iter().map(|(_, depth)| depth.fullness()).max()
        };
        let mut ranked: Vec<_> = self
            .each
            .iter()
            .map(|(name, one)| (name.as_str(), one))
            .collect();
        ranked.sort_by(|a, b| fullest(b.1).cmp(&fullest(a.1)).then_with(|| a.0.cmp(b.0)));
        let more = ranked.len().saturating_sub(count);
        ranked.truncate(count);
        (ranked, more)
    }
}

/// The queue that an answer of the host's is about, by its listener's name.
#[must_use]
pub(crate) fn depth_of(fact: &Fact) -> Option<(String, Depth)> {
    match (&fact.question, &fact.finding) {
        (Question::Listener { address, .. }, Ok(Finding::Listener(view))) => {
            let depths = view.exact.iter().map(depth);
            let fullest = depths.max_by_key(Depth::fullness)?;
            Some((address.to_string(), fullest))
        }
        (Question::UnixPath { path, .. }, Ok(Finding::UnixPath(view))) => {
            let listener = view.listener.as_ref()?;
            Some((format!("unix:{path}"), depth(listener)))
        }
        _ => None,
    }
}

fn depth(listener: &Listener) -> Depth {
    Depth {
        queue: listener.queue,
        limit: listener.limit,
        asked: true,
    }
}
