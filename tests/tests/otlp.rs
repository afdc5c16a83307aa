//! `--otlp`: a real collector decodes what tracer sends, and it is what `live` printed; spans join
//! the caller's trace; a collector that is away or hangs holds nobody up.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::backend::listen;
use tests::client::{HOST, dial};
use tests::collector::{Collector, Receiver, python};
use tests::expected::Expected;
use tests::programs;
use tests::site::Site;
use tests::stage::{Fault, HEALTHY, Load, Stage};
use tests::tracer::{self, Ended, Tracer};

/// Where tracer sends, in the namespace of the test.
const PORT: u16 = 4318;
const ENDPOINT: &str = "http://127.0.0.1:4318";
/// Where the collector sends on.
const BEHIND: u16 = 4319;
/// A 32-digit and a 16-digit number.
const CALLER: &str = "00f067aa0ba902b7";

/// `SKIPPED` where PyPI's packages could not be fetched: guests have none.
fn is_missing(test: &str) -> bool {
    let is_missing = python().is_none();
    if is_missing {
        println!("SKIPPED: {test}: no target/collector");
    }
    is_missing
}

/// Requests that are refused, and others that a retry masks.
fn site() -> Result<Site> {
    let refused = Expected::new("no-listener", "127.0.0.1:9001", "ECONNREFUSED");
    let masked = Expected::new("no-listener", "127.0.0.1:9002", "ECONNREFUSED");
    let block = "server 127.0.0.1:9002 max_fails=0; server 127.0.0.1:8000 backup;";
    let retried = Fault::location("proxy_pass http://otlp_retried;", masked.masked_by(HEALTHY))
        .with(format!("upstream otlp_retried {{ {block} }}\n"));
    Stage::new()?.start(vec![Fault::proxy(refused, ""), retried])
}

fn sending(site: &Site) -> Result<Tracer> {
    let mut command = tracer::live(site.nginx.master)?;
    site.netns.place(&mut command);
    let mut tracer = Tracer::start(command.args(["--otlp", ENDPOINT]))?;
    tracer.tracing()?;
    Ok(tracer)
}

/// Asks for a path that fails, as the part of this trace.
fn ask_within(site: &Site, path: &str, trace: &str) -> Result<()> {
    site.netns.enter(|| {
        let mut stream = dial("127.0.0.1:80")?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {HOST}\r\ntraceparent: {trace}\r\nConnection: close\r\n\r\n"
        )?;
        stream.read_to_end(&mut Vec::new())?;
        Ok(())
    })
}

/// A trace of a caller's, by its number.
fn trace(number: usize) -> String {
    format!("4bf92f3577b34da6a3ce{number:012x}")
}

/// What a verdict has, and a log record has too.
fn printed(verdict: &Value) -> Value {
    let line = verdict["request"]["line"].as_str().unwrap_or_default();
    json!([
        verdict["summary"],
        verdict["cause"],
        verdict["confidence"],
        verdict["masked"],
        verdict["status"],
        verdict["host"],
        verdict["upstream"],
        verdict["worker"],
        line.split(' ').nth(1),
        verdict["attempts"].as_array().map(Vec::len),
        verdict["advice"],
    ])
}

fn logged(record: &Value) -> Value {
    let attributes = &record["attributes"];
    json!([
        record["body"],
        attributes["tracer.cause"],
        attributes["tracer.confidence"],
        attributes["tracer.masked"],
        attributes["http.response.status_code"],
        record["resource"]["host.name"],
        attributes["tracer.upstream"],
        attributes["tracer.worker"],
        attributes["url.path"],
        attributes["tracer.attempts"],
        attributes["tracer.advice"],
    ])
}

fn sorted(values: impl Iterator<Item = Value>) -> Vec<String> {
    let mut texts: Vec<String> = values.map(|value| value.to_string()).collect();
    texts.sort();
    texts
}

fn of_event(records: Vec<Value>, event: &str) -> Vec<Value> {
    let records = records.into_iter();
    records.filter(|one| one["event"] == event).collect()
}

