//! nginx as hosts run it: a daemon that is started, stopped, started again, reloaded, replaced,
//! while tracer follows every nginx of the host. No failed request of it is missed, from the first
//! on.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use regex_lite::Regex;
use tests::client::Answer;
use tests::failing::Failing;
use tests::folder::Folder;
use tests::nginx::{Form, Nginx};
use tests::tracer::{Tracer, live};
use tests::unscoped::{Unscoped, by_path};
use tests::wait::{PATIENCE, until};
use tests::{process, programs};

/// Requests sent from the moment that nginx's port is open.
const EARLY: usize = 40;
/// Restarts in a row.
const RESTARTS: usize = 5;

/// Stops and starts nginx while tracer runs: each request sent right after each start is reported.
fn restarted(failing: &Failing) -> Result<()> {
    let mut nginx = failing.start()?;
    let tracer = Unscoped::start(failing)?;
    let mut sent = failing.send(5)?;
    for round in 0..RESTARTS {
        nginx.stop([libc::SIGQUIT, libc::SIGTERM][round % 2])?;
        let ((), early) = failing.send_at_once(EARLY, || nginx.start_again())?;
        sent.extend(early);
    }
    tracer.check(&sent).map(drop)
}

#[test]
fn a_restarted_daemon_is_followed_from_its_first_request() -> Result<()> {
    restarted(&Failing::new(Form::Daemon)?)
}

#[test]
fn a_daemon_restarted_as_its_unit_does_is_followed_from_its_first_request() -> Result<()> {
    restarted(&Failing::new(Form::Unit)?)
}

#[test]
fn a_restarted_nginx_in_the_foreground_is_followed_from_its_first_request() -> Result<()> {
    restarted(&Failing::new(Form::Foreground)?)
}

#[test]
fn a_restarted_nginx_without_a_master_is_followed_from_its_first_request() -> Result<()> {
    let mut failing = Failing::new(Form::Foreground)?;
    failing.config.single = true;
    restarted(&failing)
}

#[test]
fn a_restarted_daemon_without_a_master_is_followed_from_its_first_request() -> Result<()> {
    let mut failing = Failing::new(Form::Daemon)?;
    failing.config.single = true;
    restarted(&failing)
}

/// Another nginx of the same binary runs already.
fn started_beside_another(form: Form) -> Result<()> {
    let other = Failing::new(Form::Daemon)?;
    let _runs = other.start()?;
    let failing = Failing::new(form)?;
    let tracer = Unscoped::start(&failing)?;
    let (_nginx, sent) = failing.send_at_once(EARLY, || failing.start())?;
    tracer.check(&sent).map(drop)
}

#[test]
fn a_daemon_started_while_another_nginx_runs_is_followed_from_its_first_request() -> Result<()> {
    started_beside_another(Form::Daemon)
}

#[test]
fn a_unit_started_while_another_nginx_runs_is_followed_from_its_first_request() -> Result<()> {
    started_beside_another(Form::Unit)
}

/// As nginx's own test suite runs: one nginx after the other, none for long.
#[test]
fn no_failure_of_many_young_nginx_is_missed() -> Result<()> {
    const YOUNG: usize = 30;
    let failing = Failing::new(Form::Daemon)?;
    let mut before = failing.start()?;
    let tracer = Unscoped::start(&failing)?;
    before.stop(libc::SIGQUIT)?;
    let mut sent = Vec::new();
    let mut longest = Duration::ZERO;
    for _ in 0..YOUNG {
        let born = Instant::now();
        let (mut nginx, first) = failing.send_at_once(1, || failing.start())?;
        nginx.stop(libc::SIGQUIT)?;
        longest = longest.max(born.elapsed());
        sent.extend(first);
    }
    println!("NOTE: {YOUNG} nginx, none older than {longest:?}");
    tracer.check(&sent).map(drop)
}

