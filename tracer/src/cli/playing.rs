//! Captures that a command reads: their names, how far they are read, what is wrong with them.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    capture::Anonymizer,
    engine::{Played, Replay, Run},
    say::{self, say},
    series::Series,
    source::system,
};

/// Which captures.
#[derive(Debug, clap::Args)]
pub(super) struct Captures {
    /// Captures of `tracer record`; several merge by time
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// What of captures is not to be passed on.
#[derive(Debug, clap::Args)]
pub(super) struct Privacy {
    /// Replace client addresses and request lines, the same by the same
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
    /// Opens them.
    ///
    /// # Errors
    /// A file is no capture or can not be read; the error names it.
    pub(super) fn open(&self) -> Result<Replay> {
        Ok(Replay::open(&self.files)?)
    }

    /// The files' names.
    pub(super) fn names(&self) -> Vec<String> {
        self.files
            .iter()
            .map(|file| file.display().to_string())
            .collect()
    }
}

/// Plays all of it; shows how far it is.
///
/// # Errors
/// A file can not be read any more, or `tell` fails.
pub(super) fn play(
    replay: &mut Replay,
    mut tell: impl FnMut(&Run, Played<'_>) -> Result<()>,
) -> Result<()> {
    let bar = bar(replay.progress().0);
    while replay.step(&mut tell)? {
        bar.set_position(replay.progress().1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Plays all of it into `series`, and tells `tell` the same.
///
/// # Errors
/// As [`play`].
pub(super) fn gather(
    replay: &mut Replay,
    series: &mut Series,
    mut tell: impl FnMut(&Run, &Played<'_>),
) -> Result<()> {
    // A capture of nothing covers its time, too.
    for run in replay.runs() {
        series.seen(run.header().clock.wall);
    }
    play(replay, |run, told| {
        let clock = &run.header().clock;
        match told {
            Played::Event(event) => series.event(event, clock),
            Played::Verdict(verdict, _) => series.verdict(verdict, clock),
            Played::Cut => {}
        }
        tell(run, &told);
        Ok(())
    })?;
    for run in replay.runs() {
        series.seen(run.unix_now());
    }
    Ok(())
}

/// Says on stderr what is wrong with the files; they were read as far as they go.
pub(super) fn tell_damages(replay: &Replay) {
    for (path, damage) in replay.runs().iter().flat_map(Run::damages) {
        say!("tracer: {} {damage}", path.display());
    }
}

/// How far it is, for people who wait: on a terminal's stderr, none elsewhere.
fn bar(size: u64) -> ProgressBar {
    if !say::is_terminal_aside() {
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
