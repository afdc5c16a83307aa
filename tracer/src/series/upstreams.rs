//! What became of the connections to each upstream. Bounded: the upstreams that fail and are used
//! least are folded into one, and counted.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use super::{COARSE, Histogram, Merge, Timeline};
use crate::event::{Connection, Upstream};

/// Upstreams kept apart after a folding, and how many more may come before the next.
const KEPT: usize = 1024;
/// See [`KEPT`].
const MORE: usize = 1024;
/// Upstreams that are counted separately.
const COUNTED: usize = 65_536;
/// Bytes of durations kept apart; beyond, the half that fails and is used least is folded.
const BYTES: usize = 32 << 20;
/// They are counted each so many connections.
const LOOK: u32 = 4096;

/// How a connection to an upstream went, as far as the kernel shows it. It names no cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The response to its last request began.
    Answered,
    /// The handshake failed: a refusal, an error, or `connect()` itself failed.
    NotConnected,
    /// The handshake got no reply.
    NoReply,
    /// Connected; it was closed or reset, or failed, before a response began.
    BrokenOff,
    /// Connected; no response began until nginx closed it.
    Unanswered,
}

impl Outcome {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::Answered,
        Self::NotConnected,
        Self::NoReply,
        Self::BrokenOff,
        Self::Unanswered,
    ];

    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::NotConnected => "not-connected",
            Self::NoReply => "no-reply",
            Self::BrokenOff => "broken-off",
            Self::Unanswered => "unanswered",
        }
    }

    /// How a connection's last request went.
    #[must_use]
    pub fn of(c: &Connection) -> Self {
        let is_ended = c.fin_received.or(c.rst_received).or(c.end_read).is_some();
        if c.first_byte.is_some() {
            Self::Answered
        } else if c.established.is_some() || c.start.0 == 0 || c.reuses > 0 {
            if is_ended || c.transfer_error.is_some() || c.error.is_some() {
                Self::BrokenOff
            } else {
                Self::Unanswered
            }
        } else if c.rst_received.is_some() || c.error.is_some() || c.icmp_sent.is_some() {
            Self::NotConnected
        } else {
            Self::NoReply
        }
    }
}

/// Counts of outcomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcomes {
    counts: [u64; 5],
    /// How often nginx used a kept-alive connection again.
    pub reused: u64,
}

impl Outcomes {
    pub(super) fn add(&mut self, outcome: Outcome) {
        self.counts[outcome as usize] += 1;
    }

    /// Connections with that outcome.
    #[must_use]
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.counts[outcome as usize]
    }

    /// All connections, and tries that came to none.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All attempts: connections, tries that came to none, and each reuse of a kept-alive
    /// connection.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.total() + self.reused
    }

    /// Attempts with that outcome. A connection is reused only after it answered.
    #[must_use]
    pub fn attempts_of(&self, outcome: Outcome) -> u64 {
        match outcome {
            Outcome::Answered => self.of(outcome) + self.reused,
            _ => self.of(outcome),
        }
    }

    /// Those attempts that were not answered.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.total() - self.of(Outcome::Answered)
    }
}

impl Merge for Outcomes {
    fn merge(&mut self, other: Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.reused += other.reused;
    }
}

/// One upstream.
#[derive(Debug, Clone, Default)]
pub struct UpstreamSeries {
    /// How its connections went.
    pub outcomes: Outcomes,
    /// From `connect()` to the end of the handshake.
    pub connect: Timeline<Histogram, COARSE>,
    /// From `connect()`, or the reuse, to the first byte of the response.
    pub first_byte: Timeline<Histogram, COARSE>,
}

impl UpstreamSeries {
    fn bytes(&self) -> usize {
        let durations = [&self.connect, &self.first_byte].into_iter();
        let spans = durations.flat_map(Timeline::iter);
        let spans = spans.map(|(_, one)| size_of::<Histogram>() + one.bytes());
        size_of::<(Upstream, Self)>() + spans.sum::<usize>()
    }
}

