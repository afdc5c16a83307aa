//! Where nginx's objects have their members is what a worker's own memory shows: not what its version leads to expect, and of a
//! memory that lies nothing but what it says of itself.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use tests::client::Front;
use tests::failing::Failing;
use tests::nginx::Form;
use tests::selection::Selection;
use tests::stage::{Load, Stage};
use tests::tracer::Tracer;
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
            .contains("are not laid out as its version has them"),
        "it is not named: {}",
        ended.stderr
    );
    Ok(())
}

#[test]
fn a_memory_that_lies_takes_no_verdict_of_another_nginx() -> Result<()> {
    const ROUNDS: usize = 10;
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
