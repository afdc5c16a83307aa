//! Processes that only call themselves nginx, and an nginx of another user's with more workers than
//! anybody needs: the host's own nginx is followed none the worse.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::client::Answer;
use tests::failing::Failing;
use tests::faults::pretended::Pretended;
use tests::folder::Folder;
use tests::holdings::Holdings;
use tests::nginx::{Config, Form, Nginx};
use tests::programs;
use tests::tracer::Line;
use tests::unscoped::Unscoped;
use tests::wait::{PATIENCE, until};

/// Longer than any verdict takes on a busy machine, and shorter than it would take if what is to
/// cost nothing were waited for: 20 stopped processes, half a second each.
const SLOW: Duration = Duration::from_secs(8);

/// One crowd at a time: each test has times to keep.
fn alone() -> MutexGuard<'static, ()> {
    static CROWD: Mutex<()> = Mutex::new(());
    CROWD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Each of these has its verdict, and had it within [`SLOW`].
fn soon(tracer: &Unscoped, sent: &[Answer]) -> Result<()> {
    tracer.reported(sent)?;
    let slowest = tracer.delays(sent)?.into_iter().max().unwrap_or_default();
    ensure!(slowest <= SLOW, "a verdict took {slowest:?}");
    Ok(())
}

/// Reloads the real nginx: its new workers are followed at once.
fn reloaded(failing: &Failing, nginx: &Nginx, tracer: &Unscoped) -> Result<Vec<Answer>> {
    nginx.reload()?;
    nginx.settled()?;
    let sent = failing.send(5)?;
    soon(tracer, &sent)?;
    Ok(sent)
}

#[test]
fn what_only_calls_itself_nginx_is_not_followed_and_costs_nothing() -> Result<()> {
    const COUNT: usize = 300;
    let _alone = alone();
    let failing = Failing::new(Form::Daemon)?;
    let nginx = failing.start()?;
    let tracer = Unscoped::start(&failing)?;
    let mut sent = failing.send(5)?;
    tracer.reported(&sent)?;
    let before = Holdings::of(tracer.pid())?;
    let pretended = (0..COUNT)
        .map(|_| Pretended::idle())
        .collect::<Result<Vec<_>>>()?;
    // Whoever is looked at later than others: some seconds after the exec.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        let more = failing.send(5)?;
        soon(&tracer, &more)?;
        sent.extend(more);
    }
    sent.extend(reloaded(&failing, &nginx, &tracer)?);
    let after = Holdings::of(tracer.pid())?;
    ensure!(
        after.is_within(&before.plus(COUNT / 10)),
        "{COUNT} pretended nginx: {before:?}, then {after:?}"
    );
    let said = tracer.text();
    let followed = said.lines().find(|line| {
        line.starts_with("tracing")
            && pretended
                .iter()
                .any(|one| line.contains(&format!("(master {})", one.pid())))
    });
    ensure!(followed.is_none(), "it follows one: {followed:?}");
    tracer.check(&sent).map(drop)
}

#[test]
fn what_only_calls_itself_nginx_does_not_take_the_places_of_real_workers() -> Result<()> {
    let _alone = alone();
    let failing = Failing::new(Form::Daemon)?;
    let nginx = failing.start()?;
    let _crowd = Pretended::parent(5000)?;
    let tracer = Unscoped::start(&failing)?;
    let sent = reloaded(&failing, &nginx, &tracer)?;
    tracer.check(&sent).map(drop)
}

#[test]
fn another_user_s_nginx_with_very_many_workers_does_not_take_the_places_of_others() -> Result<()> {
    let _alone = alone();
    let folder = Folder::new()?;
    let binary = folder.join("nginx");
    std::fs::copy(programs::command("nginx")?.get_program(), &binary)?;
    let failing = Failing::new(Form::Daemon)?;
    let nginx = failing.start()?;
    // More than there are places for; nginx forks 1,024 processes at most.
    let mut crowds = Vec::new();
    for _ in 0..5 {
        let mut crowd = Failing::new(Form::Daemon)?;
        crowd.config = Config {
            workers: 900,
            main: "worker_rlimit_nofile 4096;".into(),
            events: "worker_connections 16;".into(),
            program: Some(binary.clone()),
            owner: Some(65_534),
            ..crowd.config
        };
        crowds.push(crowd.start().context("a crowd")?);
    }
    let tracer = Unscoped::start(&failing)?;
    let master = nginx.master.to_string();
    let names_it = |line: &Line| line.text.contains("not followed") && line.text.contains(&master);
    nginx.reload()?;
    nginx.settled()?;
    let sent = failing.send(5)?;
    let reported = soon(&tracer, &sent);
    // Of whom nothing can be seen, that has to be said.
    if reported.is_err() && tracer.said().iter().any(names_it) {
        return Ok(());
    }
    reported?;
    tracer.check(&sent).map(drop)
}

#[test]
fn stopped_processes_that_call_themselves_nginx_hold_nobody_up() -> Result<()> {
    let _alone = alone();
    let failing = Failing::new(Form::Daemon)?;
    let nginx = failing.start()?;
    let crowd = (0..20)
        .map(|_| Pretended::parent(2))
        .collect::<Result<Vec<_>>>()?;
    crowd.iter().for_each(Pretended::stall);
    let is_stopped = |one: &Pretended| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", one.pid()));
        stat.is_ok_and(|stat| stat.contains(") T "))
    };
    until("all of them to be stopped", PATIENCE, || {
        Ok(crowd.iter().all(is_stopped).then_some(()))
    })?;
    let began = Instant::now();
    let tracer = Unscoped::start(&failing)?;
    let took = began.elapsed();
    ensure!(took <= SLOW, "it took {took:?} to start");
    let mut sent = failing.send(5)?;
    soon(&tracer, &sent)?;
    sent.extend(reloaded(&failing, &nginx, &tracer)?);
    tracer.check(&sent).map(drop)
}
