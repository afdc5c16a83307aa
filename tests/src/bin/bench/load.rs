//! wrk: as many requests as the proxy can serve.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cpu;
use crate::scene::{Kind, Scene};

/// Connections that wrk holds.
const CONNECTIONS: &str = "32";

/// What a stretch of load was like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    /// Answers.
    pub(crate) requests: f64,
    /// Of them, not 2xx or 3xx.
    pub(crate) failed: f64,
    /// Answers a second.
    pub(crate) rate: f64,
    /// Nanoseconds of the proxy's worker.
    pub(crate) proxy: f64,
    /// Of that, in the kernel.
    pub(crate) kernel_share: f64,
    /// Nanoseconds of the server's worker and of wrk.
    pub(crate) others: f64,
    /// Nanoseconds of what ran during the load.
    pub(crate) beside: f64,
}

impl Stretch {
    /// Nanoseconds a request, of all that took part.
    pub(crate) fn cost(&self) -> f64 {
        (self.proxy + self.others + self.beside) / self.requests
    }
}

/// Runs wrk against the proxy for so long, while these other processes run.
pub(crate) fn wrk(scene: &Scene, seconds: u64, beside: &[u32]) -> Result<Stretch> {
    asking(scene, seconds, beside, &[Kind::PATH])
}

/// Lets wrk ask the server behind the proxy, a connection for each request.
pub(crate) fn direct(scene: &Scene, seconds: u64) -> Result<Stretch> {
    let arguments = ["-H", "Connection: close", "http://127.0.0.1:8000/"];
    asking(scene, seconds, &[], &arguments)
}

/// Lets wrk ask the proxy for what fails.
pub(crate) fn failing(scene: &Scene, seconds: u64) -> Result<Stretch> {
    asking(scene, seconds, &[], &["http://127.0.0.1/fail/"])
}

fn asking(scene: &Scene, seconds: u64, beside: &[u32], arguments: &[&str]) -> Result<Stretch> {
    let mut command = scene.command("wrk")?;
    command
        .args(["-t1", "-c", CONNECTIONS, "-d"])
        .arg(format!("{seconds}s"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let (worker, server) = (scene.worker, scene.server());
    let used = || -> u64 { beside.iter().map(|&pid| cpu::of(pid)).sum() };
    let before = (cpu::of(worker), cpu::of(server), used());
    let ticks = cpu::ticks(worker);
    let child = command.spawn().context("starting wrk")?;
    // Its own time while it still can be asked: a pipe's end does not take long.
    let pid = child.id();
    let asked = std::thread::spawn(move || {
        let end = Instant::now() + Duration::from_secs(seconds + 20);
        let mut last = 0;
        while Instant::now() < end {
            match cpu::of(pid) {
                0 => break,
                now => last = now,
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        last
    });
    let output = child.wait_with_output().context("waiting for wrk")?;
    let after = (cpu::of(worker), cpu::of(server), used());
    let ended = cpu::ticks(worker);
    let wrk = asked.join().unwrap_or(0);
    ensure!(
        output.status.success(),
        "wrk: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let number = |before: &str, after: &str| -> Option<f64> {
        let line = text
            .lines()
            .find(|line| line.contains(before) && line.contains(after))?;
        line.split_whitespace().find_map(|word| word.parse().ok())
    };
    Ok(Stretch {
        requests: number("requests in", "").context("wrk gave no count")?,
        failed: number("Non-2xx", "").unwrap_or(0.0),
        rate: number("Requests/sec", "").context("wrk gave no rate")?,
        proxy: (after.0 - before.0) as f64,
        kernel_share: cpu::kernel_share(ticks, ended),
        others: (after.1 - before.1 + wrk) as f64,
        beside: after.2.saturating_sub(before.2) as f64,
    })
}
