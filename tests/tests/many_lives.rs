//! Reloads and restarts without end, while requests come: no failed one is missed, and what tracer
//! holds does not grow.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tests::client::{Answer, Front, Question};
use tests::failing::Failing;
use tests::holdings::Holdings;
use tests::nginx::{Form, Nginx};
use tests::unscoped::Unscoped;
use tests::wait::{PATIENCE, until};

/// Between two requests of the light load.
const PACE: Duration = Duration::from_millis(5);

/// Sends requests until the test ends; returns those that were answered. A restarted nginx lets
/// some of its clients down.
fn light_load(failing: &Failing, is_over: &AtomicBool) -> Result<Vec<Answer>> {
    failing.netns.enter(|| {
        let mut sent = Vec::new();
        for number in 0.. {
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            let path = format!("/load/{number}");
            let asked = std::time::Instant::now();
            if let Ok(status) = Front::Http.ask(&Question::get(path.clone())) {
                ensure!(status == 502, "GET {path} got {status}");
                sent.push(Answer {
                    path,
                    status,
                    asked,
                });
            }
            std::thread::sleep(PACE);
        }
        Ok(sent)
    })
}

/// So many reloads and restarts.
fn live_through(nginx: &mut Nginx, reloads: usize, restarts: usize) -> Result<()> {
    for number in 0..reloads {
        nginx.reload().with_context(|| format!("reload {number}"))?;
        nginx.settled()?;
    }
    for number in 0..restarts {
        nginx
            .stop(libc::SIGQUIT)
            .and_then(|()| nginx.start_again())
            .with_context(|| format!("restart {number}"))?;
    }
    Ok(())
}

fn lives(reloads: usize, restarts: usize) -> Result<()> {
    let failing = Failing::new(Form::Daemon)?;
    let mut nginx = failing.start()?;
    let tracer = Unscoped::start(&failing)?;
    // The first of each settles what is held for good.
    live_through(&mut nginx, 1, 1)?;
    let early = Holdings::of(tracer.pid())?;
    let is_over = AtomicBool::new(false);
    let (sent, half) = std::thread::scope(|scope| {
        let load = scope.spawn(|| light_load(&failing, &is_over));
        let half = live_through(&mut nginx, reloads / 2, restarts / 2)
            .and_then(|()| Holdings::of(tracer.pid()))
            .and_then(|half| {
                live_through(&mut nginx, reloads - reloads / 2, restarts - restarts / 2)?;
                Ok(half)
            });
        is_over.store(true, Ordering::Relaxed);
        let sent = load.join().map_err(|_| anyhow!("the client panicked"));
        Ok::<_, anyhow::Error>((sent??, half?))
    })?;
    ensure!(!sent.is_empty(), "no request was answered");
    tracer
        .reported(&sent)
        .with_context(|| format!("through {reloads} reloads and {restarts} restarts"))?;
    // Others' nginx may come in between, and go: less than one thing for each life is no leak.
    let bound = early.plus((reloads + restarts) / 10);
    let mut last = half;
    let flat = until("what the tracer holds to be as at first", PATIENCE, || {
        last = Holdings::of(tracer.pid())?;
        Ok(last.is_within(&bound).then_some(()))
    });
    println!(
        "NOTE: {} requests through {reloads} reloads and {restarts} restarts; early {early:?}, half {half:?}, \
         last {last:?}",
        sent.len()
    );
    flat.with_context(|| format!("first {early:?}, last {last:?}"))?;
    let bound = half.memory + half.memory / 10 + 2048;
    ensure!(
        last.memory <= bound,
        "it grew from {} KiB at half to {} KiB",
        half.memory,
        last.memory
    );
    let ended = tracer.stop(libc::SIGINT)?;
    ensure!(ended.status.code() == Some(0), "{}", ended.stderr);
    Ok(())
}

#[test]
fn twenty_reloads_and_five_restarts_under_load_miss_nothing() -> Result<()> {
    lives(20, 5)
}

#[test]
#[ignore = "many minutes"]
fn a_thousand_reloads_and_two_hundred_restarts_under_load_miss_nothing() -> Result<()> {
    lives(1000, 200)
}
