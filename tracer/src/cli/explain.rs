//! `tracer explain`: a capture replayed; the verdicts are those that `live` printed.

use std::collections::BTreeMap;

use anyhow::Result;

use super::{
    moment::{self, Moment},
    playing::{self, Captures},
    verdicts::{self, Output, Verdicts},
};
use crate::{
    engine::{Played, Run},
    event::{Event, Heap as _, Time},
    verdict::Verdict,
};

/// Arguments of `tracer explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    captures: Captures,
    /// Show only verdicts from this time on: 10:15, 10:15:23, 2026-11-20T10:15,
    /// 2026-11-20T10:15:23Z. A time without a date is on the day on which the first capture begins;
    /// local time, or UTC with --utc
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    since: Option<Moment>,
    /// Show only verdicts up to this time
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    until: Option<Moment>,
    #[command(flatten)]
    output: Output,
}

const EXAMPLES: &str = "Examples:
  tracer explain incident.trc
  tracer explain --format json incident.trc > verdicts.jsonl
  tracer explain web1.trc web2.trc web3.trc              several hosts, merged by time
  ssh web1 cat incident.trc | tracer explain -
  tracer explain --cause keepalive-race --since 10:15 --until 10:20 incident.trc";

/// A verdict comes at most this long after its own time (nanoseconds): the correlator drops what is
/// older.
const AFTERTHOUGHT: u64 = 600_000_000_000;
/// Most come within this, so verdicts of several runs that wait for so long come in order.
const LATE: u64 = 2_000_000_000;

/// Runs it.
///
/// # Errors
/// A file is no capture or cannot be read, or stdout cannot be written.
pub(super) fn run(args: Args) -> Result<()> {
    let mut replay = args.captures.open()?;
    let Some(first) = replay.runs().first() else {
        return Ok(());
    };
    let clock = first.header().clock;
    let several = replay.runs().len() > 1;
    let zone = verdicts::zone(args.output.utc);
    let unix = |moment: Option<Moment>| -> Result<Option<u64>> {
        moment
            .map(|moment| moment.unix_nanos(clock.wall, &zone))
            .transpose()
    };
    let since = unix(args.since)?.unwrap_or(0);
    let until = unix(args.until)?.unwrap_or(u64::MAX);
    replay.stop_after(until.saturating_add(AFTERTHOUGHT));
    let mut verdicts = Verdicts::new(args.output, clock);
    let mut waiting = Waiting::default();
    playing::play(&mut replay, |run, played| {
        let own = run.header().clock;
        let verdict = match played {
            Played::Verdict(verdict) => verdict,
            Played::Event(
                event @ (Event::Notice(_) | Event::Lost(_) | Event::Coverage(_) | Event::Tick(_)),
            ) => {
                let at = own.translate(event.at(), clock);
                return verdicts.notice(event, &run.header().host, at).map(drop);
            }
            Played::Event(_) | Played::Cut => return Ok(()),
        };
        if !(since..=until).contains(&own.unix_nanos(verdict.time)) {
            verdicts.pass_over();
            return Ok(());
        }
        // One run's verdicts come as they came live.
        if !several {
            return verdicts.take(verdict, &run.header().host);
        }
        waiting.add(
            verdict.clone().on_clock(own, clock),
            run.header().host.as_str().into(),
        );
        let until = clock.boot_time(run.unix_now().saturating_sub(LATE));
        while let Some((verdict, host)) = waiting.next(until) {
            verdicts.take(&verdict, &host)?;
        }
        Ok(())
    })?;
    while let Some((verdict, host)) = waiting.next(u64::MAX) {
        verdicts.take(&verdict, &host)?;
    }
    let lost = replay.runs().iter().map(Run::lost);
    verdicts.lost(lost.fold(0, u64::saturating_add));
    verdicts.unreported(replay.runs().iter().map(Run::unreported).sum());
    verdicts.finish()?;
    playing::report_damages(&replay);
    Ok(())
}

/// Bytes of verdicts that wait: those of a run whose clock does not advance must not wait for ever.
const BYTES: usize = 32 << 20;

/// Verdicts of several runs, on one clock, until none that is earlier can come.
#[derive(Default)]
struct Waiting {
    /// By time, and in the order in which they came; each with its host.
    verdicts: BTreeMap<(Time, u64), (Verdict, Box<str>)>,
    come: u64,
    bytes: usize,
}

impl Waiting {
    fn add(&mut self, verdict: Verdict, host: Box<str>) {
        self.bytes += bytes(&verdict, &host);
        self.verdicts
            .insert((verdict.time, self.come), (verdict, host));
        self.come += 1;
    }

    /// The next one up to this boot time, or if there are too many.
    fn next(&mut self, time: u64) -> Option<(Verdict, Box<str>)> {
        let next = self.verdicts.first_entry()?;
        if next.key().0.0 > time && self.bytes <= BYTES {
            return None;
        }
        let (verdict, host) = next.remove();
        self.bytes -= bytes(&verdict, &host);
        Some((verdict, host))
    }
}

fn bytes(verdict: &Verdict, host: &str) -> usize {
    size_of::<Verdict>() + verdict.heap() + host.len()
}