/// Sends requests with and without a trace, and compares what came with what was printed.
fn compare(site: &Site, tracer: Tracer, receiver: &Receiver) -> Result<()> {
    const TRACED: usize = 6;
    for number in 0..TRACED {
        let place = number % 2;
        let parent = format!("00-{}-{CALLER}-01", trace(number));
        ask_within(site, &format!("/fail{place}/traced{number}"), &parent)?;
    }
    // Not well-formed: a trace of its own.
    ask_within(
        site,
        "/fail0/wrong",
        &format!("00-{}-{CALLER}-0", trace(99)),
    )?;
    site.send(Load::default())?;
    let count = TRACED + 1 + 2 * Load::default().failing;
    tracer.verdict_lines(count)?;
    let ended = tracer.stop(libc::SIGINT)?;
    ensure!(ended.verdicts.len() == count, "{}", ended.verdicts.len());
    ensure!(!ended.stderr.contains("OTLP"), "{}", ended.stderr);

    let logs = receiver.wait("log", count + ended.notices.len())?;
    let verdicts = of_event(logs.clone(), "tracer.verdict");
    let expected = sorted(ended.verdicts.iter().map(printed));
    let found = sorted(verdicts.iter().map(logged));
    ensure!(found == expected, "{found:#?}\n{expected:#?}");
    let notices = of_event(logs, "tracer.notice");
    let found = sorted(notices.iter().map(|one| one["body"].clone()));
    let expected = sorted(ended.notices.iter().map(|one| one["text"].clone()));
    ensure!(found == expected, "{found:#?}\n{expected:#?}");
    joined(&ended, &verdicts, receiver)
}

/// Each request has a span with its attempts' spans below it, in the trace of its caller.
fn joined(ended: &Ended, logs: &[Value], receiver: &Receiver) -> Result<()> {
    let attempts = |verdict: &Value| verdict["attempts"].as_array().map_or(0, Vec::len);
    let below: usize = ended.verdicts.iter().map(attempts).sum();
    let spans = receiver.wait("span", ended.verdicts.len() + below)?;
    let (requests, attempts): (Vec<Value>, Vec<Value>) =
        spans.into_iter().partition(|span| span["role"] == 2);
    ensure!(requests.len() == ended.verdicts.len(), "{requests:#?}");
    let ids = |span: &Value| (span["trace"].clone().to_string(), span["span"].to_string());
    let all: BTreeSet<(String, String)> = requests.iter().chain(&attempts).map(ids).collect();
    ensure!(all.len() == requests.len() + attempts.len(), "an id twice");
    let by_id: BTreeMap<(String, String), &Value> =
        requests.iter().map(|span| (ids(span), span)).collect();
    let mut traced = 0;
    for log in logs {
        let span = by_id.get(&ids(log)).context("a log without its span")?;
        let attributes = &span["attributes"];
        ensure!(
            attributes["url.path"] == log["attributes"]["url.path"],
            "{span}"
        );
        ensure!(span["resource"] == log["resource"], "{span}");
        let path = attributes["url.path"].as_str().context("a path")?;
        match path.split_once("/traced") {
            Some((_, number)) => {
                traced += 1;
                ensure!(span["trace"] == trace(number.parse()?), "{span}");
                ensure!(span["parent"] == CALLER && span["flags"] == 0x301, "{span}");
            }
            None => ensure!(span["parent"] == "" && span["trace"] != trace(99), "{span}"),
        }
        let masked = attributes["tracer.masked"] == true;
        let status = if masked { 0 } else { 2 };
        ensure!(span["status"] == status, "{span}");
        ensure!(
            log["severity"] == if masked { "WARN" } else { "ERROR" },
            "{log}"
        );
        let own: Vec<&Value> = attempts
            .iter()
            .filter(|one| one["parent"] == span["span"] && one["trace"] == span["trace"])
            .collect();
        ensure!(own.len() == if masked { 2 } else { 1 }, "{own:?} of {span}");
        let number = |one: &Value, what: &str| one[what].as_u64().context("a time");
        for one in &own {
            let inner = (number(one, "start")?, number(one, "end")?);
            let outer = (number(span, "start")?, number(span, "end")?);
            ensure!(
                outer.0 <= inner.0 && inner.0 <= inner.1 && inner.1 <= outer.1,
                "{one} of {span}"
            );
        }
        let ports: BTreeSet<u64> = own
            .iter()
            .filter_map(|one| one["attributes"]["server.port"].as_u64())
            .collect();
        let expected = if masked { vec![8000, 9002] } else { vec![9001] };
        ensure!(ports.into_iter().eq(expected), "{own:?}");
        let failed = own.iter().filter(|one| one["status"] == 2);
        let failed: Vec<&Value> = failed.map(|one| &one["attributes"]["error.type"]).collect();
        ensure!(failed == ["no-listener"], "{own:?}");
    }
    ensure!(traced == 6, "{traced}");
    Ok(())
}

