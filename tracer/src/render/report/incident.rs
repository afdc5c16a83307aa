//! What the verdicts of a capture say together. Bounded: bursts are folded as `live` folds them,
//! and what is beyond the bounds is counted.

use std::collections::{BTreeMap, HashMap};

use crate::{
    event::{Clock, Event, Heap as _, Notice, ProcessKind, Time},
    render::{Fold, Folder},
    verdict::{Confidence, Verdict},
};

/// Requests and counts shown one by one.
const SHOWN: usize = 150;
/// Bytes of these; a request has some KB.
const BYTES: usize = 8 << 20;
/// Statuses of a cause that are counted apart.
const STATUSES: usize = 16;
/// Upstreams of a cause that are counted apart.
const UPSTREAMS: usize = 256;
/// Facts that are not visible, and workers that died, each named so often.
const NAMED: usize = 20;

/// All verdicts of one cause.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) count: u64,
    pub(super) masked: u64,
    pub(super) first: Time,
    pub(super) last: Time,
    /// By confidence: unknown, inferred, proven.
    pub(super) sure: [u64; 3],
    pub(super) statuses: BTreeMap<Option<u16>, u64>,
    /// Verdicts with statuses beyond [`STATUSES`].
    pub(super) other_statuses: u64,
    upstreams: HashMap<Option<String>, u64>,
    /// Verdicts on upstreams beyond [`UPSTREAMS`].
    elsewhere: u64,
    /// The surest one, the first of these.
    pub(super) example: Verdict,
}

impl Story {
    fn new(verdict: &Verdict) -> Self {
        Self {
            count: 0,
            masked: 0,
            first: verdict.time,
            last: verdict.time,
            sure: [0; 3],
            statuses: BTreeMap::new(),
            other_statuses: 0,
            upstreams: HashMap::new(),
            elsewhere: 0,
            example: verdict.clone(),
        }
    }

    fn add(&mut self, verdict: &Verdict) {
        self.count += 1;
        self.masked += u64::from(verdict.masked);
        self.first = self.first.min(verdict.time);
        self.last = self.last.max(verdict.time);
        self.sure[verdict.confidence as usize] += 1;
        if self.statuses.len() < STATUSES || self.statuses.contains_key(&verdict.status) {
            *self.statuses.entry(verdict.status).or_default() += 1;
        } else {
            self.other_statuses += 1;
        }
        if self.upstreams.len() < UPSTREAMS || self.upstreams.contains_key(&verdict.upstream) {
            *self.upstreams.entry(verdict.upstream.clone()).or_default() += 1;
        } else {
            self.elsewhere += 1;
        }
        if verdict.confidence > self.example.confidence {
            self.example = verdict.clone();
        }
    }

    /// Upstreams and their verdicts, the most frequent first; `None` where nginx tried none. Then
    /// how many verdicts are on others than these.
    pub(super) fn upstreams(&self, most: usize) -> (Vec<(Option<&str>, u64)>, u64) {
        let mut ranked: Vec<_> = self
            .upstreams
            .iter()
            .map(|(name, count)| (name.as_deref(), *count))
            .collect();
        ranked.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        let rest = ranked
            .drain(most.min(ranked.len())..)
            .map(|(_, count)| count)
            .sum::<u64>();
        (ranked, rest + self.elsewhere)
    }
}

/// One entry of the list of requests.
#[derive(Debug)]
pub(super) enum Shown {
    /// A request in full.
    Request(Box<Verdict>),
    /// So many more like one above.
    More(Fold),
}

/// A worker that did not end by itself.
#[derive(Debug)]
pub(super) struct Crash {
    pub(super) at: Time,
    pub(super) pid: u32,
    pub(super) signal: u32,
}

