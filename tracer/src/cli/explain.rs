//! `tracer explain`: a capture played again; the verdicts are those that `live` gave.

use anyhow::Result;

use super::{
    playing::{self, Captures},
    verdicts::{Output, Verdicts},
};
use crate::capture::Told;

/// Arguments of `tracer explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    captures: Captures,
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
    let mut replay = args.captures.open()?;
    let Some(first) = replay.runs().first() else {
        return Ok(());
    };
    let clock = first.header().clock;
    let mut verdicts = Verdicts::new(args.output, clock);
    playing::play(&mut replay, |run, told| match told {
        Told::Verdict(verdict, _) => {
            let own = run.header().clock;
            if own == clock {
                verdicts.take(verdict)
            } else {
                verdicts.take(&verdict.clone().on_clock(own, clock))
            }
        }
        Told::Event(event) => {
            let own = run.header().clock;
            verdicts.notice(event, own.translate(event.at(), clock));
            Ok(())
        }
        Told::Cut => Ok(()),
    })?;
    let sum = |of: fn(&crate::capture::Run) -> u64| replay.runs().iter().map(of).sum();
    verdicts.lost(sum(crate::capture::Run::lost));
    verdicts.given_up(sum(crate::capture::Run::given_up));
    verdicts.finish()?;
    playing::tell_damages(&replay);
    Ok(())
}
