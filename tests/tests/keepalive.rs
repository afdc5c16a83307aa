//! Kept-alive connections to a backend that closes them as nginx reuses them.
//!
//! Forced: a stopped worker finds the client's request and the backend's FIN or RST at once, as a
//! busy one does. Natural: requests spaced around the backend's idle timeout.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tests::client::Answer;
use tests::expected::Expected;
use tests::process;
use tests::service::Service;
use tests::session::Session;
use tests::site::{Sent, Site};
use tests::spacing;
use tests::stage::{Fault, Load, Stage};
use tests::tracer::Tracer;
use tests::wait::{PATIENCE, until};

const BACKEND: &str = "127.0.0.1:9001";
const AT_ONCE: usize = 5;
const PREMATURELY: &str = "upstream prematurely closed connection while reading response header";

fn race(logged: &str) -> Expected {
    Expected::connected("keepalive-race", BACKEND, logged)
        .reused()
        .says("idle")
}

/// Met by FIN: the write draws a RST, the read ends or fails, by race in the kernel.
fn by_fin() -> Expected {
    race(&format!("{PREMATURELY} | (104: | (32: "))
        .or_errno(Some("EPIPE"))
        .or_errno(Some("ECONNRESET"))
}

/// Met by RST: nginx asks the socket before it writes.
fn by_reset() -> Expected {
    let expected = race("connect() failed (104: ");
    Expected {
        errno: Some("ECONNRESET"),
        ..expected
    }
}

const HTTP: &str = "proxy_http_version 1.1; proxy_set_header Connection ''; proxy_pass http://";
const FASTCGI: &str = "fastcgi_keep_conn on; fastcgi_pass ";

/// A group of its own for each request, so that as many connections are kept.
fn kept(pass: &str, index: usize, expected: Expected) -> Fault {
    Fault::location(format!("{pass}kept{index};"), expected).with(format!(
        "upstream kept{index} {{ server {BACKEND}; keepalive 8; }}\n"
    ))
}

/// As many races as [`AT_ONCE`], each on a connection that carried a request before.
fn races(
    site: &Site,
    mut sessions: Vec<Session>,
    service: &mut Service,
    method: &'static str,
    word: &str,
) -> Result<Sent> {
    let worker = *site.nginx.worker_pids().first().context("no worker")?;
    process::signal(worker, libc::SIGSTOP);
    until("a stopped worker", PATIENCE, || {
        let stat = std::fs::read_to_string(format!("/proc/{worker}/stat"))?;
        Ok(stat.contains(") T ").then_some(()))
    })?;
    let asked = Instant::now();
    let raced = (0..AT_ONCE)
        .try_for_each(|index| sessions[index].say(method, &format!("/fail{index}/{word}")))
        .and_then(|()| service.tell(word))
        .and_then(|()| service.says("closed", AT_ONCE));
    process::signal(worker, libc::SIGCONT);
    raced?;
    let mut answers = Vec::new();
    for (index, session) in sessions.iter_mut().enumerate() {
        let status = session.hear()?.status;
        let path = format!("/fail{index}/{word}");
        answers.push((
            method,
            Answer {
                path,
                status,
                asked,
            },
        ));
    }
    Ok(site.sent(answers))
}

/// Opens a kept connection for each group, through clients that keep theirs.
fn warm(site: &Site) -> Result<Vec<Session>> {
    (0..AT_ONCE)
        .map(|index| {
            let mut session = Session::open(&site.netns)?;
            let status = session.ask("GET", &format!("/fail{index}/warm"))?.status;
            ensure!(status == 200, "the first request got {status}");
            Ok(session)
        })
        .collect()
}

fn forced(method: &'static str, word: &str, expected: Expected, attached_late: bool) -> Result<()> {
    forced_by(HTTP, method, word, expected, attached_late)
}

fn forced_by(
    pass: &str,
    method: &'static str,
    word: &str,
    expected: Expected,
    attached_late: bool,
) -> Result<()> {
    let mut stage = Stage::new()?;
    stage.config.workers = 1;
    let mut service = Service::start(&stage.netns, &[BACKEND, "keepalive", "60000"])?;
    let faults = (0..AT_ONCE).map(|index| kept(pass, index, expected.clone()));
    let site = stage.start(faults.collect())?;
    let before = attached_late.then(|| warm(&site)).transpose()?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let healthy = Load {
        failing: 0,
        ..Load::default()
    };
    let mut sent = site.send(healthy)?;
    let sessions = match before {
        Some(sessions) => sessions,
        None => warm(&site)?,
    };
    sent.extend(races(&site, sessions, &mut service, method, word)?);
    site.check(&sent, tracer).map(drop)
}

#[test]
fn a_post_that_meets_a_fin_is_not_retried() -> Result<()> {
    forced("POST", "close", by_fin(), false)
}

#[test]
fn a_get_that_meets_a_fin_is_retried() -> Result<()> {
    forced("GET", "close", by_fin().masked_by(BACKEND), false)
}

#[test]
fn a_post_that_meets_a_reset_is_retried_for_nothing_was_sent() -> Result<()> {
    forced("POST", "reset", by_reset().masked_by(BACKEND), false)
}

#[test]
fn a_get_that_meets_a_reset_is_retried() -> Result<()> {
    forced("GET", "reset", by_reset().masked_by(BACKEND), false)
}

#[test]
fn a_post_on_a_connection_older_than_the_tracer() -> Result<()> {
    forced("POST", "close", by_fin(), true)
}

#[test]
fn a_get_on_a_connection_older_than_the_tracer() -> Result<()> {
    forced("GET", "close", by_fin().masked_by(BACKEND), true)
}

#[test]
fn a_fastcgi_post_that_meets_a_fin() -> Result<()> {
    forced_by(FASTCGI, "POST", "close", by_fin(), false)
}

#[test]
fn a_fastcgi_get_that_meets_a_fin_is_retried() -> Result<()> {
    let expected = by_fin().masked_by(BACKEND);
    forced_by(FASTCGI, "GET", "close", expected, false)
}

#[test]
fn a_fastcgi_get_that_meets_a_reset_is_retried() -> Result<()> {
    let expected = by_reset().masked_by(BACKEND);
    forced_by(FASTCGI, "GET", "reset", expected, false)
}

fn natural(method: &'static str, expected: Expected) -> Result<()> {
    let mut stage = Stage::new()?;
    stage.config.workers = 1;
    let _service = spacing::impatient(&stage.netns, BACKEND)?;
    let site = stage.start(vec![kept(HTTP, 0, expected)])?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let sent = spacing::around_the_idle_timeout(&site, method, 500)?;
    site.check(&sent, tracer).map(drop)
}

#[test]
fn five_hundred_posts_around_the_idle_timeout() -> Result<()> {
    natural("POST", by_fin())
}

#[test]
fn five_hundred_gets_around_the_idle_timeout() -> Result<()> {
    natural("GET", by_fin().masked_by(BACKEND))
}