impl Merge for UpstreamSeries {
    fn merge(&mut self, other: Self) {
        self.outcomes.merge(other.outcomes);
        self.connect.merge(other.connect);
        self.first_byte.merge(other.first_byte);
    }
}

/// Upstreams in order, worst first.
#[derive(Debug)]
pub struct Ranking<'a> {
    /// The first.
    pub first: Vec<(&'a Upstream, &'a UpstreamSeries)>,
    /// All others as one.
    pub others: UpstreamSeries,
    /// How many these are.
    pub more: usize,
    /// `false`: there may be more than that.
    pub is_exact: bool,
}

impl Ranking<'_> {
    /// The others' name: `12 others`, `more than 70,000 others`.
    #[must_use]
    pub fn others_name(&self, number: impl Fn(u64) -> String) -> String {
        let more = if self.is_exact { "" } else { "more than " };
        format!("{more}{} others", number(self.more as u64))
    }
}

/// All upstreams.
#[derive(Debug, Default)]
pub struct Upstreams {
    each: HashMap<Upstream, UpstreamSeries>,
    others: UpstreamSeries,
    /// Hashes of those that were folded: to count them.
    folded: HashSet<u64>,
    /// Connections since the bytes were last counted.
    since: u32,
}

fn hash(upstream: &Upstream) -> u64 {
    let mut hasher = DefaultHasher::new();
    upstream.hash(&mut hasher);
    hasher.finish()
}

impl Upstreams {
    pub(super) fn of(&mut self, upstream: &Upstream) -> &mut UpstreamSeries {
        self.since += 1;
        if self.since == LOOK {
            self.since = 0;
            while self.each.len() > 1 && self.bytes() > BYTES {
                self.fold(self.each.len() / 2);
            }
        }
        if self.each.len() == KEPT + MORE && !self.each.contains_key(upstream) {
            self.fold(KEPT);
        }
        self.each.entry(upstream.clone()).or_default()
    }

    /// The first `count` of those that are wanted, most failures first, then most connections, then
    /// by address.
    #[must_use]
    pub fn ranked(&self, count: usize, is_wanted: impl Fn(&UpstreamSeries) -> bool) -> Ranking<'_> {
        let mut first: Vec<_> = self.each.iter().filter(|(_, one)| is_wanted(one)).collect();
        first.sort_by(|a, b| rank(a.1).cmp(&rank(b.1)).then_with(|| a.0.cmp(b.0)));
        let rest = first.split_off(count.min(first.len()));
        let again = self.each.keys().map(hash);
        let again = again.filter(|one| self.folded.contains(one)).count();
        let mut ranking = Ranking {
            first,
            more: rest.len() + self.folded.len() - again,
            is_exact: self.folded.len() < COUNTED,
            others: self.others.clone(),
        };
        for (_, series) in rest {
            ranking.others.merge(series.clone());
        }
        ranking
    }

    /// All as one.
    #[must_use]
    pub fn total(&self) -> Outcomes {
        let mut total = self.others.outcomes;
        self.each.values().for_each(|one| total.merge(one.outcomes));
        total
    }

    fn bytes(&self) -> usize {
        self.each.values().map(UpstreamSeries::bytes).sum()
    }

    /// Folds all but so many.
    fn fold(&mut self, kept: usize) {
        let mut ranked: Vec<_> = self.each.drain().collect();
        ranked.sort_by(|a, b| rank(&a.1).cmp(&rank(&b.1)).then_with(|| a.0.cmp(&b.0)));
        for (upstream, series) in ranked.drain(kept..) {
            self.others.merge(series);
            if self.folded.len() < COUNTED {
                self.folded.insert(hash(&upstream));
            }
        }
        self.each.extend(ranked);
    }
}

/// Worst first.
fn rank(series: &UpstreamSeries) -> (std::cmp::Reverse<u64>, std::cmp::Reverse<u64>) {
    let outcomes = &series.outcomes;
    (
        std::cmp::Reverse(outcomes.failed()),
        std::cmp::Reverse(outcomes.total()),
    )
}
