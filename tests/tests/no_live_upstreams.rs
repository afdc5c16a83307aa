//! nginx tries nobody: every server of the group has failed too often, is `down`, or has all the
//! connections that it may have.

use anyhow::Result;
use tests::expected::Expected;
use tests::service::Service;
use tests::session::Session;
use tests::site::{Sent, Site};
use tests::stage::{Fault, Stage};
use tests::tracer::Tracer;

const NONE: &str = "no live upstreams while connecting to upstream";

fn nobody() -> Expected {
    Expected::untried("no-live-upstreams", NONE)
}

/// Five requests for each of these faults and five healthy ones, one at a time, after `first`.
fn ask(site: &Site, first: &[&str], faults: &[usize]) -> Result<Sent> {
    let mut session = Session::open(&site.netns)?;
    let mut answers = Vec::new();
    for path in first {
        answers.push(("GET", session.answer("GET", path)?));
    }
    for number in 0..5 {
        for fault in faults {
            let path = format!("/fail{fault}/{number}");
            answers.push(("GET", session.answer("GET", &path)?));
        }
        answers.push(("GET", session.answer("GET", &format!("/ok/{number}"))?));
    }
    Ok(site.sent(answers))
}

fn refused(upstream: &str) -> Expected {
    Expected::new("no-listener", upstream, "ECONNREFUSED")
}

/// Two locations of one group: the first request to `/fail0/` makes its servers fail.
fn failed_before(zone: &str, workers: u32) -> Result<()> {
    let mut stage = Stage::new()?;
    stage.config.workers = workers;
    let both = refused("127.0.0.1:9002").after(&[refused("127.0.0.1:9001")]);
    let servers = ["127.0.0.1:9001", "127.0.0.1:9002"]
        .map(|server| format!("server {server} max_fails=1 fail_timeout=60s; "))
        .concat();
    let first = Fault::location("proxy_pass http://dead;", both)
        .with(format!("upstream dead {{ {zone} {servers} }}\n"));
    let then = nobody().says("127.0.0.1:9001").says("127.0.0.1:9002");
    let site = stage.start(vec![
        first,
        Fault::location("proxy_pass http://dead;", then),
    ])?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let sent = ask(&site, &["/fail0/first"], &[1])?;
    site.check(&sent, tracer).map(drop)
}

#[test]
fn all_servers_failed_before() -> Result<()> {
    failed_before("", 1)
}

#[test]
fn all_servers_failed_before_in_a_zone_that_workers_share() -> Result<()> {
    failed_before("zone dead 64k;", 2)
}

#[test]
fn all_servers_are_down() -> Result<()> {
    let down = |name: &str, servers: &str| {
        Fault::location(format!("proxy_pass http://{name};"), nobody().says("down"))
            .with(format!("upstream {name} {{ {servers} }}\n"))
    };
    Stage::new()?
        .check(vec![
            down("one", "server 127.0.0.1:9001 down;"),
            down(
                "two",
                "server 127.0.0.1:9001 down; server 127.0.0.1:9002 down;",
            ),
        ])
        .map(drop)
}

#[test]
fn the_only_server_has_all_the_connections_it_may_have() -> Result<()> {
    let mut stage = Stage::new()?;
    let mut service = Service::start(&stage.netns, &["127.0.0.1:9003", "wait"])?;
    stage.config.server = "location /held { proxy_pass http://full; }\n".into();
    let full = Fault::location("proxy_pass http://full;", nobody().says("max_conns"))
        .with("upstream full { zone full 64k; server 127.0.0.1:9003 max_conns=1; }\n");
    let site = stage.start(vec![full])?;
    let mut held = Session::open(&site.netns)?;
    held.say("GET", "/held")?;
    service.says("serving", 1)?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let sent = ask(&site, &[], &[0])?;
    site.check(&sent, tracer).map(drop)
}

/// The server that fails speaks for the request, not the one that could not be tried after it.
#[test]
fn one_server_fails_and_the_other_may_have_no_more_connections() -> Result<()> {
    let mut stage = Stage::new()?;
    stage.config.workers = 1;
    let mut service = Service::start(&stage.netns, &["127.0.0.1:9003", "wait"])?;
    let then = refused("127.0.0.1:9001").then_logged(NONE);
    let partly = Fault::location("proxy_pass http://partly;", then).with(
        "upstream partly { zone partly 64k; server 127.0.0.1:9001 max_fails=0; \
         server 127.0.0.1:9003 max_conns=1 backup; }\n",
    );
    let site = stage.start(vec![partly])?;
    // Refused at the first, held by the second from then on.
    let mut held = Session::open(&site.netns)?;
    held.say("GET", "/fail0/held")?;
    service.says("serving", 1)?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let sent = ask(&site, &[], &[0])?;
    site.check(&sent, tracer).map(drop)
}
