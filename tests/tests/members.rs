//! Where nginx's objects have their members is what a worker's own memory shows: not what its
//! version leads to expect, and of a memory that lies nothing but what it says of itself.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::client::Front;
use tests::failing::Failing;
use tests::folder::Folder;
use tests::nginx::Form;
use tests::selection::Selection;
use tests::stage::{Load, Stage};
use tests::tracer::{Tracer, record};
use tests::unscoped::Unscoped;
use tests::{programs, service};

const LOAD: Load = Load {
    failing: 5,
    healthy: 20,
    concurrency: 8,
    front: Front::Http,
};
/// No nginx has `pc->log`, `log->data` and `r->upstream` there.
const WRONG: &str = "80,24,56";

#[test]
fn a_wrong_layout_is_named_and_nothing_wrong_is_said() -> Result<()> {
    let stage = Stage::new()?;
    let selection = Selection::new(&stage)?;
    let site = stage.start(selection.faults.clone())?;
    let mut doctor = Command::new(programs::tracer()?);
    let said = programs::output(doctor.args(["doctor", "--layout", WRONG]))?;
    ensure!(
        said.contains("by --layout, which its version and build do not have"),
        "{said}"
    );
    let tracer = Tracer::follow_with(site.nginx.master, &["--layout", WRONG])?;
    let sent = site.send(LOAD)?;
    let ended = site.check_all(&sent, tracer)?;
    ensure!(
        ended
            .stderr
            .contains("has another object layout than its version implies"),
        "it is not named: {}",
        ended.stderr
    );
    Ok(())
}

/// The JSON behind a capture's magic, versions and length.
fn header(capture: &[u8]) -> Result<Value> {
    let length = capture.get(12..16).context("a length")?.try_into()?;
    let length = u32::from_le_bytes(length) as usize;
    let json = capture.get(16..16 + length).context("a whole header")?;
    Ok(serde_json::from_slice(json)?)
}

#[test]
fn a_capture_says_how_nginx_was_read() -> Result<()> {
    let site = Stage::new()?.start(Vec::new())?;
    let folder = Folder::new()?;
    let file = folder.join("run.trc");
    for (arguments, words) in [
        (&[][..], "by its version and build"),
        (&["--layout", WRONG], "by --layout, which its version"),
    ] {
        let mut command = record(site.nginx.master, &file)?;
        let mut tracer = Tracer::start(command.args(arguments))?;
        tracer.tracing()?;
        tracer.stop(libc::SIGINT)?;
        let header = header(&std::fs::read(&file)?)?;
        let found = header["nginx"][0]["found"].to_string();
        ensure!(found.contains(words), "{header}");
        std::fs::remove_file(&file)?;
    }
    Ok(())
}

#[test]
fn a_memory_that_lies_takes_no_verdict_of_another_nginx() -> Result<()> {
    // Long enough that the liar has filled all that is remembered of failures.
    const ROUNDS: usize = 40;
    let failing = Failing::new(Form::Daemon)?;
    let _nginx = failing.start()?;
    let liar = service::program()?.with_file_name("liar");
    let mut liar = Command::new(liar)
        .arg0("nginx: master process liar")
        .arg("master")
        .stdin(Stdio::piped())
        .spawn()
        .context("the liar")?;
    let tracer = Unscoped::start(&failing)?;
    tracer.names(liar.id())?;
    let mut sent = Vec::new();
    for _ in 0..ROUNDS {
        sent.extend(failing.send(5)?);
        tracer.reported(&sent)?;
    }
    ensure!(liar.try_wait()?.is_none(), "the liar has ended");
    let ended = tracer.check(&sent)?;
    ensure!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    drop(liar.stdin.take());
    liar.wait()?;
    Ok(())
}
