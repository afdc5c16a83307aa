//! Which nginx's failures are visible: a line for each change, and its part of the summary.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::text::{Ink, Style};
use crate::{
    clean,
    event::{Clock, Coverage, Time, coverage::Change},
    plural::count,
};

/// Times without any nginx that the summary lists; more are summed up.
const GAPS: usize = 20;
/// Likewise, nginx whose failures are not visible.
const BLIND: usize = 20;

/// Writes a change; those that another line reports write nothing.
///
/// # Errors
/// Those of the writer.
pub(crate) fn coverage(
    out: &mut impl Write,
    coverage: &Coverage,
    clock: &Clock,
    style: &Style,
) -> io::Result<()> {
    let Some(text) = sentence(&coverage.change, coverage.at) else {
        return Ok(());
    };
    writeln!(
        out,
        "{}  {}  {text}",
        style.time(clock, coverage.at),
        style.ink(Ink::Hidden, "notice"),
    )
}

pub(crate) fn sentence(change: &Change, at: Time) -> Option<String> {
    Some(match change {
        Change::Something { .. } => return None,
        Change::Nothing => "the last traced nginx exited: waiting for the next".to_owned(),
        Change::Follows {
            pid,
            program,
            workers,
            ..
        } => format!(
            "tracing {} of {} (master {pid})",
            count(*workers, "worker"),
            name(program)
        ),
        Change::Ends { pid, program } => format!("{} (master {pid}) exited", name(program)),
        Change::Late {
            pid,
            program,
            since,
        } => format!(
            "attached to {} {} after pid {pid} started it: earlier failures were missed",
            name(program),
            duration(at.since(*since))
        ),
        Change::Blind {
            pid, program, why, ..
        } => format!(
            "blind: failures of {} (master {pid}) are not visible: {}; see `tracer doctor`",
            name(program),
            clean::text(why)
        ),
        Change::Alone { pid, program, why } => format!(
            "failures of {} (master {pid}) are reported from the kernel and the error log alone: {}; see `tracer doctor`",
            name(program),
            clean::text(why)
        ),
        Change::Layout {
            pid,
            program,
            is_found: true,
        } => format!(
            "{} (worker {pid}) has another object layout than its version implies: offsets were found in its memory",
            name(program)
        ),
        Change::Layout {
            pid,
            program,
            is_found: false,
        } => format!(
            "{} (worker {pid}) has another object layout than its version implies, and its memory does not show which: requests cannot be joined to their attempts, so causes may be unexplained; see `tracer doctor`",
            name(program)
        ),
        Change::Refused { pid, processes } => format!(
            "{} of master {pid} not followed: too many; their failures are not visible",
            count(*processes, "process")
        ),
    })
}

/// `nginx/1.22.1`, as people write it.
fn name(program: &str) -> String {
    clean::text(&program.replacen('/', " ", 1))
}

fn duration(nanoseconds: u64) -> String {
    match nanoseconds {
        0..10_000_000_000 => format!("{:.0} ms", nanoseconds as f64 / 1e6),
        _ => format!("{:.1} s", nanoseconds as f64 / 1e9),
    }
}

/// What was visible in a run.
#[derive(Debug, Default)]
pub(super) struct Seen {
    has_covered: bool,
    /// Since when no nginx is traced.
    nothing: Option<Time>,
    /// The last event's time.
    last: Time,
    gaps: Vec<(Time, Time)>,
    more: u64,
    more_time: u64,
    blind: BTreeMap<u32, (String, String)>,
    late: u64,
    late_most: u64,
    refused: u64,
}

impl Seen {
    pub(super) fn add(&mut self, coverage: &Coverage) {
        match &coverage.change {
            Change::Nothing => self.nothing = self.nothing.or(Some(coverage.at)),
            Change::Something { since } | Change::Follows { since, .. } => {
                self.has_covered = true;
                if let Some(from) = self.nothing.take() {
                    let to = (*since).max(from);
                    if self.gaps.len() < GAPS {
                        self.gaps.push((from, to));
                    } else {
                        self.more += 1;
                        self.more_time += to.since(from);
                    }
                }
            }
            Change::Late { since, .. } => {
                self.late += 1;
                self.late_most = self.late_most.max(coverage.at.since(*since));
            }
            Change::Blind {
                pid, program, why, ..
            } => {
                if self.blind.len() < BLIND {
                    let words = (program.clone(), why.clone());
                    self.blind.insert(*pid, words);
                }
            }
            Change::Layout { .. } | Change::Alone { .. } | Change::Ends { .. } => {}
            Change::Refused { processes, .. } => self.refused = self.refused.max(*processes),
        }
    }

    /// Time passed.
    pub(super) fn until(&mut self, at: Time) {
        self.last = self.last.max(at);
    }

    /// Returns what is said where no request failed: no more than was visible.
    pub(super) fn nothing_failed(&self) -> &'static str {
        if !self.blind.is_empty() {
            "no failure seen, but some failures were not visible"
        } else if self.nothing.is_some() && !self.has_covered {
            "no nginx was traced: no failure could be seen"
        } else if self.nothing.is_some() || !self.gaps.is_empty() {
            "no failed request while nginx was traced"
        } else {
            "no failed request"
        }
    }

    /// Writes what was not visible.
    pub(super) fn write(
        &self,
        out: &mut impl Write,
        clock: &Clock,
        style: &Style,
    ) -> io::Result<()> {
        for (pid, (program, why)) in &self.blind {
            writeln!(
                out,
                "blind: failures of {} (master {pid}) were not visible: {}",
                name(program),
                clean::text(why)
            )?;
        }
        for (from, to) in &self.gaps {
            writeln!(
                out,
                "no nginx was traced for {}: from {} to {}",
                duration(to.since(*from)),
                style.time(clock, *from),
                style.time(clock, *to)
            )?;
        }
        if self.more > 0 {
            writeln!(
                out,
                "no nginx was traced {} more, for {} in all",
                count(self.more, "time"),
                duration(self.more_time)
            )?;
        }
        if let Some(from) = self.nothing {
            writeln!(
                out,
                "no nginx was traced for {}: from {} to the end",
                duration(self.last.since(from)),
                style.time(clock, from)
            )?;
        }
        if self.late > 0 {
            writeln!(
                out,
                "attached to {} only after the start, up to {} late: earlier failures were missed",
                count(self.late, "program"),
                duration(self.late_most)
            )?;
        }
        if self.refused > 0 {
            writeln!(
                out,
                "{} of one nginx not followed: too many; their failures were not visible",
                count(self.refused, "process")
            )?;
        }
        Ok(())
    }
}
