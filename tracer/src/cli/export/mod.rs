//! `tracer export`: captures for other programs.

#[cfg(feature = "parquet")]
mod tables;

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{
    playing::{self, Captures, Privacy},
    written::{Replacing, Total, Written},
};
use crate::{
    engine::{Played, Replay, Run},
    event::Event,
    render::perfetto::{Origin, Trace},
};

/// Arguments of `tracer export`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, group = clap::ArgGroup::new("formats").required(true).multiple(true))]
pub(super) struct Args {
    #[command(flatten)]
    captures: Captures,
    /// Write tables of verdicts, attempts and connections as Parquet below this folder, by host and
    /// hour
    #[arg(long, value_name = "DIR", group = "formats")]
    parquet: Option<PathBuf>,
    /// Write a trace for ui.perfetto.dev: a track for each connection and each failed request
    #[arg(long, value_name = "FILE", group = "formats")]
    perfetto: Option<PathBuf>,
    #[command(flatten)]
    replacing: Replacing,
    #[command(flatten)]
    privacy: Privacy,
}

const EXAMPLES: &str = "Examples:
  tracer export incident.trc --parquet fleet
  tracer export web1.trc web2.trc --parquet fleet        adds to the tables of other captures
  tracer export incident.trc --perfetto incident.json    open it at ui.perfetto.dev
  duckdb -c \"SELECT upstream, count(*) FROM 'fleet/verdicts/*/*/*.parquet' GROUP BY 1 ORDER BY 2 DESC\"";

/// Where what is played goes.
trait Sink {
    fn take(&mut self, run: &Run, played: &Played<'_>) -> Result<()>;
    fn keep(self: Box<Self>) -> Result<()>;
}

/// Runs it.
///
/// # Errors
/// A capture cannot be read, or a file exists or cannot be written.
pub(super) fn run(args: &Args) -> Result<()> {
    let mut replay = args.captures.open()?;
    args.privacy.apply(&mut replay);
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    if let Some(path) = &args.perfetto {
        sinks.push(Box::new(Tracing::new(
            path.clone(),
            args.replacing,
            &replay,
        )?));
    }
    if let Some(folder) = &args.parquet {
        sinks.push(tables(folder, args.replacing)?);
    }
    playing::play(&mut replay, |run, played| {
        sinks
            .iter_mut()
            .try_for_each(|sink| sink.take(run, &played))
    })?;
    playing::report_damages(&replay);
    sinks.into_iter().try_for_each(Sink::keep)
}

#[cfg(feature = "parquet")]
fn tables(folder: &std::path::Path, replacing: Replacing) -> Result<Box<dyn Sink>> {
    Ok(Box::new(tables::Tables::new(folder, replacing)?))
}

#[cfg(not(feature = "parquet"))]
fn tables(_folder: &std::path::Path, _replacing: Replacing) -> Result<Box<dyn Sink>> {
    anyhow::bail!("this tracer was built without Parquet: build it with `--features parquet`")
}

/// `--perfetto`.
struct Tracing {
    path: PathBuf,
    trace: Trace<Written>,
    /// The runs' names, in the order in which they were met.
    runs: Vec<String>,
}

impl Tracing {
    fn new(path: PathBuf, replacing: Replacing, replay: &Replay) -> Result<Self> {
        let zero = replay
            .runs()
            .first()
            .map_or(0, |run| run.header().clock.wall);
        let out = Written::create(&path, replacing)?;
        let trace = Trace::new(out, zero).with_context(|| format!("writing {}", path.display()))?;
        Ok(Self {
            path,
            trace,
            runs: Vec::new(),
        })
    }
}

impl Sink for Tracing {
    fn take(&mut self, run: &Run, played: &Played<'_>) -> Result<()> {
        let header = run.header();
        let known = self.runs.iter().position(|name| *name == header.run);
        let number = known.unwrap_or_else(|| {
            self.runs.push(header.run.clone());
            self.runs.len() - 1
        });
        let origin = Origin {
            run: number as u64,
            host: &header.host,
            clock: &header.clock,
        };
        match played {
            Played::Event(Event::Connection(connection)) => {
                self.trace.connection(connection, origin)
            }
            Played::Verdict(verdict) => self.trace.verdict(verdict, origin),
            Played::Event(_) | Played::Cut => Ok(()),
        }
        .with_context(|| format!("writing {}", self.path.display()))
    }

    fn keep(self: Box<Self>) -> Result<()> {
        let what = format!("writing {}", self.path.display());
        let mut total = Total::default();
        self.trace.finish().context(what)?.keep(&mut total)?;
        total.say("", &self.path);
        Ok(())
    }
}