/// What the verdicts say.
#[derive(Debug)]
pub(crate) struct Incident {
    /// The clock of all times in here.
    pub(super) clock: Clock,
    pub(super) failed: u64,
    pub(super) masked: u64,
    pub(super) causes: BTreeMap<&'static str, Story>,
    pub(super) shown: Vec<Shown>,
    /// Failed requests that `shown` neither shows nor counts.
    pub(super) left_out: u64,
    /// What verdicts needed and was not to be seen, and for how many of them.
    pub(super) unseen: Vec<(String, u64)>,
    pub(super) crashes: Vec<Crash>,
    /// Resources of nginx that were near their limits.
    pub(super) notices: Vec<Notice>,
    folder: Folder,
    /// Bytes of the requests shown.
    bytes: usize,
}

impl Incident {
    /// Nothing yet; all times that come are of this clock.
    #[must_use]
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            failed: 0,
            masked: 0,
            causes: BTreeMap::new(),
            shown: Vec::new(),
            left_out: 0,
            unseen: Vec::new(),
            crashes: Vec::new(),
            notices: Vec::new(),
            folder: Folder::default(),
            bytes: 0,
        }
    }

    /// Takes a verdict.
    pub(crate) fn verdict(&mut self, verdict: &Verdict) {
        if verdict.masked {
            self.masked += 1;
        } else {
            self.failed += 1;
        }
        let story = self
            .causes
            .entry(verdict.cause)
            .or_insert_with(|| Story::new(verdict));
        story.add(verdict);
        if verdict.confidence < Confidence::Proven {
            self.out_of_sight(verdict);
        }
        let (folds, shown) = self.folder.take(verdict);
        folds.into_iter().for_each(|fold| self.fold(fold));
        if shown {
            let bytes = self.bytes + verdict.heap();
            if self.shown.len() < SHOWN && bytes <= BYTES {
                self.bytes = bytes;
                self.shown.push(Shown::Request(Box::new(verdict.clone())));
            } else {
                self.left_out += 1;
            }
        }
    }

    /// Takes an event, `at` on the incident's own clock.
    pub(crate) fn event(&mut self, event: &Event, at: Time) {
        if let Event::Notice(one) = event
            && self.notices.len() < NAMED
        {
            self.notices.push(Notice { at, ..one.clone() });
        }
        if let Event::Process(process) = event
            && let ProcessKind::Exited { code } = process.kind
            && code & 0x7f != 0
            && self.crashes.len() < NAMED
        {
            self.crashes.push(Crash {
                at,
                pid: process.pid,
                signal: code & 0x7f,
            });
        }
    }

    /// The end: what was counted last.
    pub(crate) fn finish(&mut self) {
        let folds = self.folder.finish();
        folds.into_iter().for_each(|fold| self.fold(fold));
    }

    /// All verdicts.
    pub(super) fn total(&self) -> u64 {
        self.failed + self.masked
    }

    /// The causes, the most frequent first.
    pub(super) fn ranked(&self) -> Vec<(&'static str, &Story)> {
        let mut ranked: Vec<_> = self.causes.iter().map(|(id, story)| (*id, story)).collect();
        ranked.sort_by_key(|(_, story)| std::cmp::Reverse(story.count));
        ranked
    }

    /// The first and the last failure.
    pub(super) fn span(&self) -> Option<(Time, Time)> {
        let first = self.causes.values().map(|story| story.first).min()?;
        let last = self.causes.values().map(|story| story.last).max()?;
        Some((first, last))
    }

    fn fold(&mut self, fold: Fold) {
        // Of the kinds that are shown, counts are few: a burst in progress is one entry.
        if let Some(Shown::More(last)) = self.shown.last_mut()
            && (last.cause, &last.upstream) == (fold.cause, &fold.upstream)
        {
            last.count += fold.count;
            last.until = fold.until;
        } else if self.shown.len() < SHOWN {
            self.shown.push(Shown::More(fold));
        } else {
            self.left_out += fold.count;
        }
    }

    fn out_of_sight(&mut self, verdict: &Verdict) {
        for evidence in verdict
            .evidence
            .iter()
            .filter(|evidence| evidence.event == "unseen")
        {
            let known = self
                .unseen
                .iter()
                .position(|(text, _)| *text == evidence.text);
            match known {
                Some(index) => self.unseen[index].1 += 1,
                None if self.unseen.len() < NAMED => self.unseen.push((evidence.text.clone(), 1)),
                None => {}
            }
        }
    }
}
