//! What is made of a capture: charts, a postmortem. Real failures, recorded, then shown to people
//! who were not there.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;

use anyhow::{Context as _, Result};
use tests::expected::Expected;
use tests::folder::Folder;
use tests::presented::{files, paths, record, run};
use tests::stage::{Fault, Load, Stage};
use tests::tracer::Tracer;
use tests::{programs, readers};

const CAPTURE: &str = "run.trc";

#[test]
fn a_recorded_burst_is_charted_and_reported() -> Result<()> {
    let stage = Stage::new()?;
    stage.netns.ip("route add prohibit 10.66.1.0/24")?;
    let faults = vec![
        Fault::proxy(
            Expected::new("no-listener", "127.0.0.1:9001", "ECONNREFUSED"),
            "",
        ),
        Fault::proxy(
            Expected::new("route-prohibit", "10.66.1.1:80", "EACCES"),
            "",
        ),
    ];
    let folder = Folder::new()?;
    let load = Load {
        failing: 40,
        healthy: 40,
        concurrency: 4,
        ..Load::default()
    };
    let verdicts = record(stage.start(faults)?, &folder.join(CAPTURE), |site| {
        site.send(load)
    })?;
    assert_eq!(verdicts, 80);

    let (out, capture) = paths(&folder, CAPTURE);
    for format in ["svg", "png"] {
        run(&["chart", &capture, "-o", &out, "--format", format])?;
    }
    let charts = files(&folder.join("out"))?;
    assert_eq!(charts.len(), 32, "{charts:?}");
    let failures = fs::read_to_string(folder.join("out/failures.svg"))?;
    for said in [
        "80 failed requests",
        "no-listener (40)",
        "route-prohibit (40)",
    ] {
        assert!(failures.contains(said), "{said}: {failures}");
    }

    run(&["report", &capture, "-o", &out, "--utc"])?;
    run(&["report", &capture, "-o", &out, "--utc", "--force"])?;
    assert_eq!(files(&folder.join("out"))?.len(), 33);
    let page = fs::read_to_string(folder.join("out/report.html"))?;
    for said in [
        "<h1>80 failed requests</h1>",
        "80 requests failed on ",
        "<code>no-listener</code>",
        "127.0.0.1:9001",
        "<svg",
    ] {
        assert!(page.contains(said), "{said}: {page}");
    }
    assert_eq!(page.matches("<section class=\"cause\">").count(), 2);
    Ok(())
}

/// Requests that fail without an attempt are no share of the attempts: chart and report count
/// alike.
#[test]
fn the_share_of_failed_attempts_is_of_attempts_alone() -> Result<()> {
    let refused = Expected::new("no-listener", "127.0.0.1:9001", "ECONNREFUSED");
    let returned = Expected::untried("returned-by-config", "").unlogged();
    let down = Expected::untried("no-live-upstreams", "no live upstreams");
    let faults = vec![
        Fault::proxy(refused, ""),
        Fault::location("return 502;", returned),
        Fault::location("proxy_pass http://down;", down)
            .with("upstream down { server 127.0.0.1:9001 down; }\n"),
    ];
    let folder = Folder::new()?;
    let load = Load {
        failing: 5,
        healthy: 15,
        ..Load::default()
    };
    let verdicts = record(
        Stage::new()?.start(faults)?,
        &folder.join(CAPTURE),
        |site| site.send(load),
    )?;
    assert_eq!(verdicts, 15);
    let (out, capture) = paths(&folder, CAPTURE);
    run(&["report", &capture, "-o", &out])?;
    run(&["chart", &capture, "-o", &out])?;
    let page = fs::read_to_string(folder.join("out/report.html"))?;
    let chart = fs::read_to_string(folder.join("out/outcomes.svg"))?;
    for said in [
        "Failed requests</dt><dd>15</dd>",
        "Attempts to reach an upstream</dt><dd>20 (connections and their reuses)</dd>",
        "Failed attempts</dt><dd>25 %</dd>",
    ] {
        assert!(page.contains(said), "{said}: {page}");
    }
    assert!(chart.contains("20 in all, 5 failed"), "{chart}");
    Ok(())
}

/// Bytes that nginx takes, and each place where they are shown has to make harmless.
fn hostile_line() -> Vec<u8> {
    let mut line =
        b"GET /fail0/<script>alert(1)</script>'\"&\xff\xfe\xc2\x9b2J\xe2\x80\xae".to_vec();
    line.resize(65_536, b'x');
    line.extend_from_slice(b" HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n");
    line
}

