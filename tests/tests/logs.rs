//! Wherever nginx logs, or nowhere: the same causes.

use std::io::Read;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use anyhow::{Result, anyhow};
use tests::client::Front;
use tests::faults::unix_files::allow;
use tests::folder::Folder;
use tests::selection::Selection;
use tests::stage::{Load, Stage};

const LOAD: Load = Load {
    failing: 5,
    healthy: 5,
    concurrency: 8,
    front: Front::Http,
};

/// nginx logs where `error_log` says; `quiet`: not even there.
fn check(mut stage: Stage, error_log: &str, quiet: bool) -> Result<()> {
    stage.config.error_log = Some(error_log.to_owned());
    let mut selection = Selection::new(&stage)?;
    if quiet {
        selection = selection.unlogged();
    }
    let faults = selection.faults.clone();
    stage.check_with(faults, LOAD).map(drop)
}

#[test]
fn nowhere() -> Result<()> {
    check(Stage::new()?, "/dev/null emerg", true)
}

#[test]
fn emergencies_alone() -> Result<()> {
    let folder = Folder::new()?;
    let log = format!("{} emerg", folder.join("emerg.log").display());
    check(Stage::new()?, &log, true)
}

#[test]
fn into_the_null_device() -> Result<()> {
    check(Stage::new()?, "/dev/null error", true)
}

#[test]
fn to_syslog_over_udp() -> Result<()> {
    let stage = Stage::new()?;
    let _syslog = stage
        .netns
        .enter(|| Ok(UdpSocket::bind("127.0.0.1:514")?))?;
    check(stage, "syslog:server=127.0.0.1 error", true)
}

#[test]
fn to_syslog_over_a_unix_socket() -> Result<()> {
    let folder = Folder::new()?;
    let path = folder.join("log.sock");
    let syslog = UnixDatagram::bind(&path)?;
    allow(&path, 0o666)?;
    // Its queue is short: someone has to read.
    let reader = std::thread::spawn(move || {
        let mut line = [0u8; 2048];
        while syslog.recv(&mut line).is_ok_and(|length| length > 0) {}
    });
    let log = format!("syslog:server=unix:{} error", path.display());
    let checked = check(Stage::new()?, &log, true);
    UnixDatagram::unbound()?.send_to(b"", &path)?;
    reader.join().map_err(|_| anyhow!("the reader panicked"))?;
    checked
}

#[test]
fn into_a_pipe() -> Result<()> {
    let (mut reader, writer) = std::io::pipe()?;
    let mut stage = Stage::new()?;
    stage.prepare(move |command| {
        command.stderr(Stdio::from(writer));
        Ok(())
    });
    let reader = std::thread::spawn(move || {
        let mut line = [0u8; 4096];
        while matches!(reader.read(&mut line), Ok(1..)) {}
    });
    let checked = check(stage, "stderr error", true);
    reader.join().map_err(|_| anyhow!("the reader panicked"))?;
    checked
}

#[test]
fn into_a_file() -> Result<()> {
    let stage = Stage::new()?;
    let selection = Selection::new(&stage)?;
    let faults = selection.faults.clone();
    stage.check_with(faults, LOAD).map(drop)
}
