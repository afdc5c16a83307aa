//! `cargo xtask bench`: what tracer costs the host, measured with a real nginx under load. Prints
//! each figure with its target; ends with 1 where one is missed.
//!
//! Needs root, and the programs that [`tests::programs`] finds.

mod beside;
mod collector;
mod cpu;
mod crowd;
mod figures;
mod hooks;
mod latency;
mod load;
mod profile;
mod scene;
mod throughput;
mod unrelated;

use std::process::ExitCode;

use anyhow::{Result, bail};

use scene::Kind;
use throughput::Row;

/// How long to measure.
pub(crate) struct Length {
    /// Stretches of each condition.
    pub(crate) repetitions: usize,
    /// Seconds of each.
    pub(crate) seconds: u64,
    /// Without what an operator would take instead.
    pub(crate) alone: bool,
}

fn main() -> ExitCode {
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    let has = |option: &str| names.iter().any(|name| name == option);
    let (repetitions, seconds) = if has("--quick") { (5, 2) } else { (11, 5) };
    let length = Length {
        repetitions,
        seconds,
        alone: has("--alone"),
    };
    names.retain(|name| !name.starts_with("--"));
    // Other work on this machine disturbs less; all that is measured is started from here.
    // SAFETY: plain integers.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -10) };
    for name in &names {
        if let Err(error) = measure(name, &length) {
            eprintln!("bench {name}: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    match figures::missed() {
        0 => ExitCode::SUCCESS,
        missed => {
            println!("\n{missed} figures missed their targets");
            ExitCode::FAILURE
        }
    }
}

fn measure(name: &str, length: &Length) -> Result<()> {
    match name {
        "fresh" => throughput::run(
            Row {
                title: "a new upstream connection for each request",
                kind: Kind::Fresh,
                rate: 0.98,
                cost: Some(1.03),
            },
            length,
        ),
        "keepalive" => throughput::run(
            Row {
                title: "kept-alive upstream connections",
                kind: Kind::KeepAlive,
                rate: 0.99,
                cost: Some(1.02),
            },
            length,
        ),
        "failing" => throughput::run(
            Row {
                title: "every request fails",
                kind: Kind::Failing,
                rate: 0.93,
                cost: None,
            },
            length,
        ),
        "failing-endbr64" => throughput::run(
            Row {
                title: "every request fails, of an nginx whose functions begin with endbr64",
                kind: Kind::FailingMarked,
                rate: 0.93,
                cost: Some(1.15),
            },
            length,
        ),
        "hooks" => hooks::run(length),
        "profile" => profile::run(length),
        "latency" => latency::run(length),
        "unrelated" => unrelated::run(length),
        "waiting" => collector::waiting(length),
        "crowd" => crowd::run(length),
        "memory" => collector::memory(length),
        "soak" => collector::soak(length),
        "loss" => collector::loss(length),
        "flood" => collector::flood(length),
        other => bail!("no such benchmark: {other}"),
    }
}
