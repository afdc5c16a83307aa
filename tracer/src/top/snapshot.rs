//! What is shown at a moment: to people by the view, to machines as one JSON object whose names are
//! a contract.

use std::io::{self, Write};

use jiff::Timestamp;
use serde::{Serialize, ser::SerializeSeq as _};

use super::{
    model::{Kept, Model, Queue, UpstreamCounts},
    spans::{SPANS, Span},
};
use crate::{clean, render::json};

/// Upstreams and listeners that are given.
const ROWS: usize = 100;
/// Causes of an upstream that are given.
const CAUSES: usize = 5;

/// All that is shown.
#[derive(Debug, Serialize)]
pub(crate) struct Snapshot {
    kind: &'static str,
    /// `live`, or `capture`.
    source: &'static str,
    /// The first and the last moment that were seen.
    pub(crate) since: Option<String>,
    pub(crate) time: Option<String>,
    /// Over how many seconds `attempts`, `failed` and durations are counted.
    pub(crate) window_seconds: f64,
    /// Failed requests since the start, and those of which the client noticed nothing.
    pub(crate) failed_requests: u64,
    pub(crate) masked_requests: u64,
    /// Attempts within the window.
    pub(crate) attempts: u64,
    pub(crate) failed_attempts: u64,
    pub(crate) lost_events: u64,
    /// Failed requests within the window, by cause.
    pub(crate) causes: Vec<CauseRow>,
    /// The worst first.
    pub(crate) upstreams: Vec<UpstreamRow>,
    pub(crate) more_upstreams: usize,
    /// The fullest first.
    pub(crate) queues: Vec<QueueRow>,
    /// The newest last.
    pub(crate) notices: Vec<String>,
    /// The newest first.
    #[serde(serialize_with = "verdicts")]
    pub(crate) verdicts: Vec<Kept>,
}

/// So many have this cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct CauseRow {
    pub(crate) cause: &'static str,
    pub(crate) count: u64,
}

/// One upstream.
#[derive(Debug, Serialize)]
pub(crate) struct UpstreamRow {
    pub(crate) upstream: String,
    pub(crate) attempts: u64,
    pub(crate) failed: u64,
    /// Of the attempts; `None`: fewer were counted than failed.
    pub(crate) failed_share: Option<f64>,
    pub(crate) causes: Vec<CauseRow>,
    /// Time to the first byte, in milliseconds.
    pub(crate) first_byte_p50_ms: Option<f64>,
    pub(crate) first_byte_p99_ms: Option<f64>,
    /// Its 95th percentile by time, the oldest first.
    pub(crate) first_byte_p95_ms: Vec<Option<f64>>,
}

/// An accept queue.
#[derive(Debug, Serialize)]
pub(crate) struct QueueRow {
    pub(crate) listener: String,
    pub(crate) queue: u32,
    pub(crate) limit: u32,
    pub(crate) fullest: u32,
    pub(crate) fullest_limit: u32,
}

/// Verdicts as `--format json` of `live` has them.
fn verdicts<S: serde::Serializer>(kept: &[Kept], serializer: S) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(Some(kept.len()))?;
    for one in kept {
        list.serialize_element(&json::object(&one.verdict, &one.host, &one.clock))?;
    }
    list.end()
}

fn ms(nanoseconds: u64) -> f64 {
    // Hundredths: no more is meant.
    (nanoseconds as f64 / 1e4).round() / 100.0
}

fn quantile(span: &Span, q: f64) -> Option<f64> {
    span.first_byte.quantile(q).map(ms)
}

fn rows(span: &Span, most: usize) -> Vec<CauseRow> {
    let ranked = span.causes.ranked().into_iter().take(most);
    let rows = ranked.map(|(cause, count, _)| CauseRow { cause, count });
    rows.collect()
}

fn rfc3339(unix: u64) -> String {
    let time = Timestamp::from_nanosecond(i128::from(unix)).unwrap_or_default();
    format!("{time:.3}")
}

