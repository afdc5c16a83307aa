//! What tracer costs those that it does not follow: another server's connections on the same host,
//! and system calls.

use std::time::Instant;

use anyhow::{Context, Result};

use crate::Length;
use crate::beside::Beside;
use crate::figures::{Target, median, spread, told};
use crate::load;
use crate::scene::{Kind, Scene};

/// Another server's requests, a connection each, and a `getppid` loop, with tracer and with a sham.
pub(crate) fn run(length: &Length) -> Result<()> {
    println!("\nunrelated traffic: another server, a connection for each request; a getppid loop");
    let (mut served, mut called) = ((vec![], vec![]), (vec![], vec![]));
    for _ in 0..length.repetitions {
        let sham = one(Beside::Sham, length.seconds)?;
        let again = one(Beside::Sham2, length.seconds)?;
        let live = one(Beside::Live, length.seconds)?;
        served.0.push(again.0 / sham.0);
        served.1.push(live.0 / sham.0);
        called.0.push(again.1 / sham.1);
        called.1.push(live.1 / sham.1);
    }
    for (what, (noise, live)) in [("requests/s", served), ("getppid calls/s", called)] {
        println!(
            "  {:52} {:>12}",
            format!("{what}: sham against sham (noise)"),
            spread(&noise)
        );
        println!(
            "  {:52} {:>12}",
            format!("{what}: tracer live against sham"),
            spread(&live)
        );
        told(
            &format!("{what} against the sham"),
            median(live),
            "",
            Target::AtLeast(0.99),
        );
    }
    Ok(())
}

/// Requests and system calls a second of CPU time: others may use this machine too.
fn one(beside: Beside, seconds: u64) -> Result<(f64, f64)> {
    let scene = Scene::new(Kind::Fresh, None)?;
    let running = beside.start(&scene)?.context("it cannot be started")?;
    load::direct(&scene, 1)?;
    let stretch = load::direct(&scene, seconds)?;
    let calls = calls();
    running.end()?;
    Ok((stretch.requests / stretch.others * 1e9, calls))
}

fn calls() -> f64 {
    const CALLS: u32 = 3_000_000;
    let started = Instant::now();
    for _ in 0..CALLS {
        // SAFETY: a call without arguments.
        std::hint::black_box(unsafe { libc::getppid() });
    }
    f64::from(CALLS) / started.elapsed().as_secs_f64()
}
