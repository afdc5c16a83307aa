//! The table at the end of a run: which causes, towards which upstreams, how often.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use super::{
    clean,
    coverage::Seen,
    notice,
    text::{Ink, Style, status},
};
use crate::{
    event::{Clock, Coverage, Lost, Notice, Time},
    plural::count,
    verdict::Verdict,
};

/// Rows kept; what comes beyond is counted as `other`.
const ROWS: usize = 1000;
/// Columns that a long upstream may take.
const WIDEST: usize = 48;

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    masked: bool,
    cause: &'static str,
    status: Option<u16>,
    upstream: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    count: u64,
    first: Time,
    last: Time,
}

/// Counts verdicts; bounded, however many kinds come.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    rows: HashMap<Key, Row>,
    failed: u64,
    masked: u64,
    not_chosen: u64,
    unread: u64,
    unsent: u64,
    refused: u64,
    lost: u64,
    skipped: u64,
    given_up: u64,
    forgotten: u64,
    healthy_left_out: u64,
    details_left_out: u64,
    failed_left_out: u64,
    notices: Vec<Notice>,
    seen: Seen,
}

/// Notices kept for the table; a run with more has said them as they came.
const NOTICES: usize = 100;

impl Summary {
    /// Counts a verdict.
    pub(crate) fn add(&mut self, verdict: &Verdict) {
        if verdict.masked {
            self.masked += 1;
        } else {
            self.failed += 1;
        }
        self.lost = self.lost.max(verdict.lost_events);
        let mut key = Key {
            masked: verdict.masked,
            cause: verdict.cause,
            status: verdict.status,
            upstream: verdict.upstream.clone(),
        };
        if self.rows.len() >= ROWS && !self.rows.contains_key(&key) {
            key = Key {
                masked: verdict.masked,
                cause: "other",
                status: None,
                upstream: None,
            };
        }
        let time = verdict.time;
        let row = self.rows.entry(key).or_insert(Row {
            count: 0,
            first: time,
            last: time,
        });
        row.count += 1;
        row.first = row.first.min(time);
        row.last = row.last.max(time);
    }

    /// A verdict that is hidden by filters: the summary counts it.
    pub(crate) fn pass_over(&mut self) {
        self.not_chosen += 1;
    }

    /// A verdict that was counted and not written: nobody read stdout.
    pub(crate) fn unread(&mut self) {
        self.unread += 1;
    }

    /// Verdicts and notices that did not reach the OTLP collector, and those that it refused.
    pub(crate) fn unsent(&mut self, unsent: u64, refused: u64) {
        self.unsent = unsent;
        self.refused = refused;
    }

    /// Requests whose clients closed the connection before an answer.
    pub(crate) fn given_up(&mut self, requests: u64) {
        self.given_up = requests;
    }

    /// Requests in flight with a failed attempt, dropped for newer ones.
    pub(crate) fn forgotten(&mut self, requests: u64) {
        self.forgotten = requests;
    }

    /// An nginx resource neared its limit, or recovered.
    pub(crate) fn notice(&mut self, notice: Notice) {
        if self.notices.len() < NOTICES {
            self.notices.push(notice);
        }
    }

    /// Whose failures can be seen changed.
    pub(crate) fn coverage(&mut self, coverage: &Coverage) {
        self.seen.add(coverage);
    }

    /// Time passed, in which what is followed stayed so.
    pub(crate) fn until(&mut self, at: Time) {
        self.seen.until(at);
    }

    /// What was only counted: the collector was at its limit.
    pub(crate) fn left_out(&mut self, lost: &Lost) {
        self.healthy_left_out = self.healthy_left_out.saturating_add(lost.healthy);
        self.details_left_out = self.details_left_out.saturating_add(lost.bare);
        self.failed_left_out = self.failed_left_out.saturating_add(lost.unexplained);
    }

    /// Kernel records lost in the run so far.
    pub(crate) fn lost(&mut self, records: u64) {
        self.lost = self.lost.max(records);
    }

    /// Runs of hooks that the kernel skipped.
    pub(crate) fn skipped(&mut self, runs: u64) {
        self.skipped = self.skipped.saturating_add(runs);
    }

