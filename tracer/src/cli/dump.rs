//! `tracer dump`: asks the running recorders to write their rings, and prints the files' names.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use thiserror::Error;

use super::dump_socket;
use crate::{say::Lines, source::runtime_folder};

/// Arguments of `tracer dump`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Ask only the recorder with this pid
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
}

const EXAMPLES: &str = "Examples:
  sudo tracer dump                                    prints the file's path
  sudo tracer report $(sudo tracer dump) -o incident  a postmortem of the last minutes";

/// A disk may be slow: a ring of some hundred megabytes is written within it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of an answer: a path, or an error.
const LIMIT: u64 = 16 << 10;

/// Only root's own folder has the recorders' sockets, and only root may enter it.
#[derive(Debug, Error)]
#[error("not permitted: only root may ask a recorder; try: sudo tracer dump")]
pub(super) struct NotPermitted;

/// Runs it.
///
/// # Errors
/// No recorder runs, it did not answer, or could not write its file.
pub(super) fn run(args: &Args) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(NotPermitted.into());
    }
    let mut asked = 0;
    let mut failures = Vec::new();
    let mut out = Lines::to_stdout();
    for (pid, path) in sockets() {
        if args.pid.is_some_and(|wanted| wanted != pid) {
            continue;
        }
        // One that was killed left it.
        let Ok(stream) = UnixStream::connect(&path) else {
            continue;
        };
        asked += 1;
        match answer(stream) {
            Ok(file) => writeln!(out, "{file}").context("writing to stdout")?,
            Err(error) => failures.push(error.context(format!("recorder {pid}"))),
        }
    }
    match failures.into_iter().next() {
        Some(failure) => Err(failure),
        None if asked > 0 => Ok(()),
        None => bail!(
            "no recorder runs{}: start one with `sudo tracer record --ring 64M -o DIR`, or `sudo systemctl start tracer`",
            args.pid
                .map_or(String::new(), |pid| format!(" as pid {pid}"))
        ),
    }
}

/// The recorders' sockets by pid, also of those that were killed.
fn sockets() -> Vec<(u32, PathBuf)> {
    let entries = runtime_folder().map(fs::read_dir);
    let Some(Ok(entries)) = entries else {
        return Vec::new();
    };
    let mut sockets: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| Some((pid(&entry.path())?, entry.path())))
        .collect();
    sockets.sort();
    sockets
}

fn pid(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    name.strip_suffix(dump_socket::ENDING)?.parse().ok()
}

fn answer(stream: UnixStream) -> Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = Vec::new();
    let read = stream.take(LIMIT).read_to_end(&mut answer);
    if let Err(error) = read {
        if error.kind() == io::ErrorKind::WouldBlock {
            bail!(
                "no answer within {} s: its disk may be slow; its own output names the file",
                PATIENCE.as_secs()
            );
        }
        return Err(error).context("reading its answer");
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match answer.split_first() {
        Some((&dump_socket::FILE, path)) => Ok(text(path)),
        Some((&dump_socket::FAILED, why)) => bail!("{}", text(why)),
        _ => bail!("it ended without an answer"),
    }
}
