//! Failures that the client does not see as such: `error_page`, a fallback, a stale cache.

use anyhow::{Context, Result, ensure};
use tests::expected::Expected;
use tests::service::Service;
use tests::session::Session;
use tests::stage::{Fault, HEALTHY, Stage};
use tests::tracer::Tracer;
use tests::wait::{PATIENCE, until};

const CLOSED: &str = "127.0.0.1:9001";

fn refused() -> Expected {
    Expected::new("no-listener", CLOSED, "ECONNREFUSED")
}

fn stage() -> Result<Stage> {
    let mut stage = Stage::new()?;
    stage.config.server = format!(
        "location /sorry {{ return 200 sorry; }}\n\
         location @fallback {{ proxy_pass http://{HEALTHY}; }}\n"
    );
    Ok(stage)
}

#[test]
#[ignore = "open: the client's own status behind error_page or a cache is not seen"]
fn an_error_page_with_a_status_of_its_own() -> Result<()> {
    let stage = stage()?;
    let _service = Service::start(&stage.netns, &["127.0.0.1:9002", "answer", ""])?;
    let early = Expected::connected(
        "backend-closed-early",
        "127.0.0.1:9002",
        "upstream prematurely closed connection",
    );
    stage
        .check(vec![
            Fault::proxy(refused().hidden(200), "error_page 502 =200 /sorry;"),
            Fault::proxy(early.hidden(200), "error_page 502 =200 /sorry;"),
        ])
        .map(drop)
}

#[test]
fn an_error_page_that_keeps_the_status_hides_nothing() -> Result<()> {
    let fault = Fault::proxy(refused(), "error_page 502 /sorry;");
    stage()?.check(vec![fault]).map(drop)
}

#[test]
#[ignore = "open: the client's own status behind error_page or a cache is not seen"]
fn a_fallback_location_that_answers() -> Result<()> {
    let expected = refused().masked_by(HEALTHY);
    let fault = Fault::proxy(expected, "error_page 502 = @fallback;");
    stage()?.check(vec![fault]).map(drop)
}

#[test]
#[ignore = "open: the client's own status behind error_page or a cache is not seen"]
fn the_backends_own_error_intercepted() -> Result<()> {
    let stage = stage()?;
    let text = "HTTP/1.1 502 Its Own\r\nContent-Length: 4\r\n\r\nown\n";
    let _service = Service::start(&stage.netns, &["127.0.0.1:9002", "answer", text])?;
    let own = || Expected::connected("passed-through", "127.0.0.1:9002", "").unlogged();
    stage
        .check(vec![
            Fault::proxy(
                own().hidden(200),
                "proxy_intercept_errors on; error_page 502 =200 /sorry;",
            ),
            Fault::proxy(own(), "proxy_intercept_errors on; error_page 502 /sorry;"),
        ])
        .map(drop)
}

/// The cache answers while the backend is gone.
#[test]
#[ignore = "open: the client's own status behind error_page or a cache is not seen"]
fn a_stale_answer_from_the_cache() -> Result<()> {
    let mut stage = stage()?;
    let cache = tests::folder::Folder::new()?;
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
    let service = Service::start(&stage.netns, &[CLOSED, "answer", text])?;
    stage.config.http = format!(
        "proxy_cache_path {} keys_zone=stale:1m use_temp_path=off;\n",
        cache.join("cache").display()
    );
    let fault = Fault::proxy(
        refused().hidden(200),
        "proxy_cache stale; proxy_cache_key one; proxy_cache_valid 200 1s; \
         proxy_cache_use_stale error; add_header X-Cache $upstream_cache_status;",
    );
    let site = stage.start(vec![fault])?;
    let mut session = Session::open(&site.netns)?;
    let first = session.ask("GET", "/fail0/fill")?;
    ensure!(first.status == 200, "the cache is not filled: {first:?}");
    drop(service);
    until("a stale answer", PATIENCE, || {
        let heard = session.ask("GET", "/fail0/fill")?;
        let state = heard.value("X-Cache").context("no state of the cache")?;
        Ok((state == "STALE").then_some(()))
    })?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let mut answers = Vec::new();
    for number in 0..5 {
        for path in [format!("/fail0/{number}"), format!("/ok/{number}")] {
            answers.push(("GET", session.answer("GET", &path)?));
        }
    }
    let sent = site.sent(answers);
    site.check(&sent, tracer).map(drop)
}
