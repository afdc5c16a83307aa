//! Captures given to other programs: Parquet tables read by DuckDB and ClickHouse, a trace for
//! Perfetto.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::expected::Expected;
use tests::folder::Folder;
use tests::presented::{files, paths, record, run};
use tests::readers::{ask, documented, python};
use tests::stage::{Fault, Load, Stage};
use tests::{programs, tracer};

const CAPTURE: &str = "run.trc";
const LOAD: Load = Load {
    failing: 20,
    healthy: 30,
    concurrency: 4,
    front: tests::client::Front::Http,
};

/// A capture of two faults and healthy requests.
fn captured(folder: &Folder) -> Result<()> {
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
    record(stage.start(faults)?, &folder.join(CAPTURE), |site| {
        site.send(LOAD)
    })
    .map(drop)
}

/// What `explain` says of it.
fn explained(folder: &Folder) -> Result<Vec<Value>> {
    let lines = programs::output(&mut tracer::explain(&[&folder.join(CAPTURE)])?)?;
    let parse = |line: &str| serde_json::from_str(line).with_context(|| line.to_owned());
    lines.lines().map(parse).collect()
}

#[test]
fn duckdb_and_clickhouse_count_what_explain_counts() -> Result<()> {
    if python().is_none() {
        println!("SKIPPED: duckdb_and_clickhouse_count_what_explain_counts: no target/readers");
        return Ok(());
    }
    let folder = Folder::new()?;
    captured(&folder)?;
    let (out, capture) = paths(&folder, CAPTURE);
    // The second export takes the first one's place.
    for _ in 0..2 {
        run(&["export", &capture, "--parquet", &out, "--force"])?;
    }
    let tables = folder.join("out");
    let names: Vec<String> = files(&tables)?
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    assert!(
        names
            .iter()
            .all(|name| name.contains("/host=") && name.contains("/hour=20")),
        "{names:?}"
    );

    let mut wanted: BTreeMap<String, u64> = BTreeMap::new();
    let mut attempts = 0;
    for verdict in explained(&folder)? {
        *wanted
            .entry(verdict["cause"].as_str().context("a cause")?.to_owned())
            .or_default() += 1;
        attempts += verdict["attempts"].as_array().context("attempts")?.len() as u64;
    }
    assert_eq!(wanted.values().sum::<u64>(), 40);
    for (engine, place) in [
        ("duckdb", "read_parquet('fleet/TABLE/*/*/*.parquet')"),
        ("chdb", "file('fleet/TABLE/*/*/*.parquet', Parquet)"),
    ] {
        let from = |table: &str| place.replace("TABLE", table).replace("fleet", &out);
        let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
        let count = |query: String| -> Result<u64> {
            let rows = ask(engine, &query)?;
            number(&rows[0][0]).with_context(|| format!("{rows:?}"))
        };
        let rows = ask(
            engine,
            &format!(
                "SELECT cause, count(*) FROM {} GROUP BY cause",
                from("verdicts")
            ),
        )?;
        let found: BTreeMap<String, u64> = rows
            .iter()
            .filter_map(|row| Some((row[0].as_str()?.to_owned(), number(&row[1])?)))
            .collect();
        assert_eq!(found, wanted, "{engine}");
        assert_eq!(
            count(format!("SELECT count(*) FROM {}", from("attempts")))?,
            attempts,
            "{engine}"
        );
        let answered = count(format!(
            "SELECT count(*) FROM {} WHERE outcome = 'answered'",
            from("connections")
        ))?;
        assert_eq!(answered, 30, "{engine}");
        let joined = format!(
            "SELECT count(*) FROM {} AS v JOIN {} AS a ON v.run = a.run AND v.verdict = a.verdict WHERE a.cause = v.cause",
            from("verdicts"),
            from("attempts")
        );
        assert_eq!(count(joined)?, 40, "{engine}");
        let year = format!(
            "SELECT count(*) FROM {} WHERE time > '2026-01-01 00:00:00'",
            from("verdicts")
        );
        assert_eq!(count(year)?, 40, "{engine}");
        let hosts = ask(
            engine,
            &format!(
                "SELECT DISTINCT host, substring(hour, 1, 2) FROM {}",
                from("verdicts")
            ),
        )?;
        assert_eq!(
            (hosts.len(), hosts[0][1].as_str()),
            (1, Some("20")),
            "{engine}: {hosts:?}"
        );
    }
    Ok(())
}

