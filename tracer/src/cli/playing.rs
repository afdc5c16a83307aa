//! Captures that a command reads: their names, how far they are read, what is wrong with them.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    capture::{Anonymizer, shown},
    engine::{Played, Replay, Run},
    say::{self, say},
    series::Series,
    source::system,
};

/// Which captures.
#[derive(Debug, clap::Args)]
pub(super) struct Captures {
    /// Captures made by `tracer record`; several merge by time. `-` reads one from stdin
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// What is removed from captures before they are shared.
#[derive(Debug, clap::Args)]
pub(super) struct Privacy {
    /// Replace client addresses and request lines, consistently
    #[arg(long)]
    anonymize: bool,
}

impl Privacy {
    /// Has the captures played so. The key is random and kept nowhere.
    pub(super) fn apply(&self, replay: &mut Replay) {
        if self.anonymize {
            replay.anonymize(&Anonymizer::new(&system::random()));
        }
    }

    /// Is anything replaced?
    pub(super) fn is_on(&self) -> bool {
        self.anonymize
    }
}

impl Captures {
    /// Those of another command's arguments.
    pub(super) fn of(files: Vec<PathBuf>) -> Self {
        Self { files }
    }

    /// Opens them.
    ///
    /// # Errors
    /// A file is no capture or cannot be read; the error names it.
    pub(super) fn open(&self) -> Result<Replay> {
        Ok(Replay::open(&self.files)?)
    }

    /// The files' names.
    pub(super) fn names(&self) -> Vec<String> {
        self.files.iter().map(|file| shown(file)).collect()
    }
}

/// A replay that takes longer than this shows how far it is.
const LONG: Duration = Duration::from_millis(500);

/// Plays all of it.
///
/// # Errors
/// A file cannot be read any more, or `take` fails.
pub(super) fn play(
    replay: &mut Replay,
    mut take: impl FnMut(&Run, Played<'_>) -> Result<()>,
) -> Result<()> {
    let began = Instant::now();
    let mut bar = None;
    while replay.step(&mut take)? {
        let (size, read) = replay.progress();
        if bar.is_none() && began.elapsed() >= LONG {
            bar = Some(self::bar(size));
        }
        if let Some(bar) = &bar {
            bar.set_position(read);
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(())
}

/// Plays all of it into `series`, and passes the same to `take`.
///
/// # Errors
/// As [`play`].
pub(super) fn gather(
    replay: &mut Replay,
    series: &mut Series,
    mut take: impl FnMut(&Run, &Played<'_>),
) -> Result<()> {
    // A capture without events covers its time, too.
    for run in replay.runs() {
        series.seen(run.header().clock.wall);
    }
    play(replay, |run, played| {
        let clock = &run.header().clock;
        match played {
            Played::Event(event) => series.event(event, clock),
            Played::Verdict(verdict) => series.verdict(verdict, clock),
            Played::Cut => {}
        }
        take(run, &played);
        Ok(())
    })?;
    for run in replay.runs() {
        series.seen(run.unix_now());
    }
    Ok(())
}

/// Says on stderr what is wrong with the files; they were read as far as they go.
pub(super) fn report_damages(replay: &Replay) {
    for (path, damage) in replay.runs().iter().flat_map(Run::damages) {
        say!("tracer: {} {damage}", shown(path));
    }
}

/// How far it is, for people who wait: on a terminal's stderr, none elsewhere, nor where the size
/// is not known.
fn bar(size: u64) -> ProgressBar {
    if size == 0 || !say::is_terminal_aside() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(size);
    let style = ProgressStyle::with_template("{bar:40} {percent:>3} %  {eta} left");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
