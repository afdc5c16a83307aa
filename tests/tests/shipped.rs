//! What ships tracer's lines to a log store: Vector's program, run by Vector's own language runtime
//! on what a real tracer printed.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::collector::python;
use tests::expected::Expected;
use tests::programs;
use tests::stage::{Fault, Load, Stage};
use tests::tracer::Tracer;

const REMAP: &str = include_str!("../src/collector/remap.py");

/// The events that `contrib/vector/tracer.vrl` makes of these lines; `null` for one that it drops.
fn remapped(lines: &str) -> Result<Vec<Value>> {
    let python = python().context("no target/collector: cargo xtask setup")?;
    let mut child = Command::new(python)
        .args(["-c", REMAP])
        .arg(programs::workspace().join("contrib/vector/tracer.vrl"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    stdin.write_all(lines.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}", output.status);
    let text = String::from_utf8(output.stdout)?;
    let events = text.lines().map(serde_json::from_str);
    events.collect::<Result<_, _>>().context(text.clone())
}

#[test]
fn vector_s_program_takes_verdicts_and_notices_and_drops_the_rest() -> Result<()> {
    if python().is_none() {
        println!(
            "SKIPPED: vector_s_program_takes_verdicts_and_notices_and_drops_the_rest: no target/collector"
        );
        return Ok(());
    }
    let expected = Expected::new("no-listener", "127.0.0.1:9001", "ECONNREFUSED");
    let site = Stage::new()?.start(vec![Fault::proxy(expected, "")])?;
    let mut command = tests::tracer::live(site.nginx.master)?;
    let mut tracer = Tracer::start(&mut command)?;
    tracer.tracing()?;
    let sent = site.send(Load::default())?;
    site.verdict_lines(&sent, &tracer)?;
    let ended = tracer.stop(libc::SIGINT)?;
    ensure!(!ended.verdicts.is_empty(), "{}", ended.stderr);

    // As the journal has them: stdout and stderr of one unit.
    let mut verdict = ended.verdicts[0].clone();
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    verdict["request"]["traceparent"] = parent.into();
    verdict["request"]["request_id"] = "5f1c".into();
    let golden = programs::workspace().join("tracer/tests/golden/notices.jsonl");
    let notices = std::fs::read_to_string(golden)?;
    let of_stdout: Vec<String> = ended.verdicts.iter().map(Value::to_string).collect();
    let lines = format!(
        "{}\n{verdict}\n{notices}{}\n[1]\n{{\"kind\":\"other\"}}\n",
        of_stdout.join("\n"),
        ended.stderr.trim().replace("\n\n", "\n"),
    );
    let events = remapped(&lines)?;
    let taken: Vec<&Value> = events.iter().filter(|event| !event.is_null()).collect();
    let expected = ended.verdicts.len() + 1 + notices.lines().count();
    ensure!(taken.len() == expected, "{taken:#?}");
    for (event, line) in taken.iter().zip(lines.lines()) {
        // Nothing of the line is lost.
        let line: Value = serde_json::from_str(line)?;
        for (name, value) in line.as_object().context("an object")? {
            ensure!(event[name] == *value, "{name}: {event}");
        }
        let of = if event["kind"] == "verdict" {
            "summary"
        } else {
            "text"
        };
        ensure!(event["message"] == line[of], "{event}");
        ensure!(
            event["service"] == "nginx" && event["schema"] == 1,
            "{event}"
        );
    }
    let event = taken[ended.verdicts.len()];
    ensure!(
        event["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736",
        "{event}"
    );
    ensure!(event["parent_span_id"] == "00f067aa0ba902b7", "{event}");
    ensure!(
        event["request_id"] == "5f1c" && event["level"] == "error",
        "{event}"
    );
    Ok(())
}
