//! One part of the collector's way with so many healthy connections: `hot_path PART CONNECTIONS`.
//! `cargo xtask bench instructions` counts what it executes. Each part begins with decoding, as the
//! collector does.

#[path = "../benches/stream/mod.rs"]
#[allow(missing_docs, reason = "a module that a program includes")]
mod stream;

use std::{hint::black_box, io};

use anyhow::{Context as _, Result, bail, ensure};
use tracer::internals::{Correlator, Event, KernelNames, Series, Time, Writer, decode_record};

/// The collector looks every 20 ms.
const LOOK: u64 = 20_000_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [part, count] = arguments.as_slice() else {
        bail!("usage: hot_path decode|correlate|series|write CONNECTIONS");
    };
    let count = count.parse().context("how many connections")?;
    match part.as_str() {
        "decode" => each(count, |event| {
            black_box(event);
            Ok(())
        }),
        "correlate" => correlate(count),
        "series" => series(count),
        "write" => write(count),
        other => bail!("no such part: {other}"),
    }
}

/// Passes the connections to `take`, with a tick at each poll.
fn each(count: u64, mut take: impl FnMut(Event) -> Result<()>) -> Result<()> {
    let names = KernelNames::default();
    for number in 0..count {
        let event = decode_record(&stream::record(number), &names)?;
        let at = event.at();
        take(event)?;
        if (number * stream::STEP).is_multiple_of(LOOK) {
            take(Event::Tick(Time(at.0).whole_millisecond()))?;
        }
    }
    Ok(())
}

fn correlate(count: u64) -> Result<()> {
    let mut correlator = Correlator::default();
    let mut cases = 0;
    each(count, |event| {
        cases += correlator.feed(event).cases.len();
        Ok(())
    })?;
    ensure!(cases == 0, "healthy connections made {cases} cases");
    Ok(())
}

fn series(count: u64) -> Result<()> {
    let mut series = Series::default();
    each(count, |event| {
        series.event(&event, &stream::CLOCK);
        Ok(())
    })?;
    ensure!(
        series.upstreams.total().total() == count,
        "the series hold {} connections",
        series.upstreams.total().total()
    );
    Ok(())
}

fn write(count: u64) -> Result<()> {
    let mut writer = Writer::new(io::sink(), &stream::header())?;
    let mut end = Time(0);
    each(count, |event| {
        end = event.at();
        Ok(writer.add(&event)?)
    })?;
    writer.finish(end)?;
    Ok(())
}
