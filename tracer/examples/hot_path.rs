//! Decodes and correlates so many healthy connections, for `cargo xtask bench instructions`: `hot_path CONNECTIONS`.

#[path = "../benches/stream/mod.rs"]
#[allow(missing_docs, reason = "a module that a program includes")]
mod stream;

use anyhow::{Context as _, Result};
use tracer::{
    correlate::Correlator,
    event::{Event, Time, decode},
};

/// The collector looks every 20 ms.
const LOOK: u64 = 20_000_000;

fn main() -> Result<()> {
    let count: u64 = std::env::args()
        .nth(1)
        .context("usage: hot_path CONNECTIONS")?
        .parse()
        .context("how many connections")?;
    let reasons = stream::reasons();
    let mut correlator = Correlator::default();
    let mut cases = 0;
    for number in 0..count {
        let event = decode::record(&stream::record(number), &reasons)?;
        cases += correlator.feed(event).cases.len();
        if (number * stream::STEP).is_multiple_of(LOOK) {
            let now = Time(1_000_000_000 + number * stream::STEP);
            cases += correlator.feed(Event::Tick(now)).cases.len();
        }
    }
    anyhow::ensure!(cases == 0, "healthy connections made {cases} cases");
    Ok(())
}
