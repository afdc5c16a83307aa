//! Clients that leave (499): nobody's fault, counted and never blamed on the backend.

use std::io::Write;

use anyhow::{Result, ensure};
use tests::client::dial;
use tests::expected::Expected;
use tests::faults::firewall;
use tests::service::Service;
use tests::site::Site;
use tests::stage::{Fault, Load, Stage};
use tests::tracer::Tracer;
use tests::wait::{PATIENCE, until};

const LEAVING: usize = 5;
/// At level `info`: by default nginx is silent about it.
const NOTICED: &str = "epoll_wait() reported that client prematurely closed connection";

/// The requests of clients that leave once `taken` says that nginx is at work for all of them.
fn leave(site: &Site, method: &str, taken: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut clients = Vec::new();
    for number in 0..LEAVING {
        let mut client = site.netns.enter(|| dial("127.0.0.1:80"))?;
        let body = if method == "POST" {
            "Content-Length: 2\r\n\r\nhi"
        } else {
            "\r\n"
        };
        write!(
            client,
            "{method} /left/{number} HTTP/1.1\r\nHost: left\r\n{body}"
        )?;
        clients.push(client);
    }
    taken()
}

/// The verdicts on other requests are right, there are none on these, and the summary counts them.
fn check(site: &Site, tracer: Tracer) -> Result<()> {
    let log = std::fs::read_to_string(site.nginx.folder().join("info.log"))?;
    let noticed = log.lines().filter(|line| line.contains(NOTICED)).count();
    ensure!(
        noticed == LEAVING,
        "nginx noticed {noticed} clients that left:\n{log}"
    );
    let sent = site.send(Load::default())?;
    let ended = site.check_all(&sent, tracer)?;
    let counted = |line: &str| line.contains("499") && line.contains(&LEAVING.to_string());
    ensure!(
        ended.stderr.lines().any(counted),
        "no word of {LEAVING} clients that left (499): {}",
        ended.stderr
    );
    Ok(())
}

fn stage() -> Result<(Stage, Fault)> {
    let mut stage = Stage::new()?;
    stage.config.server = "location /left { proxy_pass http://127.0.0.1:9002; }\n".into();
    stage.config.main = "error_log info.log info;\n".into();
    let closed = Expected::new("no-listener", "127.0.0.1:9001", "ECONNREFUSED");
    Ok((stage, Fault::proxy(closed, "")))
}

fn while_the_backend_works(method: &str) -> Result<()> {
    let (stage, fault) = stage()?;
    let mut service = Service::start(&stage.netns, &["127.0.0.1:9002", "hold", ""])?;
    let site = stage.start(vec![fault])?;
    let tracer = Tracer::follow(site.nginx.master)?;
    leave(&site, method, || service.says("serving", LEAVING).map(drop))?;
    // nginx has noticed when it has closed its side.
    service.says("left", LEAVING)?;
    check(&site, tracer)
}

#[test]
fn while_the_backend_works_on_a_get() -> Result<()> {
    while_the_backend_works("GET")
}

#[test]
fn while_the_backend_works_on_a_post() -> Result<()> {
    while_the_backend_works("POST")
}

#[test]
fn while_nginx_connects() -> Result<()> {
    let (stage, fault) = stage()?;
    firewall::rule(&stage.netns, "output", "tcp dport 9002 drop")?;
    let site = stage.start(vec![fault])?;
    let tracer = Tracer::follow(site.nginx.master)?;
    // Remote port 9002, state 02: SYN_SENT.
    let connecting = |count: usize| {
        until(
            &format!("{count} connections in the making"),
            PATIENCE,
            || {
                let table = site.netns.tcp_table()?;
                let found = table
                    .lines()
                    .filter(|line| line.contains(":232A 02 "))
                    .count();
                Ok((found == count).then_some(()))
            },
        )
    };
    leave(&site, "GET", || connecting(LEAVING))?;
    connecting(0)?;
    check(&site, tracer)
}

#[test]
fn ignored_by_nginx_until_its_timer() -> Result<()> {
    let (mut stage, fault) = stage()?;
    stage.config.server = "location /left { proxy_pass http://127.0.0.1:9002; \
                           proxy_ignore_client_abort on; proxy_read_timeout 300ms; }\n"
        .into();
    let mut service = Service::start(&stage.netns, &["127.0.0.1:9002", "hold", ""])?;
    let site = stage.start(vec![fault])?;
    let tracer = Tracer::follow(site.nginx.master)?;
    leave(&site, "GET", || service.says("serving", LEAVING).map(drop))?;
    service.says("left", LEAVING)?;
    let ended = tracer.stop(libc::SIGINT)?;
    // These are failures of the backend's, whoever still listens: 504, each told once.
    let slow = |verdict: &&serde_json::Value| verdict["cause"] == "backend-slow";
    ensure!(
        ended.verdicts.iter().filter(slow).count() == LEAVING && ended.verdicts.len() == LEAVING,
        "{:?}",
        ended.verdicts
    );
    Ok(())
}
