//! `--parquet`: tables below a folder, by host and hour, as `TABLE/host=H/hour=2026-11-21_10/RUN-PART-N.parquet`.
//!
//! Names come from the capture alone: the same capture again replaces its own files, others stand beside them. A host has
//! one file of a table open: rows come in order of time; what comes late begins another file.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::Sink;
use crate::{
    capture::{Header, Run, Told},
    cli::written::{self, Written},
    event::{Event, Time},
    render::parquet::{self, ATTEMPTS, CONNECTIONS, Cell, Table, TableFile, VERDICTS},
};

/// `2026-11-21_10`, in UTC: like no time that a reader might take it for (ClickHouse fails on the attempt).
const HOUR: &str = "%Y-%m-%d_%H";
const HOUR_NANOS: u64 = 3_600_000_000_000;

pub(super) struct Tables {
    folder: PathBuf,
    open: HashMap<(String, &'static str), Open>,
    /// How many files of a partition were begun, by their path without the number.
    begun: HashMap<String, u64>,
    /// Verdicts of each run so far.
    verdicts: HashMap<String, u64>,
}

struct Open {
    hour: u64,
    path: PathBuf,
    file: TableFile<Written>,
}

impl Tables {
    pub(super) fn new(folder: &Path) -> Result<Self> {
        written::folder(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            open: HashMap::new(),
            begun: HashMap::new(),
            verdicts: HashMap::new(),
        })
    }

    fn row(
        &mut self,
        header: &Header,
        table: &'static Table,
        at: Time,
        cells: Vec<Cell>,
    ) -> Result<()> {
        let hour = header.clock.unix_nanos(at) / HOUR_NANOS;
        let key = (header.run.clone(), table.name);
        if let Some(open) = self.open.get_mut(&key).filter(|open| open.hour == hour) {
            return open
                .file
                .row(cells)
                .with_context(|| format!("writing {}", open.path.display()));
        }
        if let Some(open) = self.open.remove(&key) {
            open.keep()?;
        }
        let mut open = self.begin(header, table, hour)?;
        open.file
            .row(cells)
            .with_context(|| format!("writing {}", open.path.display()))?;
        self.open.insert(key, open);
        Ok(())
    }

    fn begin(&mut self, header: &Header, table: &'static Table, hour: u64) -> Result<Open> {
        let named = jiff::Timestamp::from_nanosecond((hour * HOUR_NANOS).into())
            .unwrap_or(jiff::Timestamp::MAX);
        let place = format!(
            "{}/host={}/hour={}",
            table.name,
            encoded(&header.host),
            named.strftime(HOUR)
        );
        let stem = format!("{place}/{}-{}", encoded(&header.run), header.part);
        let number = self.begun.entry(stem.clone()).or_default();
        let path = self.folder.join(format!("{stem}-{number}.parquet"));
        *number += 1;
        written::folder(&self.folder.join(place))?;
        let file = TableFile::new(Written::create(&path)?, table)
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(Open { hour, path, file })
    }
}

impl Open {
    fn keep(self) -> Result<()> {
        let what = format!("writing {}", self.path.display());
        self.file.finish().context(what)?.keep()
    }
}

impl Sink for Tables {
    fn take(&mut self, run: &Run, told: &Told<'_>) -> Result<()> {
        let header = run.header();
        let (name, clock) = (&header.run, &header.clock);
        match told {
            Told::Event(Event::Connection(one)) => match parquet::connection(name, one, clock) {
                Some(cells) => self.row(header, &CONNECTIONS, one.closed, cells),
                None => Ok(()),
            },
            Told::Event(Event::Failure(one)) => self.row(
                header,
                &CONNECTIONS,
                one.at,
                parquet::failure(name, one, clock),
            ),
            Told::Verdict(verdict, _) => {
                let number = self.verdicts.entry(name.clone()).or_default();
                *number += 1;
                let number = *number;
                self.row(
                    header,
                    &VERDICTS,
                    verdict.time,
                    parquet::verdict(name, number, verdict, clock),
                )?;
                parquet::attempts(name, number, verdict, clock)
                    .try_for_each(|cells| self.row(header, &ATTEMPTS, verdict.time, cells))
            }
            Told::Event(_) | Told::Cut => Ok(()),
        }
    }

    fn keep(self: Box<Self>) -> Result<()> {
        self.open.into_values().try_for_each(Open::keep)
    }
}

/// A name as part of a path: what is not a letter, a digit or one of `-_` is escaped as in URLs, as readers of such folders
/// expect; so is a dot, as names of dots alone lead elsewhere.
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