impl Model {
    /// Returns what is to be shown now.
    pub(crate) fn snapshot(&mut self) -> Snapshot {
        let now = self.seen.map_or(0, |(_, last)| last);
        self.requests.advance(now);
        for counts in self.upstreams.values_mut() {
            counts.spans.advance(now);
        }
        let mut ranked: Vec<(&String, &UpstreamCounts, (u64, u64))> = self
            .upstreams
            .iter()
            .map(|(name, counts)| (name, counts, counts.spans.counts()))
            .filter(|(.., counts)| *counts != (0, 0))
            .collect();
        ranked.sort_by(|a, b| worse(a.2, b.2).then_with(|| a.0.cmp(b.0)));
        let (attempts, failed) = ranked.iter().fold((0, 0), |sum, (.., counts)| {
            (sum.0 + counts.0.max(counts.1), sum.1 + counts.1)
        });
        let more_upstreams = ranked.len().saturating_sub(ROWS);
        ranked.truncate(ROWS);
        let mut queues: Vec<(&String, &Queue)> = self.queues.iter().collect();
        queues.sort_by(|a, b| {
            let full = |queue: &Queue| (queue.now.fullness(), queue.fullest.fullness());
            full(b.1).cmp(&full(a.1)).then_with(|| a.0.cmp(b.0))
        });
        let seconds = |nanoseconds: u64| (nanoseconds as f64 / 1e7).round() / 100.0;
        let span = self.seen.map_or(0, |(first, last)| last - first);
        Snapshot {
            kind: "top",
            source: if self.is_live { "live" } else { "capture" },
            since: self.seen.map(|(first, _)| rfc3339(first)),
            time: self.seen.map(|(_, last)| rfc3339(last)),
            window_seconds: match self.is_live {
                true => seconds(span.min(self.requests.width() * SPANS as u64)),
                false => seconds(span),
            },
            failed_requests: self.failed,
            masked_requests: self.masked,
            attempts,
            failed_attempts: failed,
            lost_events: self.lost,
            causes: rows(&self.requests.total(), usize::MAX),
            upstreams: ranked.iter().map(|one| row(one.0, one.1)).collect(),
            more_upstreams,
            queues: queues
                .iter()
                .take(ROWS)
                .map(|one| queue(one.0, one.1))
                .collect(),
            notices: self.notices.iter().cloned().collect(),
            verdicts: self.verdicts.iter().rev().cloned().collect(),
        }
    }
}

/// More failures of its attempts, then more failures, then more attempts.
fn worse(a: (u64, u64), b: (u64, u64)) -> std::cmp::Ordering {
    let share = |(attempts, failed): (u64, u64)| failed * 1_000_000 / attempts.max(failed).max(1);
    share(b)
        .cmp(&share(a))
        .then(b.1.cmp(&a.1))
        .then(b.0.cmp(&a.0))
}

fn row(name: &str, counts: &UpstreamCounts) -> UpstreamRow {
    let total = counts.spans.total();
    let is_counted = total.attempts >= total.failed && total.attempts > 0;
    let share = || total.failed as f64 / total.attempts as f64;
    UpstreamRow {
        upstream: clean::cut(name),
        attempts: total.attempts,
        failed: total.failed,
        failed_share: is_counted.then(|| (share() * 1e4).round() / 1e4),
        causes: rows(&total, CAUSES),
        first_byte_p50_ms: quantile(&total, 0.5),
        first_byte_p99_ms: quantile(&total, 0.99),
        first_byte_p95_ms: counts
            .spans
            .iter()
            .map(|span| quantile(span, 0.95))
            .collect(),
    }
}

fn queue(name: &str, queue: &Queue) -> QueueRow {
    QueueRow {
        listener: clean::cut(name),
        queue: queue.now.queue,
        limit: queue.now.limit,
        fullest: queue.fullest.queue,
        fullest_limit: queue.fullest.limit,
    }
}

impl Snapshot {
    /// Writes it as one line of JSON.
    ///
    /// # Errors
    /// Those of the writer.
    pub(crate) fn json(&self, out: &mut impl Write) -> io::Result<()> {
        let line = serde_json::to_string(self).map_err(io::Error::other)?;
        writeln!(out, "{}", clean::escaped(line))
    }
}
