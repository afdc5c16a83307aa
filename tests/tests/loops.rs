//! nginx that passes requests to itself: without end, which is one verdict a request, or once.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::expected::Expected;
use tests::session::Session;
use tests::stage::{Fault, Stage};
use tests::tracer::Tracer;

const CLOSED: &str = "127.0.0.1:9001";

/// Requests of a client's own, one after the other, with healthy ones between; their verdicts.
fn ask(stage: Stage, status: u16, path: &str) -> Result<Vec<Value>> {
    const TIMES: usize = 6;
    let site = stage.start(Vec::new())?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let mut session = Session::open(&site.netns)?;
    for number in 0..TIMES {
        for (path, wanted) in [(path, status), ("/ok", 200)] {
            let path = format!("{path}/{number}");
            let answer = session.answer("GET", &path)?;
            ensure!(answer.status == wanted, "{path} got {}", answer.status);
        }
    }
    let waited = tracer.verdict_lines(TIMES);
    let ended = tracer.stop(libc::SIGINT)?;
    waited.with_context(|| format!("{}{:#?}", ended.stderr, ended.verdicts))?;
    ensure!(ended.status.code() == Some(0), "{}", ended.stderr);
    ensure!(
        ended.verdicts.len() == TIMES,
        "{} verdicts: {:#?}",
        ended.verdicts.len(),
        ended.verdicts
    );
    Ok(ended.verdicts)
}

/// Each is a loop's of at least so many passes to this address, and of the client's own request.
fn are_loops(verdicts: &[Value], status: u16, to: &str, line: &str) -> Result<()> {
    for verdict in verdicts {
        let summary = verdict["summary"].as_str().unwrap_or_default();
        let passes = summary
            .split(' ')
            .filter_map(|word| word.parse::<u32>().ok());
        ensure!(
            verdict["cause"] == "proxy-loop"
                && verdict["confidence"] == "proven"
                && verdict["status"] == status
                && summary.contains(to)
                && summary.contains("is its own address")
                && passes.max().is_some_and(|passes| passes >= 10)
                && verdict["request"]["line"]
                    .as_str()
                    .is_some_and(|said| said.starts_with(line)),
            "{verdict:#}"
        );
    }
    Ok(())
}

/// nginx with so many connections a worker: whether an accept or a connect finds none left, one
/// decides.
fn stage(connections: u32, server: &str) -> Result<Stage> {
    let mut stage = Stage::new()?;
    stage.config.events = format!("worker_connections {connections};");
    stage.config.workers = 1;
    stage.config.server = server.to_owned();
    Ok(stage)
}

#[test]
fn a_server_that_passes_to_itself_until_no_connection_is_left() -> Result<()> {
    let server = "location /loop/ { proxy_pass http://127.0.0.1:80; }\n";
    let mut statuses = Vec::new();
    for connections in [64, 65] {
        let site = stage(connections, server)?.start(Vec::new())?;
        let mut session = Session::open(&site.netns)?;
        let status = session.answer("GET", "/loop/first")?.status;
        drop(site);
        let verdicts = ask(stage(connections, server)?, status, "/loop")?;
        are_loops(&verdicts, status, "127.0.0.1:80", "GET /loop/")?;
        statuses.push(status);
    }
    statuses.sort_unstable();
    ensure!(statuses == [500, 502], "{statuses:?}");
    Ok(())
}

#[test]
fn two_servers_that_pass_to_each_other() -> Result<()> {
    let mut stage = stage(64, "location /loop/ { proxy_pass http://127.0.0.1:81; }\n")?;
    stage.config.http = "server { listen 127.0.0.1:81; proxy_set_header Host $host; \
                         location / { proxy_pass http://127.0.0.1:80; } }\n"
        .into();
    let verdicts = ask(stage, 502, "/loop")?;
    are_loops(&verdicts, 502, "127.0.0.1:8", "GET /loop/")
}

/// What is behind it fails: that is the verdict, and what the outer request got was passed through.
#[test]
fn a_server_that_passes_to_itself_once_is_none() -> Result<()> {
    let mut stage = Stage::new()?;
    stage.config.server = format!(
        "location /inner/ {{ proxy_pass http://{CLOSED}; }}\n\
         location /further/ {{ rewrite ^/further(.*) $1 break; proxy_pass http://127.0.0.1:80; }}\n"
    );
    let site = stage.start(vec![Fault::location(
        "rewrite ^/fail0(.*) /further/inner$1 break; proxy_pass http://127.0.0.1:80;",
        Expected::connected("passed-through", "127.0.0.1:80", "").unlogged(),
    )])?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let mut session = Session::open(&site.netns)?;
    for number in 0..5 {
        for (path, wanted) in [("fail0", 502), ("ok", 200)] {
            let answer = session.answer("GET", &format!("/{path}/{number}"))?;
            ensure!(answer.status == wanted, "{path} got {}", answer.status);
        }
    }
    tracer.verdict_lines(15)?;
    let ended = tracer.stop(libc::SIGINT)?;
    let of = |cause: &str| {
        let is_it =
            |verdict: &&Value| verdict["cause"] == cause && verdict["confidence"] == "proven";
        ended.verdicts.iter().filter(is_it).count()
    };
    ensure!(
        (
            of("no-listener"),
            of("passed-through"),
            ended.verdicts.len()
        ) == (5, 10, 15),
        "{:#?}",
        ended.verdicts
    );
    Ok(())
}
