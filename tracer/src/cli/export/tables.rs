//! `--parquet`: tables below a folder, by host and hour, as
//! `TABLE/host=H/hour=2026-11-21_10/RUN-PART-0.parquet`.
//!
//! Names come from the capture alone: the same capture again has the same files, which only
//! `--force` replaces; those of others are added. Rows come nearly in order of time: a table has
//! the files of a few hours open. What comes for an hour whose file is closed, and what is of more
//! hours than were recorded, goes to `hour=other`.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::Sink;
use crate::{
    capture::Header,
    cli::written::{self, Replacing, Total, Written},
    engine::{Played, Run},
    event::{Event, Time},
    plural::count,
    render::parquet::{self, ATTEMPTS, CONNECTIONS, Cell, Table, TableFile, VERDICTS},
    say::say,
};

/// `2026-11-21_10`, in UTC: like no time that a reader might take it for (ClickHouse fails on the
/// attempt).
const HOUR: &str = "%Y-%m-%d_%H";
const HOUR_NANOS: u64 = 3_600_000_000_000;
/// Hours of a table that are open at once: a verdict may come minutes after its own time.
const OPEN: usize = 3;
/// Hours of a table with a file of their own: a year's and more.
const MOST: u64 = 10_000;
/// These, and one more for each so many events of the run: an hour that was recorded has a hundred
/// thousand ticks.
const FREE: u64 = 48;
/// See [`FREE`].
const EVENTS: u64 = 1000;

pub(super) struct Tables {
    folder: PathBuf,
    replacing: Replacing,
    total: Total,
    /// Of each run and table.
    hours: HashMap<(String, &'static str), Hours>,
    /// Verdicts of each run so far.
    verdicts: HashMap<String, u64>,
    /// Rows that are not with their hour.
    late: u64,
}

/// The files of a table of a run.
#[derive(Default)]
struct Hours {
    /// The one that was last written to is the last.
    open: Vec<Open>,
    closed: HashSet<u64>,
    /// Takes the rows of all other hours.
    other: Option<Open>,
}

struct Open {
    /// `None`: several.
    hour: Option<u64>,
    path: PathBuf,
    file: TableFile<Written>,
}

impl Tables {
    pub(super) fn new(folder: &Path, replacing: Replacing) -> Result<Self> {
        written::folder(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            replacing,
            total: Total::default(),
            hours: HashMap::new(),
            verdicts: HashMap::new(),
            late: 0,
        })
    }

    fn row(&mut self, run: &Run, table: &'static Table, at: Time, cells: Vec<Cell>) -> Result<()> {
        let header = run.header();
        let hour = header.clock.unix_nanos(at) / HOUR_NANOS;
        let key = (header.run.clone(), table.name);
        let hours = self.hours.entry(key).or_default();
        let begin = |hour| Open::begin(&self.folder, self.replacing, header, table, hour);
        if let Some(at) = hours.open.iter().position(|open| open.hour == Some(hour)) {
            hours.open[at..].rotate_left(1);
        } else if hours.may_begin(hour, run.events()) {
            if hours.open.len() == OPEN {
                let oldest = hours.open.remove(0);
                hours.closed.extend(oldest.hour);
                oldest.keep(&mut self.total)?;
            }
            hours.open.push(begin(Some(hour))?);
        } else {
            self.late += 1;
            let other = match hours.other.take() {
                Some(other) => other,
                None => begin(None)?,
            };
            return hours.other.insert(other).row(cells);
        }
        match hours.open.last_mut() {
            Some(open) => open.row(cells),
            None => Ok(()),
        }
    }
}

impl Hours {
    /// Is a file of its own due to this hour, which has none open, after so many events?
    fn may_begin(&self, hour: u64, events: u64) -> bool {
        let begun = (self.open.len() + self.closed.len()) as u64;
        !self.closed.contains(&hour) && begun < MOST.min(FREE + events / EVENTS)
    }
}

impl Open {
    fn begin(
        folder: &Path,
        replacing: Replacing,
        header: &Header,
        table: &'static Table,
        hour: Option<u64>,
    ) -> Result<Self> {
        let named = hour.map_or_else(
            || "other".to_owned(),
            |hour| {
                let begin = jiff::Timestamp::from_nanosecond((hour * HOUR_NANOS).into());
                let begin = begin.unwrap_or(jiff::Timestamp::MAX);
                begin.strftime(HOUR).to_string()
            },
        );
        let place = folder.join(format!(
            "{}/host={}/hour={named}",
            table.name,
            encoded(&header.host),
        ));
        written::folder(&place)?;
        let path = place.join(format!(
            "{}-{}-0.parquet",
            encoded(&header.run),
            header.part
        ));
        let file = TableFile::new(Written::create(&path, replacing)?, table)
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(Self { hour, path, file })
    }

    fn row(&mut self, cells: Vec<Cell>) -> Result<()> {
        let written = self.file.row(cells);
        written.with_context(|| format!("writing {}", self.path.display()))
    }

    fn keep(self, total: &mut Total) -> Result<()> {
        let what = format!("writing {}", self.path.display());
        self.file.finish().context(what)?.keep(total)
    }
}

impl Sink for Tables {
    fn take(&mut self, run: &Run, played: &Played<'_>) -> Result<()> {
        let header = run.header();
        let (name, clock) = (&header.run, &header.clock);
        match played {
            Played::Event(Event::Connection(one)) => match parquet::connection(name, one, clock) {
                Some(cells) => self.row(run, &CONNECTIONS, one.closed, cells),
                None => Ok(()),
            },
            Played::Event(Event::Failure(one)) => self.row(
                run,
                &CONNECTIONS,
                one.at,
                parquet::failure(name, one, clock),
            ),
            Played::Verdict(verdict) => {
                let number = self.verdicts.entry(name.clone()).or_default();
                *number += 1;
                let number = *number;
                self.row(
                    run,
                    &VERDICTS,
                    verdict.time,
                    parquet::verdict(name, number, verdict, clock),
                )?;
                parquet::attempts(name, number, verdict, clock)
                    .try_for_each(|cells| self.row(run, &ATTEMPTS, verdict.time, cells))
            }
            Played::Event(_) | Played::Cut => Ok(()),
        }
    }

    fn keep(self: Box<Self>) -> Result<()> {
        let mut total = self.total;
        let all = self.hours.into_values();
        all.flat_map(|hours| hours.open.into_iter().chain(hours.other))
            .try_for_each(|open| open.keep(&mut total))?;
        if self.late > 0 {
            say!(
                "tracer: {} out of order in time: in the partition hour=other of their table",
                count(self.late, "row")
            );
        }
        total.say("table file", &self.folder);
        Ok(())
    }
}

/// A name as part of a path: what is not a letter, a digit or one of `-_` is escaped as in URLs, as
/// readers of such folders expect; so is a dot, as names of dots alone lead elsewhere.
fn encoded(name: &str) -> String {
    const LONGEST: usize = 64;
    let mut out = String::new();
    for byte in name.bytes().take(LONGEST) {
        if byte.is_ascii_alphanumeric() || b"-_".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    if out.is_empty() {
        "unknown".to_owned()
    } else {
        out
    }
}

#[cfg(test)]
mod tests {
    use super::encoded;

    #[test]
    fn a_hosts_name_is_no_path() {
        assert_eq!(encoded("web-1.example.com"), "web-1%2Eexample%2Ecom");
        assert_eq!(encoded("../../etc"), "%2E%2E%2F%2E%2E%2Fetc");
        assert_eq!(
            (encoded("").as_str(), encoded(&"x".repeat(999)).len()),
            ("unknown", 64)
        );
    }
}
