//! The nginx of four Debian suites, from 1.18 to 1.30: the same verdicts. Each runs in a root of
//! its own, as `cargo xtask setup` unpacked it.

use anyhow::Result;
use tests::client::Front;
use tests::expected::Expected;
use tests::programs;
use tests::selection::Selection;
use tests::service::Service;
use tests::spacing;
use tests::stage::{Fault, Load, Stage};
use tests::tracer::Tracer;

const LOAD: Load = Load {
    failing: 5,
    healthy: 20,
    concurrency: 8,
    front: Front::Http,
};

/// A stage with this suite's nginx; `None`, said, where setup could not unpack it.
fn stage(test: &str, suite: &str) -> Result<Option<Stage>> {
    let Some(tree) = programs::suite(suite) else {
        println!("SKIPPED: {test}: Debian {suite}'s nginx is not unpacked under target/nginx");
        return Ok(None);
    };
    let mut stage = Stage::new()?;
    stage.config.tree = Some(tree);
    Ok(Some(stage))
}

fn selection(test: &str, suite: &str) -> Result<()> {
    let Some(stage) = stage(test, suite)? else {
        return Ok(());
    };
    let selection = Selection::new(&stage)?;
    let faults = selection.faults.clone();
    stage.check_with(faults, LOAD).map(drop)
}

#[test]
fn bullseye() -> Result<()> {
    selection("bullseye", "bullseye")
}

#[test]
fn bookworm() -> Result<()> {
    selection("bookworm", "bookworm")
}

#[test]
fn trixie() -> Result<()> {
    selection("trixie", "trixie")
}

#[test]
fn sid() -> Result<()> {
    selection("sid", "sid")
}

/// nginx 1.22 lets the one win, later ones refuse both.
fn two_lengths(test: &str, suite: &str) -> Result<()> {
    let Some(stage) = stage(test, suite)? else {
        return Ok(());
    };
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok";
    let _service = Service::start(&stage.netns, &["127.0.0.1:9001", "answer", text])?;
    let logged =
        "upstream sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time";
    let expected =
        Expected::connected("response-rejected", "127.0.0.1:9001", logged).says("at the same time");
    stage
        .check_with(vec![Fault::proxy(expected, "")], LOAD)
        .map(drop)
}

#[test]
fn trixie_refuses_two_lengths() -> Result<()> {
    two_lengths("trixie_refuses_two_lengths", "trixie")
}

#[test]
fn sid_refuses_two_lengths() -> Result<()> {
    two_lengths("sid_refuses_two_lengths", "sid")
}

/// Since 1.29.7 nginx keeps the connections of a group alive without a directive: so it races, too.
#[test]
fn sid_races_without_any_directive() -> Result<()> {
    let Some(mut stage) = stage("sid_races_without_any_directive", "sid")? else {
        return Ok(());
    };
    stage.config.workers = 1;
    let upstream = "127.0.0.1:9001";
    let _service = spacing::impatient(&stage.netns, upstream)?;
    let logged = "upstream prematurely closed connection while reading | (104: | (32: ";
    let expected = Expected::connected("keepalive-race", upstream, logged)
        .reused()
        .at_best_proven()
        .says("idle")
        .or_errno(Some("EPIPE"))
        .or_errno(Some("ECONNRESET"));
    let fault = Fault::location("proxy_pass http://own;", expected)
        .with(format!("upstream own {{ server {upstream}; }}\n"));
    let site = stage.start(vec![fault])?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let sent = spacing::around_the_idle_timeout(&site, "POST", 300)?;
    site.check(&sent, tracer).map(drop)
}