#[test]
fn the_documented_queries_find_the_worst_upstream_of_a_fleet() -> Result<()> {
    if python().is_none() {
        println!(
            "SKIPPED: the_documented_queries_find_the_worst_upstream_of_a_fleet: no target/readers"
        );
        return Ok(());
    }
    let folder = Folder::new()?;
    let stage = Stage::new()?;
    let fault = Fault::proxy(
        Expected::new("no-listener", "127.0.0.1:9001", "ECONNREFUSED"),
        "",
    );
    record(stage.start(vec![fault])?, &folder.join(CAPTURE), |site| {
        site.send(LOAD)
    })?;
    let (out, capture) = paths(&folder, CAPTURE);
    run(&["export", &capture, "--parquet", &out])?;
    for (engine, heading) in [("duckdb", "DuckDB"), ("chdb", "ClickHouse")] {
        let rows = ask(engine, &documented(heading, &folder.join("out"))?)?;
        let text = |value: &Value| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned)
        };
        let first: Vec<String> = rows[0].iter().map(text).collect();
        // Upstream, hosts, attempts, failed.
        assert_eq!(
            first[..4],
            ["127.0.0.1:9001", "1", "20", "20"],
            "{engine}: {rows:?}"
        );
        let causes = format!("Causes in {heading}");
        let rows = ask(engine, &documented(&causes, &folder.join("out"))?)?;
        let first: Vec<String> = rows[0].iter().map(text).collect();
        assert_eq!(rows.len(), 1, "{engine}: {rows:?}");
        // Cause, confidence, failed, hosts, hours.
        let expected = ["no-listener", "proven", "20", "1"];
        assert_eq!(first[..4], expected, "{engine}: {rows:?}");
    }
    Ok(())
}

#[test]
fn a_perfetto_trace_has_a_track_for_each_connection_and_arrows_to_its_requests() -> Result<()> {
    let folder = Folder::new()?;
    captured(&folder)?;
    let (_, capture) = paths(&folder, CAPTURE);
    let file = folder.join("trace.json");
    run(&[
        "export",
        &capture,
        "--perfetto",
        &file.display().to_string(),
    ])?;
    let trace: Value = serde_json::from_slice(&fs::read(&file)?)?;
    let events = trace["traceEvents"].as_array().context("events")?;
    let of = |kind: &str| {
        events
            .iter()
            .filter(|one| one["ph"] == kind)
            .collect::<Vec<_>>()
    };
    let of_category = |category: &str| {
        of("X")
            .into_iter()
            .filter(|one| one["cat"] == category)
            .collect::<Vec<_>>()
    };

    // A slice on a track of its own for each of 20 refused and 30 healthy connections, and 40
    // requests.
    let track = |one: &Value| (one["pid"].as_u64(), one["tid"].as_u64());
    let connections: BTreeSet<_> = of_category("connection").into_iter().map(track).collect();
    let requests: BTreeSet<_> = of_category("request").into_iter().map(track).collect();
    assert_eq!((connections.len(), requests.len()), (50, 40));
    let named: BTreeSet<_> = of("M")
        .into_iter()
        .filter(|one| one["name"] == "thread_name")
        .map(track)
        .collect();
    assert!(connections.is_subset(&named) && requests.is_subset(&named));
    let workers = of("M")
        .into_iter()
        .filter(|one| one["name"] == "process_name")
        .count();
    assert!(workers >= 1);

    // Each refused request has one arrow from its connection; the prohibited ones had no
    // connection.
    let ends = |kind: &str| {
        of(kind)
            .into_iter()
            .map(|one| (one["id"].as_u64(), track(one)))
            .collect::<BTreeMap<_, _>>()
    };
    let (begins, ends) = (ends("s"), ends("f"));
    assert_eq!((begins.len(), ends.len()), (20, 20));
    assert_eq!(
        begins.keys().collect::<Vec<_>>(),
        ends.keys().collect::<Vec<_>>()
    );
    assert!(
        begins.values().all(|at| connections.contains(at))
            && ends.values().all(|at| requests.contains(at))
    );

    // Slices lie within the one around them.
    for one in of("X") {
        assert!(
            one["dur"].as_f64().context("a duration")? >= 0.0
                && one["ts"].as_f64().context("a time")? >= 0.0,
            "{one}"
        );
    }
    Ok(())
}
