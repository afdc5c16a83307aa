//! A host with very many nginx: how soon all of them are followed, and how soon a verdict is read.

use anyhow::{Result, ensure};
use tests::failing::Failing;
use tests::nginx::{Config, Form};
use tests::tracer::Tracer;
use tests::unscoped::{self, Unscoped};

use crate::Length;
use crate::figures::{Target, median, quantile, told};

const MASTERS: usize = 100;
/// Of each master.
const WORKERS: u32 = 10;
/// Masters whose requests fail, and requests of each.
const ASKED: usize = 20;
const REQUESTS: usize = 5;

/// Starts tracer without a scope on such a host, again and again.
pub(crate) fn run(length: &Length) -> Result<()> {
    println!("\n{MASTERS} masters with {WORKERS} workers each, tracer without a scope");
    let mut model = Failing::new(Form::Daemon)?;
    model.config = Config {
        workers: WORKERS,
        events: "worker_connections 32;".into(),
        ..model.config
    };
    let mut crowd = Vec::new();
    for _ in 0..MASTERS {
        let failing = Failing::like(&model)?;
        let nginx = failing.start()?;
        crowd.push((failing, nginx));
    }
    let workers: usize = crowd
        .iter()
        .map(|(_, nginx)| nginx.worker_pids().len())
        .sum();
    ensure!(workers == MASTERS * WORKERS as usize, "{workers} workers");
    let mut starts = Vec::new();
    let mut verdicts = Vec::new();
    for _ in 0..length.repetitions {
        let mut tracer = Tracer::start(&mut unscoped::live()?)?;
        starts.push(tracer.tracing()?.as_secs_f64() * 1e3);
        let tracer = Unscoped::of(tracer, &model);
        let mut sent = Vec::new();
        for (failing, _) in crowd.iter().step_by(MASTERS / ASKED) {
            sent.extend(failing.send(REQUESTS)?);
        }
        tracer.reported(&sent)?;
        verdicts.extend(
            tracer
                .delays(&sent)?
                .into_iter()
                .map(|delay| delay.as_secs_f64() * 1e3),
        );
        let ended = tracer.stop(libc::SIGINT)?;
        ensure!(ended.status.success(), "tracer: {}", ended.stderr);
    }
    let soon = Target::AtMost(1000.0);
    told(
        "exec to tracing, median",
        median(starts.iter().copied()),
        "ms",
        Target::None,
    );
    told(
        "exec to tracing, longest",
        quantile(starts, 1.0),
        "ms",
        soon,
    );
    let middle = median(verdicts.iter().copied());
    told("502 to verdict, median", middle, "ms", Target::None);
    let late = quantile(verdicts, 0.99);
    told("502 to verdict, p99", late, "ms", Target::AtMost(50.0));
    Ok(())
}
