//! Healthy connections: a capture has them; `live`, whose verdicts do not rest on them, receives no
//! record of them.

use anyhow::{Context, Result, ensure};
use tests::folder::Folder;
use tests::selection::Selection;
use tests::stage::{Load, Stage};
use tests::tracer::{self, Ended, Tracer};

const LOAD: Load = Load {
    failing: 5,
    healthy: 300,
    concurrency: 4,
    front: tests::client::Front::Http,
};

/// Every fault and healthy requests, each on a connection of its own.
fn judged(record: bool) -> Result<Ended> {
    let stage = Stage::new()?;
    let selection = Selection::new(&stage)?;
    let site = stage.start(selection.faults.clone())?;
    let folder = Folder::new()?;
    let mut command = if record {
        tracer::record(site.nginx.master, &folder.join("run.trc"))?
    } else {
        tracer::live(site.nginx.master)?
    };
    let mut tracer = Tracer::start(command.arg("--debug"))?;
    tracer.tracing()?;
    let sent = site.send(LOAD)?;
    site.check_all(&sent, tracer)
}

/// How many records the kernel side wrote.
fn written(ended: &Ended) -> Result<usize> {
    let account = ended
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix("kernel records: "));
    let count = account.and_then(|account| account.split(' ').next());
    Ok(count.context("the tracer gave no account")?.parse()?)
}

#[test]
fn live_is_told_of_what_fails_and_a_capture_of_all() -> Result<()> {
    let (live, record) = (written(&judged(false)?)?, written(&judged(true)?)?);
    println!("records: {live} for live, {record} for a capture");
    ensure!(
        live + LOAD.healthy * 9 / 10 <= record,
        "{live} records for live, {record} for a capture of {} healthy requests",
        LOAD.healthy
    );
    Ok(())
}
