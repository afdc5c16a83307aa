//! `cargo xtask bench fleet`: what Parquet costs at the size of a fleet.
//!
//! A real nginx is recorded and exported; its tables are multiplied by pyarrow (host and times
//! rewritten), then read by DuckDB, chDB and Spark with the queries of `docs/parquet.md`: as tracer
//! writes them, and compacted as documented there. Ends with 1 where two answers differ.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::client::Front;
use tests::expected::Expected;
use tests::folder::Folder;
use tests::presented::{record, run};
use tests::programs;
use tests::readers::{documented, python};
use tests::stage::{Fault, Load, Stage};

const SCRIPT: &str = include_str!("fleet.py");
const TABLES: [&str; 3] = ["verdicts", "attempts", "connections"];
/// The engines, with what their queries are called in the documentation.
const ENGINES: [(&str, &str); 3] = [
    ("duckdb", "DuckDB"),
    ("chdb", "ClickHouse"),
    ("spark", "Spark"),
];
/// The documented queries, by what their headings begin with.
const QUERIES: [(&str, &str); 2] = [("worst upstream", ""), ("causes", "Causes in ")];

fn main() -> ExitCode {
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let measured = if is_quick {
        fleet(50, 6)
    } else {
        fleet(1000, 24)
    };
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn fleet(hosts: usize, hours: usize) -> Result<()> {
    let folder = Folder::new()?;
    real(&folder)?;
    let path = |name: &str| folder.join(name).display().to_string();
    println!("{hosts} hosts, {hours} hours, made of one host's minute");
    let began = Instant::now();
    let numbers = [hosts.to_string(), hours.to_string()];
    script(&[
        "multiply",
        &path("real"),
        &path("fleet"),
        &numbers[0],
        &numbers[1],
    ])?;
    println!("made in {:.0} s", began.elapsed().as_secs_f64());
    let written = weigh(&folder.join("fleet"), "as tracer writes them")?;
    let first = answers(&folder.join("fleet"), |query| query)?;

    let began = Instant::now();
    for table in TABLES {
        let query = documented("Compacting", &folder.join("fleet"))?;
        let query = query
            .replace("connections", table)
            .replace("'compact/", &format!("'{}/", path("compact")));
        fs::create_dir_all(folder.join("compact"))?;
        ask("duckdb", &query)?;
    }
    println!("compacted in {:.0} s", began.elapsed().as_secs_f64());
    let compact = weigh(&folder.join("compact"), "compacted")?;
    // A folder less: the host is a column.
    let second = answers(&folder.join("compact"), |query| {
        query.replace("/*/*/*.", "/*/*.")
    })?;
    ensure!(
        first.rows == second.rows,
        "{:?}\n{:?}",
        first.rows,
        second.rows
    );
    println!(
        "compacted: files / {:.0}, bytes / {:.1}",
        written.files as f64 / compact.files as f64,
        written.bytes as f64 / compact.bytes as f64
    );
    for (at, (engine, _)) in ENGINES.iter().enumerate() {
        let ratio = first.seconds[at] / second.seconds[at];
        println!("compacted: {engine} takes 1 / {ratio:.0} of the time");
    }
    println!("all answers are equal");
    Ok(())
}

/// A recording of a real nginx with two faults, exported.
fn real(folder: &Folder) -> Result<()> {
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
    let load = Load {
        failing: 20,
        healthy: 460,
        concurrency: 4,
        front: Front::Http,
    };
    let capture = folder.join("run.trc");
    record(stage.start(faults)?, &capture, |site| site.send(load))?;
    let path = |path: PathBuf| path.display().to_string();
    run(&[
        "export",
        &path(capture),
        "--parquet",
        &path(folder.join("real")),
    ])
}

struct Weight {
    files: u64,
    bytes: u64,
}

/// Prints how many files and bytes each table has; returns the sums.
fn weigh(folder: &Path, what: &str) -> Result<Weight> {
    let mut sum = Weight { files: 0, bytes: 0 };
    for table in TABLES {
        let mut own = Weight { files: 0, bytes: 0 };
        let mut folders = vec![folder.join(table)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                let meta = entry.metadata()?;
                if meta.is_dir() {
                    folders.push(entry.path());
                } else {
                    own.files += 1;
                    own.bytes += meta.len();
                }
            }
        }
        println!(
            "{what}: {table}: {} files, {:.1} MB, {:.0} bytes each",
            own.files,
            own.bytes as f64 / 1e6,
            own.bytes as f64 / own.files as f64
        );
        sum.files += own.files;
        sum.bytes += own.bytes;
    }
    Ok(sum)
}

struct Answers {
    /// Of each query.
    rows: Vec<Value>,
    /// Of all queries, for each engine.
    seconds: [f64; 3],
}

/// Asks every engine every query; all have to agree.
fn answers(folder: &Path, rewritten: impl Fn(String) -> String) -> Result<Answers> {
    let mut answers = Answers {
        rows: Vec::new(),
        seconds: [0.0; 3],
    };
    for (name, prefix) in QUERIES {
        let mut expected: Option<Value> = None;
        for (at, (engine, heading)) in ENGINES.iter().enumerate() {
            let query = documented(&format!("{prefix}{heading}"), folder)?;
            let answer = ask(engine, &rewritten(query))?;
            let seconds = answer["seconds"].as_f64().context("seconds")?;
            println!("{name}: {engine}: {seconds:.2} s");
            answers.seconds[at] += seconds;
            let rows = answer["rows"].clone();
            ensure!(
                rows.as_array().is_some_and(|rows| !rows.is_empty()),
                "no rows"
            );
            let expected = expected.get_or_insert_with(|| rows.clone());
            ensure!(rows == *expected, "{engine}: {rows}\nothers: {expected}");
        }
        answers.rows.extend(expected);
    }
    Ok(answers)
}

fn ask(engine: &str, query: &str) -> Result<Value> {
    script(&["ask", engine, query])
}

/// Runs the script in the Python that has what it needs.
fn script(arguments: &[&str]) -> Result<Value> {
    let python = if arguments.contains(&"spark") {
        programs::workspace().join("target/spark/bin/python3")
    } else {
        python().context("no target/readers: cargo xtask setup")?
    };
    let output = programs::output(Command::new(python).args(["-c", SCRIPT]).args(arguments))?;
    // Above it may be a progress bar's.
    let answer = output.lines().next_back().unwrap_or_default();
    serde_json::from_str(answer).with_context(|| output.clone())
}