    /// Writes the table, the most frequent first, masked failures apart.
    ///
    /// # Errors
    /// Those of the writer.
    pub(crate) fn write(
        &self,
        out: &mut impl Write,
        clock: &Clock,
        style: &Style,
    ) -> io::Result<()> {
        match (self.failed, self.masked) {
            // Nothing was written that an empty line would separate it from.
            (0, 0) => writeln!(out, "{}", self.seen.nothing_failed())?,
            (failed, masked) => {
                writeln!(out)?;
                writeln!(out, "{} failed", count(failed, "request"))?;
                self.table(out, false, clock, style)?;
                if masked > 0 {
                    writeln!(
                        out,
                        "{} failed at first: masked by a retry or another page",
                        count(masked, "request")
                    )?;
                    self.table(out, true, clock, style)?;
                }
            }
        }
        self.seen.write(out, clock, style)?;
        if self.not_chosen > 0 {
            writeln!(
                out,
                "{} hidden by filters",
                count(self.not_chosen, "failed request")
            )?;
        }
        if self.unread > 0 {
            writeln!(
                out,
                "{} counted, not written: stdout was not read",
                count(self.unread, "verdict")
            )?;
        }
        for (count_of, why) in [
            (
                self.unsent,
                "not sent: the OTLP collector did not answer in time",
            ),
            (self.refused, "refused by the OTLP collector"),
        ] {
            if count_of > 0 {
                writeln!(out, "{} {why}", count(count_of, "OTLP log record"))?;
            }
        }
        if self.given_up > 0 {
            writeln!(
                out,
                "{} not answered: client closed the connection (499)",
                count(self.given_up, "request")
            )?;
        }
        if self.forgotten > 0 {
            writeln!(
                out,
                "{} with a failed attempt dropped in flight: too many at a time",
                count(self.forgotten, "request")
            )?;
        }
        for one in &self.notices {
            notice::notice(out, one, clock, style)?;
        }
        if self.healthy_left_out > 0 {
            writeln!(
                out,
                "{} counted, not recorded: tracer was at its limit",
                count(self.healthy_left_out, "healthy connection")
            )?;
        }
        if self.details_left_out > 0 {
            writeln!(
                out,
                "{} may lack their request line, unless nginx's log has it: tracer was at its limit",
                count(self.details_left_out, "verdict")
            )?;
        }
        if self.failed_left_out > 0 {
            writeln!(
                out,
                "{} counted, not explained: tracer was at its limit (--max-cpu, --max-memory)",
                count(self.failed_left_out, "failed attempt")
            )?;
        }
        if self.lost > 0 {
            writeln!(
                out,
                "{} lost: failures may be missing here",
                count(self.lost, "kernel record")
            )?;
        }
        if self.skipped > 0 {
            writeln!(
                out,
                "{} skipped by the kernel: their evidence is missing",
                count(self.skipped, "hook run")
            )?;
        }
        Ok(())
    }

    fn table(
        &self,
        out: &mut impl Write,
        masked: bool,
        clock: &Clock,
        style: &Style,
    ) -> io::Result<()> {
        let mut rows: Vec<(&Key, &Row)> = self
            .rows
            .iter()
            .filter(|(key, _)| key.masked == masked)
            .collect();
        rows.sort_by(|a, b| b.1.count.cmp(&a.1.count).then_with(|| a.0.cmp(b.0)));
        let upstream = |key: &Key| {
            key.upstream
                .as_deref()
                .map_or_else(|| "-".to_owned(), clean::text)
        };
        let causes = rows
            .iter()
            .map(|(key, _)| key.cause.len())
            .max()
            .unwrap_or(0);
        let places = rows
            .iter()
            .map(|(key, _)| upstream(key).chars().count())
            .max()
            .unwrap_or(0)
            .min(WIDEST);
        for (key, row) in rows {
            let (first, last) = (style.time(clock, row.first), style.time(clock, row.last));
            let when = if first == last {
                first
            } else {
                format!("{first} - {last}")
            };
            writeln!(
                out,
                "  {:>7}  {}  {}  {:<places$}  {}",
                row.count,
                status(key.status, false),
                style.ink(Ink::Cause, &format!("{:<causes$}", key.cause)),
                upstream(key),
                style.ink(Ink::Faint, &when)
            )?;
        }
        Ok(())
    }
}