#[test]
fn a_hostile_request_line_is_shown_harmlessly_everywhere() -> Result<()> {
    let mut stage = Stage::new()?;
    stage
        .config
        .http
        .push_str("large_client_header_buffers 4 128k;\n");
    let fault = Fault::proxy(
        Expected::new("no-listener", "127.0.0.1:9001", "ECONNREFUSED"),
        "",
    );
    let site = stage.start(vec![fault])?;
    let folder = Folder::new()?;
    let file = folder.join(CAPTURE);
    let tracer = Tracer::follow_into(&file, site.nginx.master)?;
    let mut answer = String::new();
    site.netns.enter(|| -> Result<()> {
        let mut stream = TcpStream::connect("127.0.0.1:80").context("nginx")?;
        stream.write_all(&hostile_line())?;
        stream.read_to_string(&mut answer)?;
        Ok(())
    })?;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    tracer.verdict_lines(1)?;
    let ended = tracer.stop(libc::SIGTERM)?;
    assert_eq!(ended.verdicts.len(), 1, "{ended:?}");

    let (out, capture) = paths(&folder, CAPTURE);
    run(&["chart", &capture, "-o", &out])?;
    run(&["report", &capture, "-o", &out])?;
    let mut shown: Vec<(String, Vec<u8>)> = Vec::new();
    for path in files(&folder.join("out"))? {
        shown.push((path.display().to_string(), fs::read(path)?));
    }
    let explained = Command::new(programs::tracer()?)
        .args(["explain", &capture])
        .output()?;
    shown.push(("text".to_owned(), explained.stdout));
    let trace = folder.join("trace.json");
    let tables = folder.join("tables");
    for (option, path) in [("--perfetto", &trace), ("--parquet", &tables)] {
        run(&["export", &capture, option, &path.display().to_string()])?;
    }
    shown.push(("trace".to_owned(), fs::read(trace)?));
    if readers::python().is_some() {
        let query = format!(
            "SELECT request_line FROM read_parquet('{}/verdicts/*/*/*.parquet')",
            tables.display()
        );
        let rows = readers::ask("duckdb", &query)?;
        let line = rows[0][0].as_str().context("a request line")?.to_owned();
        shown.push(("parquet".to_owned(), line.into_bytes()));
    }
    for (place, bytes) in shown {
        let text = String::from_utf8(bytes).with_context(|| format!("{place} is no UTF-8"))?;
        let harmful = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!text.contains(harmful), "{place}");
        let is_markup = place.contains('.');
        assert!(!is_markup || !text.contains("<script"), "{place}");
        let shows_requests = !is_markup || place.ends_with(".html");
        assert!(
            !shows_requests || text.contains("alert(1)"),
            "{place}: {text}"
        );
    }
    Ok(())
}

#[test]
fn what_is_anonymized_names_neither_client_nor_path() -> Result<()> {
    let stage = Stage::new()?;
    let fault = Fault::proxy(
        Expected::new("no-listener", "127.0.0.1:9001", "ECONNREFUSED"),
        "",
    );
    let folder = Folder::new()?;
    record(stage.start(vec![fault])?, &folder.join(CAPTURE), |site| {
        site.send(Load::default())
    })?;
    let (out, capture) = paths(&folder, CAPTURE);
    let trace = folder.join("trace.json").display().to_string();
    let shown = |options: &[&str]| -> Result<String> {
        run(&[&["report", "--force", &capture, "-o", &out], options].concat())?;
        let export = ["export", "--force", &capture, "--perfetto", &trace];
        run(&[&export, options].concat())?;
        let page = fs::read_to_string(folder.join("out/report.html"))?;
        Ok(page + &fs::read_to_string(&trace)?)
    };
    assert!(shown(&[])?.contains("/fail0/"));
    let anonymized = shown(&["--anonymize"])?;
    assert!(!anonymized.contains("/fail0/"), "{anonymized}");
    assert!(anonymized.contains("client addresses and request lines were replaced"));
    if readers::python().is_some() {
        run(&["export", &capture, "--parquet", &out, "--anonymize"])?;
        let query = format!(
            "SELECT client, request_line FROM read_parquet('{out}/verdicts/*/*/*.parquet')"
        );
        let rows = readers::ask("duckdb", &query)?;
        assert_eq!(rows.len(), 5);
        for row in rows {
            let text = |index: usize| row[index].as_str().unwrap_or_default();
            // A reserved network, 240.0.0.0/4, which no client is of.
            let client: Ipv4Addr = text(0).parse()?;
            assert!(client.octets()[0] >= 240, "{row:?}");
            assert!(text(1).starts_with("GET "), "{row:?}");
            assert!(!text(1).contains("/fail0/"), "{row:?}");
        }
    }
    Ok(())
}

#[test]
fn a_command_that_can_not_present_says_why_in_one_line() -> Result<()> {
    let folder = Folder::new()?;
    fs::write(folder.join("notes.txt"), "not a capture")?;
    let (out, text) = paths(&folder, "notes.txt");
    let said = |arguments: &[&str]| -> Result<(Option<i32>, String)> {
        let output = Command::new(programs::tracer()?).args(arguments).output()?;
        Ok((output.status.code(), String::from_utf8(output.stderr)?))
    };
    for command in ["chart", "report"] {
        assert_eq!(
            said(&[command, &text, "-o", &out])?,
            (
                Some(1),
                format!("tracer: {text} is not a capture of `tracer record`\n")
            )
        );
        assert!(!folder.join("out").exists(), "{command} left a folder");
        let (code, line) = said(&[command, "-o", &out])?;
        assert_eq!((code, line.contains("<FILE>")), (Some(2), true), "{line}");
    }
    Ok(())
}

#[test]
fn of_a_capture_that_was_cut_off_each_command_shows_what_is_whole_and_says_so() -> Result<()> {
    let golden = programs::workspace().join("tracer/tests/golden/capture-1.0.trc");
    let whole = fs::read(golden)?;
    let folder = Folder::new()?;
    fs::write(folder.join(CAPTURE), &whole[..whole.len() - 20])?;
    let (out, capture) = paths(&folder, CAPTURE);
    let trace = folder.join("trace.json").display().to_string();
    for arguments in [
        vec!["explain", &capture],
        vec!["report", &capture, "-o", &out],
        vec!["chart", &capture, "-o", &out],
        vec!["export", &capture, "--parquet", &out],
        vec!["export", &capture, "--perfetto", &trace],
    ] {
        let ended = Command::new(programs::tracer()?)
            .args(&arguments)
            .output()?;
        let said = String::from_utf8(ended.stderr)?;
        let told: Vec<&str> = said
            .lines()
            .filter(|line| line.starts_with("tracer: "))
            .collect();
        assert!(ended.status.success(), "{arguments:?}: {said}");
        assert!(
            told.len() == 1 && told[0].contains("run.trc has no end"),
            "{arguments:?}: {said}"
        );
    }
    assert!(files(&folder.join("out"))?.len() > 16);
    Ok(())
}
