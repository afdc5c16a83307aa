//! Whose failures can be seen: a line for each change, and what of it the summary says.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::text::{Ink, Style};
use crate::{
    clean,
    event::{Clock, Coverage, Time, coverage::Change},
};

/// Times without any nginx that the summary lists; of more it says the sum.
const GAPS: usize = 20;
/// Likewise, nginx whose failures can not be seen.
const BLIND: usize = 20;

/// Writes a change; those that another line tells write nothing.
///
/// # Errors
/// Those of the writer.
pub fn coverage(
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

pub(super) fn sentence(change: &Change, at: Time) -> Option<String> {
    Some(match change {
        Change::Something { .. } => return None,
        Change::Nothing => {
            "the last nginx that was followed has ended: waiting for the next".to_owned()
        }
        Change::Follows {
            pid,
            program,
            workers,
            ..
        } => {
            let s = if *workers == 1 { "" } else { "s" };
            format!(
                "tracing {workers} worker{s} of {} (master {pid})",
                name(program)
            )
        }
        Change::Late {
            pid,
            program,
            since,
        } => format!(
            "{} is attached {} after pid {pid} executed it: failures before that were not seen",
            name(program),
            duration(at.since(*since))
        ),
        Change::Blind {
            pid, program, why, ..
        } => format!(
            "blind: failures of {} (master {pid}) cannot be seen: {}; see `tracer doctor`",
            name(program),
            clean::text(why)
        ),
        Change::Alone { pid, program, why } => format!(
            "failures of {} (master {pid}) are told by the kernel and its error log alone: {}; see `tracer doctor`",
            name(program),
            clean::text(why)
        ),
        Change::Layout {
            pid,
            program,
            is_found: true,
        } => format!(
            "the objects of {} (worker {pid}) are not laid out as its version has them: verdicts go by what its memory shows",
            name(program)
        ),
        Change::Layout {
            pid,
            program,
            is_found: false,
        } => format!(
            "the objects of {} (worker {pid}) are not laid out as its version has them, and its memory does not show how: its requests cannot be joined to their attempts, so their causes may be unexplained; see `tracer doctor`",
            name(program)
        ),
        Change::Refused { pid, processes } => format!(
            "{processes} processes of master {pid} are not followed: too many; their failures are not seen"
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

/// What of a run could be seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    has_covered: bool,
    /// Since when nothing is followed.
    nothing: Option<Time>,
    /// The end so far.
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
            Change::Layout { .. } | Change::Alone { .. } => {}
            Change::Refused { processes, .. } => self.refused = self.refused.max(*processes),
        }
    }

    /// Time passed.
    pub(super) fn until(&mut self, at: Time) {
        self.last = self.last.max(at);
    }

    /// What is said where no request failed: no more than could be seen.
    pub(super) fn nothing_failed(&self) -> &'static str {
        if !self.blind.is_empty() {
            "no failure was seen, and not all could be"
        } else if self.nothing.is_some() && !self.has_covered {
            "no nginx was followed: no failure could be seen"
        } else if self.nothing.is_some() || !self.gaps.is_empty() {
            "no failed request while an nginx was followed"
        } else {
            "no failed request"
        }
    }

    /// What could not be seen.
    pub(super) fn write(
        &self,
        out: &mut impl Write,
        clock: &Clock,
        style: &Style,
    ) -> io::Result<()> {
        for (pid, (program, why)) in &self.blind {
            writeln!(
                out,
                "blind: failures of {} (master {pid}) could not be seen: {}",
                name(program),
                clean::text(why)
            )?;
        }
        for (from, to) in &self.gaps {
            writeln!(
                out,
                "nothing was followed for {}: from {} to {}",
                duration(to.since(*from)),
                style.time(clock, *from),
                style.time(clock, *to)
            )?;
        }
        if self.more > 0 {
            writeln!(
                out,
                "nothing was followed {} more times, for {} in all",
                self.more,
                duration(self.more_time)
            )?;
        }
        if let Some(from) = self.nothing {
            writeln!(
                out,
                "nothing was followed for {}: from {} to the end",
                duration(self.last.since(from)),
                style.time(clock, from)
            )?;
        }
        if self.late > 0 {
            let s = if self.late == 1 { " was" } else { "s were" };
            writeln!(
                out,
                "{} program{s} attached only after it had begun, at most {}: failures of before were not seen",
                self.late,
                duration(self.late_most)
            )?;
        }
        if self.refused > 0 {
            writeln!(
                out,
                "{} processes of one nginx were not followed: too many; their failures were not seen",
                self.refused
            )?;
        }
        Ok(())
    }
}
