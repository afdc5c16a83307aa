//! Failures that the client does not see as such, or not as nginx began to answer them:
//! `error_page`, a fallback, a stale cache. Each is reported once, with the status that the client
//! really got.

use anyhow::{Context, Result, ensure};
use tests::certificate::Certificate;
use tests::client::{Front, HOST};
use tests::expected::Expected;
use tests::netns::Netns;
use tests::programs;
use tests::service::Service;
use tests::session::Session;
use tests::stage::{Fault, HEALTHY, Load, Stage};
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
         location @fallback {{ proxy_pass http://{HEALTHY}; }}\n\
         location @refused {{ proxy_pass http://127.0.0.1:9003; }}\n\
         location @own {{ proxy_pass http://127.0.0.1:9004; }}\n"
    );
    Ok(stage)
}

#[test]
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
fn a_fallback_location_that_answers() -> Result<()> {
    let expected = refused().masked_by(HEALTHY);
    let fault = Fault::proxy(expected, "error_page 502 = @fallback;");
    stage()?.check(vec![fault]).map(drop)
}

#[test]
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

/// The cache is filled; then `change` breaks the backend, and the cache answers.
fn stale(
    expected: Expected,
    directives: &str,
    change: impl FnOnce(Service, &Netns) -> Result<Option<Service>>,
) -> Result<()> {
    let mut stage = stage()?;
    let cache = tests::folder::Folder::new()?;
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
    let service = Service::start(&stage.netns, &[CLOSED, "answer", text])?;
    stage.config.http = format!(
        "proxy_cache_path {} keys_zone=stale:1m use_temp_path=off;\n",
        cache.join("cache").display()
    );
    let fault = Fault::proxy(
        expected,
        &format!(
            "proxy_cache stale; proxy_cache_key one; proxy_cache_valid 200 1s; {directives} \
             add_header X-Cache $upstream_cache_status;"
        ),
    );
    let netns = stage.netns.clone();
    let site = stage.start(vec![fault])?;
    let mut session = Session::open(&site.netns)?;
    let first = session.ask("GET", "/fail0/fill")?;
    ensure!(first.status == 200, "the cache is not filled: {first:?}");
    let _broken = change(service, &netns)?;
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

#[test]
fn a_stale_answer_while_the_backend_is_gone() -> Result<()> {
    stale(
        refused().hidden(200),
        "proxy_cache_use_stale error;",
        |service, _| {
            drop(service);
            Ok(None)
        },
    )
}

#[test]
fn a_stale_answer_instead_of_the_backends_own_502() -> Result<()> {
    let own = Expected::connected("passed-through", CLOSED, "").unlogged();
    stale(
        own.hidden(200),
        "proxy_cache_use_stale http_502;",
        |service, netns| {
            drop(service);
            let text = "HTTP/1.1 502 Its Own\r\nContent-Length: 4\r\n\r\nown\n";
            Service::start(netns, &[CLOSED, "answer", text]).map(Some)
        },
    )
}

#[test]
fn a_stale_answer_instead_of_one_that_nginx_refuses() -> Result<()> {
    let rejected = Expected::connected("response-rejected", CLOSED, "upstream sent invalid header");
    stale(
        rejected.hidden(200),
        "proxy_cache_use_stale invalid_header;",
        |service, netns| {
            drop(service);
            let text = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nA\\0: b\r\n\r\nown\n";
            Service::start(netns, &[CLOSED, "answer", text]).map(Some)
        },
    )
}

/// Every page that nginx can put in the failure's place, at once: so that nothing is joined by
/// chance.
fn pages() -> Vec<Fault> {
    let fault = |status: u16, page: &str| {
        let expected = if status < 500 {
            refused().hidden(status)
        } else {
            refused().status(status)
        };
        Fault::proxy(expected, page)
    };
    vec![
        fault(200, "error_page 502 =200 /sorry;"),
        fault(200, "error_page 502 = /sorry;"),
        fault(502, "error_page 502 /sorry;"),
        fault(503, "error_page 502 =503 /sorry;"),
        fault(404, "error_page 502 =404 /sorry;"),
        fault(302, "error_page 502 =302 http://elsewhere.test/;"),
        fault(502, ""),
        Fault::proxy(refused().masked_by(HEALTHY), "error_page 502 = @fallback;"),
    ]
}

fn through(front: Front) -> Result<()> {
    let mut stage = stage()?;
    let certificate = Certificate::new(HOST)?;
    stage.config.server.push_str(&certificate.fronts());
    let load = Load {
        failing: 10,
        healthy: 20,
        concurrency: 8,
        front,
    };
    stage.check_with(pages(), load).map(drop)
}

#[test]
fn every_page_side_by_side() -> Result<()> {
    through(Front::Http)
}

#[test]
fn every_page_side_by_side_over_tls() -> Result<()> {
    through(Front::Tls)
}

#[test]
fn every_page_side_by_side_over_http2() -> Result<()> {
    through(Front::TlsHttp2)
}

/// The member of nginx's that holds the client's status lies elsewhere in each version.
#[test]
fn every_page_in_every_version() -> Result<()> {
    for suite in ["bullseye", "bookworm", "trixie", "sid"] {
        let Some(tree) = programs::suite(suite) else {
            println!("SKIPPED: every_page_in_every_version: no nginx of Debian {suite}");
            continue;
        };
        let mut stage = stage()?;
        stage.config.tree = Some(tree);
        stage
            .check(pages())
            .with_context(|| format!("the nginx of Debian {suite}"))?;
    }
    Ok(())
}

#[test]
fn a_fallback_that_is_refused_too_makes_one_verdict() -> Result<()> {
    let last = Expected::new("no-listener", "127.0.0.1:9003", "ECONNREFUSED");
    let fault = Fault::proxy(refused(), "error_page 502 = @refused;");
    let expected = last.after(&[refused()]);
    stage()?.check(vec![Fault { expected, ..fault }]).map(drop)
}

#[test]
fn a_fallback_whose_own_502_is_passed_on() -> Result<()> {
    let stage = stage()?;
    let text = "HTTP/1.1 502 Its Own\r\nContent-Length: 4\r\n\r\nown\n";
    let _service = Service::start(&stage.netns, &["127.0.0.1:9004", "answer", text])?;
    let own = Expected::connected("passed-through", "127.0.0.1:9004", "").unlogged();
    let fault = Fault::proxy(refused(), "error_page 502 = @own;");
    let expected = own.after(&[refused()]);
    stage.check(vec![Fault { expected, ..fault }]).map(drop)
}

/// A page that takes its time: the failure is reported once the client has it, and the host was
/// asked before.
#[test]
fn a_slow_fallback() -> Result<()> {
    let mut stage = stage()?;
    // limit_rate does not delay the header, a subrequest to a slow upstream does.
    let _slow = Service::start(&stage.netns, &["127.0.0.1:9005", "stop-reading"])?;
    stage.config.server.push_str(
        "location @slow { proxy_pass http://127.0.0.1:9005; proxy_read_timeout 1s; \
         error_page 504 =200 /sorry; recursive_error_pages on; }\n",
    );
    let slow = Expected::timeout("backend-slow", "127.0.0.1:9005");
    let fault = Fault::proxy(
        refused(),
        "recursive_error_pages on; error_page 502 = @slow;",
    );
    let expected = slow.hidden(200).after(&[refused()]);
    stage.check(vec![Fault { expected, ..fault }]).map(drop)
}

/// The request's own upstream, and that of the check before it.
#[test]
fn a_subrequest_that_fails() -> Result<()> {
    let mut stage = stage()?;
    stage.config.server.push_str(&format!(
        "location = /may {{ internal; proxy_pass http://{CLOSED}; }}\n"
    ));
    let expected = refused()
        .status(500)
        .then_logged("auth request unexpected status: 502");
    let fault = Fault::proxy(expected, "auth_request /may;");
    let fault = Fault {
        location: format!("proxy_pass http://{HEALTHY}; auth_request /may;"),
        ..fault
    };
    stage.check(vec![fault]).map(drop)
}

/// Without any word in the log.
#[test]
fn nothing_logged() -> Result<()> {
    let mut stage = stage()?;
    stage.config.error_log = Some("/dev/null emerg".into());
    let faults = pages().into_iter().map(|fault| Fault {
        expected: fault.expected.unlogged(),
        ..fault
    });
    stage.check(faults.collect()).map(drop)
}
