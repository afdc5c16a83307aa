//! How long a user waits: from exec to `tracing`, from a request that fails at once to its verdict.
//! Prints the medians; the limits asserted are generous, a loaded machine must not fail them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::expected::Expected;
use tests::stage::{Fault, Load, Stage};
use tests::tracer::{Tracer, live};

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
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

    let (start, delay) = (median(starts), median(delays));
    println!("exec to tracing: {start:?} (median of 5; wanted: at most 500 ms)");
    println!("request to verdict: {delay:?} (median of 50; wanted: at most 100 ms after the 502)");
    ensure!(start < Duration::from_secs(5), "tracing after {start:?}");
    ensure!(delay < Duration::from_secs(1), "a verdict after {delay:?}");
    Ok(())
}
