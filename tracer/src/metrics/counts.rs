//! What is counted of a run: plain numbers that the event loop owns and a snapshot copies. Bounded
//! whatever comes: upstreams by [`Labels`], combinations of labels by [`SERIES`].

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use super::{
    durations::{CONNECT, Durations, FIRST_BYTE},
    labels::Labels,
};
use crate::{
    event::{Connection, Failure, Lost, Time, Upstream},
    series::{Outcome, Timings},
    verdict::{Confidence, Verdict},
};

/// Combinations of labels of failed requests; further ones share `other` and no status.
const SERIES: usize = 4096;

/// The labels of a failed request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Failed {
    pub(super) cause: &'static str,
    /// `None`: not known, or a combination too many.
    pub(super) status: Option<u16>,
    pub(super) confidence: Confidence,
    pub(super) upstream: Arc<str>,
}

/// What became of the attempts at one upstream.
#[derive(Debug, Clone)]
pub(super) struct Traffic {
    attempts: [u64; Outcome::ALL.len()],
    pub(super) connect: Durations<{ CONNECT.len() }>,
    pub(super) first_byte: Durations<{ FIRST_BYTE.len() }>,
    /// Whose accept queue may be asked about: the upstream, and a worker that uses it.
    pub(super) used_by: Option<(Upstream, u32)>,
}

impl Traffic {
    fn new() -> Self {
        Self {
            attempts: [0; Outcome::ALL.len()],
            connect: Durations::new(&CONNECT),
            first_byte: Durations::new(&FIRST_BYTE),
            used_by: None,
        }
    }

    /// How many attempts came out each way.
    pub(super) fn attempts(&self) -> impl Iterator<Item = (Outcome, u64)> {
        Outcome::ALL.into_iter().zip(self.attempts)
    }
}

/// What was left out on purpose, and what was lost.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gaps {
    pub(super) lost: u64,
    pub(super) skipped: u64,
    pub(super) connections: u64,
    pub(super) details: u64,
    pub(super) failures: u64,
}

/// All counts.
#[derive(Debug)]
pub(super) struct Counts {
    labels: Labels,
    /// Room for a name, so that none is made for each connection.
    name: String,
    pub(super) failed: BTreeMap<Failed, u64>,
    pub(super) masked: BTreeMap<Failed, u64>,
    pub(super) upstreams: BTreeMap<Arc<str>, Traffic>,
    pub(super) gaps: Gaps,
}

impl Counts {
    /// With labels for so many upstreams.
    pub(super) fn new(upstreams: usize) -> Self {
        Self {
            labels: Labels::new(upstreams),
            name: String::new(),
            failed: BTreeMap::new(),
            masked: BTreeMap::new(),
            upstreams: BTreeMap::new(),
            gaps: Gaps::default(),
        }
    }

    /// How many upstreams share `other`.
    pub(super) fn folded(&self) -> usize {
        self.labels.folded()
    }

    /// A process ended; its number may soon be another's.
    pub(super) fn ended(&mut self, pid: u32) {
        let used = self.upstreams.values_mut().map(|one| &mut one.used_by);
        used.filter(|used| used.as_ref().is_some_and(|(_, worker)| *worker == pid))
            .for_each(|used| *used = None);
    }

    /// A connection ended.
    pub(super) fn connection(&mut self, c: &Connection) {
        // Unused since tracing began, or it comes again at its end.
        if c.request.is_none() || c.open {
            return;
        }
        let traffic = self.traffic(&c.remote, c.worker, c.closed);
        traffic.attempts[Outcome::of(c) as usize] += 1;
        // A connection is used again only after it answered.
        traffic.attempts[Outcome::Answered as usize] += u64::from(c.reuses);
        let timings = Timings::of(c);
        if let Some((_, took)) = timings.connect {
            traffic.connect.add(took);
        }
        if let Some((_, took)) = timings.first_byte {
            traffic.first_byte.add(took);
        }
    }

    /// `connect()` itself failed.
    pub(super) fn failure(&mut self, failure: &Failure) {
        if let Some(upstream) = &failure.upstream {
            let traffic = self.traffic(upstream, failure.worker, failure.at);
            traffic.attempts[Outcome::NotConnected as usize] += 1;
        }
    }

    /// Records are missing.
    pub(super) fn lost(&mut self, lost: &Lost) {
        let gaps = &mut self.gaps;
        let skipped = lost.skipped.iter().map(|one| one.runs);
        for (count, more) in [
            (&mut gaps.lost, lost.events),
            (&mut gaps.skipped, skipped.fold(0, u64::saturating_add)),
            (&mut gaps.connections, lost.healthy),
            (&mut gaps.details, lost.bare),
            (&mut gaps.failures, lost.unexplained),
        ] {
            *count = count.saturating_add(more);
        }
    }

    /// A request failed, or a failure was masked.
    pub(super) fn verdict(&mut self, verdict: &Verdict) {
        let upstream = match &verdict.upstream {
            Some(upstream) => self.label(upstream, verdict.time),
            None => self.labels.none(),
        };
        let failed = Failed {
            cause: verdict.cause,
            status: verdict.status.filter(|status| *status < 600),
            confidence: verdict.confidence,
            upstream,
        };
        let counts = match verdict.masked {
            true => &mut self.masked,
            false => &mut self.failed,
        };
        let is_one_too_many = counts.len() >= SERIES && !counts.contains_key(&failed);
        let failed = match is_one_too_many {
            true => Failed {
                status: None,
                upstream: self.labels.other(),
                ..failed
            },
            false => failed,
        };
        *counts.entry(failed).or_default() += 1;
    }

    fn traffic(&mut self, upstream: &Upstream, worker: u32, at: Time) -> &mut Traffic {
        let mut name = std::mem::take(&mut self.name);
        name.clear();
        // Writing to a String never fails.
        let _ = write!(name, "{upstream}");
        let label = self.label(&name, at);
        self.name = name;
        let is_other = label == self.labels.other();
        let traffic = self.upstreams.entry(label).or_insert_with(Traffic::new);
        match &mut traffic.used_by {
            _ if is_other => {}
            Some((_, user)) => *user = worker,
            none => *none = Some((upstream.clone(), worker)),
        }
        traffic
    }

    fn label(&mut self, name: &str, at: Time) -> Arc<str> {
        let label = self.labels.of(name, at);
        if let Some(dropped) = label.dropped {
            self.upstreams.remove(&dropped);
            self.failed.retain(|failed, _| failed.upstream != dropped);
            self.masked.retain(|failed, _| failed.upstream != dropped);
        }
        label.label
    }
}
