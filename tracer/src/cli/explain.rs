//! `tracer explain`: a capture played again; the verdicts are those that `live` gave.

use std::{io::IsTerminal as _, path::PathBuf, time::Duration};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use super::verdicts::{Output, Verdicts};
use crate::capture::{Replay, Told};

/// Arguments of `tracer explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Captures of `tracer record`; several merge by time
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    output: Output,
}

const EXAMPLES: &str = "Examples:
  tracer explain incident.trc
  tracer explain --format json incident.trc > verdicts.jsonl
  tracer explain web1.trc web2.trc web3.trc
  tracer explain --cause keepalive-race --since 10:15 --until 10:20 incident.trc";

/// Runs it.
///
/// # Errors
/// A file is no capture or can not be read, or stdout can not be written.
pub(super) fn run(args: Args) -> Result<()> {
    let mut replay = Replay::open(&args.files)?;
    let Some(first) = replay.runs().first() else {
        return Ok(());
    };
    let clock = first.header().clock;
    let mut verdicts = Verdicts::new(args.output, clock);
    let bar = bar(replay.progress().0);
    while replay.step(|run, told| match told {
        Told::Verdict(verdict, _) => {
            let own = run.header().clock;
            if own == clock {
                verdicts.take(verdict)
            } else {
                verdicts.take(&verdict.clone().on_clock(own, clock))
            }
        }
        Told::Event(_) | Told::Cut => Ok(()),
    })? {
        bar.set_position(replay.progress().1);
    }
    bar.finish_and_clear();
    let sum = |of: fn(&crate::capture::Run) -> u64| replay.runs().iter().map(of).sum();
    verdicts.lost(sum(crate::capture::Run::lost));
    verdicts.given_up(sum(crate::capture::Run::given_up));
    verdicts.finish()?;
    for run in replay.runs() {
        for (path, damage) in run.damages() {
            eprintln!("tracer: {} {damage}", path.display());
        }
    }
    Ok(())
}

/// How far it is, for people who wait: on a terminal's stderr, none elsewhere.
fn bar(size: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
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