/// A copy of nginx's binary that nobody has run yet.
fn copy(folder: &Folder, name: &str) -> Result<PathBuf> {
    let usual = programs::command("nginx")?;
    let copy = folder.join(name);
    std::fs::copy(usual.get_program(), &copy)?;
    Ok(copy)
}

/// Whether a line says that this nginx's binary is attached to, and how long that took.
fn says_attached(line: &str, binary: &Path, nginx: &Nginx) -> bool {
    let holds = |pattern: &str| Regex::new(pattern).is_ok_and(|regex| regex.is_match(line));
    let names_it =
        line.contains(&binary.display().to_string()) || holds(&format!(r"\b{}\b", nginx.master));
    names_it && holds(r"\battached\b.*\b\d+(\.\d+)? ?(µs|us|ms|s)\b")
}

/// A binary is met for the first time: the line says how long it took to attach, what failed before
/// is named as not seen, and what fails after is reported.
fn never_seen(name: &str, form: Form) -> Result<()> {
    let folder = Folder::new()?;
    let binary = copy(&folder, name)?;
    let mut failing = Failing::new(form)?;
    failing.config.program = Some(binary.clone());
    let tracer = Unscoped::start(&failing)?;
    let (nginx, mut sent) = failing.send_at_once(EARLY, || failing.start())?;
    let attached = tracer.says("the time until it was attached", |line| {
        says_attached(line, &binary, &nginx)
    })?;
    println!("NOTE: {name}: {}", attached.text);
    sent.extend(failing.send(5)?);
    let after: Vec<Answer> = sent
        .iter()
        .filter(|answer| answer.asked >= attached.at)
        .cloned()
        .collect();
    ensure!(after.len() >= 5, "{} sent after", after.len());
    tracer.reported(&after)?;
    let ended = tracer.stop(libc::SIGINT)?;
    ensure!(ended.status.code() == Some(0), "{ended:?}");
    let found = by_path(ended.verdicts.iter().cloned());
    let missed = sent.iter().filter(|one| !found.contains_key(&one.path));
    let missed = missed.count();
    println!("NOTE: {name}: {missed} of {EARLY} failed before it was attached");
    ensure!(
        missed == 0 || ended.stderr.contains("missed"),
        "{missed} failures were missed and nothing was said of them: {}",
        ended.stderr
    );
    Ok(())
}

#[test]
fn a_daemon_whose_binary_was_never_seen_is_attached_and_the_time_is_said() -> Result<()> {
    never_seen("nginx", Form::Daemon)
}

#[test]
fn a_unit_whose_binary_was_never_seen_is_attached_and_the_time_is_said() -> Result<()> {
    never_seen("nginx", Form::Unit)
}

#[test]
fn relatives_of_nginx_that_were_never_seen_are_attached() -> Result<()> {
    for name in ["openresty", "angie", "tengine"] {
        never_seen(name, Form::Daemon).context(name)?;
    }
    Ok(())
}

/// Only its title says that it is nginx.
#[test]
fn an_nginx_of_another_name_is_attached_by_its_title() -> Result<()> {
    never_seen("shop-web", Form::Daemon)
}

#[test]
fn the_end_of_the_last_followed_nginx_is_said_once_and_how_long_nothing_was_followed() -> Result<()>
{
    let failing = Failing::new(Form::Daemon)?;
    let mut nginx = failing.start()?;
    // Others run nginx on this host: of those that are followed it has to be the last.
    let mut tracer = Tracer::start(&mut live(nginx.master)?)?;
    tracer.tracing()?;
    let sent = failing.send(1)?;
    tracer.verdict_lines(sent.len())?;
    nginx.stop(libc::SIGTERM)?;
    tracer.says("waiting")?;
    let ended = tracer.stop(libc::SIGINT)?;
    ensure!(ended.status.code() == Some(0), "{ended:?}");
    let waits = ended.stderr.lines().filter(|line| line.contains("waiting"));
    ensure!(waits.count() == 1, "not once: {}", ended.stderr);
    let length = Regex::new(r"no nginx was traced.*\b\d+(\.\d+)? ?(ms|s|min|m|h)\b")?;
    ensure!(
        ended.stderr.lines().any(|line| length.is_match(line)),
        "it does not say for how long no nginx was traced: {}",
        ended.stderr
    );
    Ok(())
}

