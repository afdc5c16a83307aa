//! How long a user waits: from exec to `tracing`, from a request that fails at once to its verdict.
//! Prints the medians. The goals are the benchmark's (`cargo xtask bench waiting`): here the times
//! are bounded loosely, as other programs take the CPUs, and the kernel's verifier, which is most
//! of a start, by its instructions.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::counters;
use tests::expected::Expected;
use tests::stage::{Fault, Load, Stage};
use tests::tracer::{Tracer, live};

/// What the kernel's verifier may walk before tracing begins.
const VERIFIED: u64 = 650_000;
const START: Duration = Duration::from_secs(15);
const VERDICT: Duration = Duration::from_secs(1);

/// What `part` of the times do not exceed.
fn quantile(times: &[Duration], part: f64) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times[((times.len() - 1) as f64 * part) as usize]
}

#[test]
fn the_waiting_times_of_a_user() -> Result<()> {
    let expected = Expected::new("no-listener", "127.0.0.1:9001", "ECONNREFUSED");
    let site = Stage::new()?.start(vec![Fault::proxy(expected, "")])?;
    let mut starts = Vec::new();
    for _ in 0..5 {
        let mut tracer = Tracer::start(&mut live(site.nginx.master)?)?;
        starts.push(tracer.tracing()?);
        tracer.stop(libc::SIGINT)?;
    }

    let tracer = Tracer::follow(site.nginx.master)?;
    let walked = counters::verified(tracer.pid())?;
    println!("the verifier walks {walked} instructions");
    ensure!(walked <= VERIFIED, "the verifier walks {walked}");
    let load = Load {
        failing: 50,
        healthy: 50,
        concurrency: 1,
        ..Load::default()
    };
    let sent = site.send(load)?;
    let lines = site.verdict_lines(&sent, &tracer)?;
    let delays = sent
        .failed()
        .map(|answer| {
            let line = lines
                .iter()
                .find(|line| line.text.contains(&format!("{} HTTP", answer.path)))
                .with_context(|| format!("no verdict on {}", answer.path))?;
            // From the question: a verdict may be there before the client has read its answer.
            Ok(line.at - answer.asked)
        })
        .collect::<Result<Vec<_>>>()?;
    site.check(&sent, tracer)?;

    let (start, delay) = (quantile(&starts, 0.5), quantile(&delays, 0.5));
    let (least, quick) = (quantile(&starts, 0.0), quantile(&delays, 0.25));
    println!("exec to tracing: {start:?} (median of 5), {least:?} (least)");
    println!("request to verdict: {delay:?} (median of 50), {quick:?} (quickest quarter)");
    ensure!(least < START, "tracing after {least:?}");
    ensure!(quick < VERDICT, "a verdict after {quick:?}");
    Ok(())
}