#[test]
fn a_collector_receives_what_live_prints_and_traces_join() -> Result<()> {
    if is_missing("a_collector_receives_what_live_prints_and_traces_join") {
        return Ok(());
    }
    let site = site()?;
    let receiver = Receiver::start(&site.netns, BEHIND, 0)?;
    let _collector = Collector::start(&site.netns, PORT, BEHIND)?;
    let tracer = sending(&site)?;
    compare(&site, tracer, &receiver)
}

#[test]
fn what_is_sent_decodes_to_the_letter_and_is_sent_again_after_a_503() -> Result<()> {
    if is_missing("what_is_sent_decodes_to_the_letter_and_is_sent_again_after_a_503") {
        return Ok(());
    }
    let site = site()?;
    let receiver = Receiver::start(&site.netns, PORT, 1)?;
    let mut tracer = sending(&site)?;
    site.send(Load {
        healthy: 0,
        failing: 1,
        ..Load::default()
    })?;
    tracer.says(&format!("otlp: {ENDPOINT}: status 503; trying again"))?;
    tracer.says(&format!("otlp: {ENDPOINT} answers again"))?;
    receiver.wait("span", 5)?;
    let ended = tracer.stop(libc::SIGINT)?;
    let logs = receiver.wait("log", ended.verdicts.len() + ended.notices.len())?;
    let logs = of_event(logs, "tracer.verdict");
    let found = sorted(logs.iter().map(logged));
    let expected = sorted(ended.verdicts.iter().map(printed));
    ensure!(found == expected, "{found:#?}\n{expected:#?}");
    for log in logs {
        ensure!(log["resource"]["service.name"] == "nginx", "{log}");
        ensure!(
            log["resource"]["telemetry.distro.name"] == "tracer",
            "{log}"
        );
        ensure!(log["scope"] == "tracer", "{log}");
        ensure!(log["attributes"]["client.address"] == "127.0.0.1", "{log}");
        ensure!(log["attributes"]["server.address"] == HOST, "{log}");
        ensure!(log["attributes"]["http.request.method"] == "GET", "{log}");
        ensure!(log["attributes"]["error.type"] == "no-listener", "{log}");
        ensure!(log["time"].as_u64() <= log["observed"].as_u64(), "{log}");
    }
    Ok(())
}

#[test]
fn a_collector_that_starts_later_gets_what_waited() -> Result<()> {
    if is_missing("a_collector_that_starts_later_gets_what_waited") {
        return Ok(());
    }
    let site = site()?;
    let mut tracer = sending(&site)?;
    let load = Load::default();
    site.send(load)?;
    tracer.says(&format!(
        "otlp: {ENDPOINT}: Connection refused (os error 111); trying again"
    ))?;
    tracer.verdict_lines(2 * load.failing)?;
    let receiver = Receiver::start(&site.netns, PORT, 0)?;
    tracer.says(&format!("otlp: {ENDPOINT} answers again"))?;
    let ended = tracer.stop(libc::SIGINT)?;
    receiver.wait("log", ended.verdicts.len() + ended.notices.len())?;
    ensure!(!ended.stderr.contains("not sent"), "{}", ended.stderr);
    let said = ended.stderr.matches("trying again").count();
    ensure!(said == 1, "{}", ended.stderr);
    Ok(())
}

#[test]
fn a_collector_that_never_answers_holds_nobody_up() -> Result<()> {
    let site = site()?;
    // Connections are made, and nobody reads.
    let _silent = listen(&site.netns, "127.0.0.1:4318")?;
    let tracer = sending(&site)?;
    let load = Load::default();
    let sent = site.send(load)?;
    let lines = site.verdict_lines(&sent, &tracer)?;
    let before = Instant::now();
    let ended = tracer.stop(libc::SIGINT)?;
    // Two seconds for what waits, and what a loaded machine takes.
    ensure!(
        before.elapsed() < Duration::from_secs(8),
        "{:?}",
        before.elapsed()
    );
    ensure!(ended.status.success(), "{}", ended.stderr);
    ensure!(ended.verdicts.len() == lines.len(), "{:?}", ended.verdicts);
    let count = ended.verdicts.len() + ended.notices.len();
    let counted = format!("{count} OTLP log records not sent");
    ensure!(ended.stderr.contains(&counted), "{}", ended.stderr);
    Ok(())
}

#[test]
fn https_is_refused_in_one_line_with_what_to_do() -> Result<()> {
    let output = Command::new(programs::tracer()?)
        .args(["live", "--otlp", "https://127.0.0.1:4318"])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().next().unwrap_or_default();
    ensure!(output.status.code() == Some(2), "{said}");
    ensure!(
        first.contains("tracer has no TLS: send to a collector on this host by http://"),
        "{said}"
    );
    Ok(())
}