/// A daemon that was started while tracer runs, and what happens to it then.
fn through(happens: impl FnOnce(&Failing, &mut Nginx) -> Result<Vec<Answer>>) -> Result<()> {
    let failing = Failing::new(Form::Daemon)?;
    let mut nginx = failing.start()?;
    let tracer = Unscoped::start(&failing)?;
    nginx.stop(libc::SIGQUIT)?;
    let ((), mut sent) = failing.send_at_once(EARLY, || nginx.start_again())?;
    sent.extend(happens(&failing, &mut nginx)?);
    let logged = nginx.log()?;
    let ended = tracer.check(&sent)?;
    // What its log holds at the end is what was logged last: the verdicts have its connections.
    let verdicts = by_path(ended.verdicts);
    ensure!(!logged.is_empty(), "nginx logged nothing");
    for line in logged {
        let path = line.request.split(' ').nth(1).unwrap_or_default();
        let connection = &verdicts.get(path).context("no verdict")?[0]["connection"];
        ensure!(
            *connection == line.connection,
            "{path}: connection {connection}, nginx logged {}",
            line.connection
        );
    }
    Ok(())
}

#[test]
fn a_daemon_is_followed_through_a_reload() -> Result<()> {
    through(|failing, nginx| {
        nginx.reload()?;
        let mut sent = failing.send(EARLY)?;
        nginx.settled()?;
        sent.extend(failing.send(EARLY)?);
        Ok(sent)
    })
}

#[test]
fn a_daemon_is_followed_through_an_upgrade_of_its_binary() -> Result<()> {
    through(|failing, nginx| {
        let mut sent = Vec::new();
        nginx.upgrade(|_| {
            sent = failing.send(EARLY)?;
            Ok(())
        })?;
        sent.extend(failing.send(EARLY)?);
        Ok(sent)
    })
}

#[test]
fn a_daemon_is_followed_through_the_death_of_a_worker() -> Result<()> {
    through(|failing, nginx| {
        nginx.kill_worker()?;
        failing.send(EARLY)
    })
}

#[test]
fn a_daemon_whose_log_is_moved_is_read_on() -> Result<()> {
    through(|failing, nginx| {
        let log = nginx.folder().join("error.log");
        let moved = nginx.folder().join("error.log.1");
        std::fs::rename(&log, &moved)?;
        let mut sent = failing.send(5)?;
        process::signal(nginx.master, libc::SIGUSR1);
        until("the new log", PATIENCE, || Ok(log.exists().then_some(())))?;
        // Each worker opens it by itself, later than its master.
        let opened = |pid: &u32| {
            let files = std::fs::read_dir(format!("/proc/{pid}/fd"));
            files.is_ok_and(|files| {
                let links = files.flatten().map(|file| std::fs::read_link(file.path()));
                links.flatten().any(|link| link == log)
            })
        };
        until("the workers' new log", PATIENCE, || {
            Ok(nginx.worker_pids().iter().all(opened).then_some(()))
        })?;
        sent.extend(failing.send(EARLY)?);
        Ok(sent)
    })
}

#[test]
fn a_daemon_whose_log_is_copied_and_truncated_is_read_on() -> Result<()> {
    through(|failing, nginx| {
        let mut sent = failing.send(5)?;
        let log = nginx.folder().join("error.log");
        std::fs::copy(&log, nginx.folder().join("error.log.1"))?;
        std::fs::File::options()
            .write(true)
            .open(&log)?
            .set_len(0)?;
        sent.extend(failing.send(EARLY)?);
        Ok(sent)
    })
}
