//! The tracer under test, as a user runs it, its output line by line. Where a test does not care it
//! is `tracer record`, which gives verdicts as `live` does; at its end the capture is explained,
//! and has to give the same, byte for byte.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use crate::folder::Folder;
pub use crate::lines::Line;
use crate::lines::Lines;
use crate::wait::{PATIENCE, until};
use crate::{process, programs};

/// A running tracer; it is ended with this value.
#[derive(Debug)]
pub struct Tracer {
    child: Child,
    stdout: Lines,
    stderr: Lines,
    started: Instant,
    /// The capture that has to explain to the same, and the folder that goes with it.
    capture: Option<(PathBuf, Option<Folder>)>,
}

/// What a tracer left when it ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its verdicts.
    pub verdicts: Vec<Value>,
    /// Its notices: the other lines of stdout.
    pub notices: Vec<Value>,
    /// All of stderr: the `tracing` line, notices, the summary.
    pub stderr: String,
}

/// A tracer that neither learns of those of other tests that were killed, nor leaves word of
/// itself.
fn command() -> Result<Command> {
    let mut command = Command::new(programs::tracer()?);
    command.env("RUNTIME_DIRECTORY", "/nonexistent");
    Ok(command)
}

/// A command for `tracer live`, verdicts as JSON, for the nginx with this master only.
pub fn live(master: u32) -> Result<Command> {
    let mut command = command()?;
    command
        .args(["live", "--format", "json", "--master"])
        .arg(master.to_string());
    Ok(command)
}

/// What a notice among the verdicts begins with.
const NOTICE: &str = r#"{"kind":"notice","#;

/// The name of the capture in its folder.
const CAPTURE: &str = "run.trc";

/// A command for `tracer record` into `file`, otherwise as [`live`].
pub fn record(master: u32, file: &Path) -> Result<Command> {
    let mut command = command()?;
    command.arg("record").arg("--output").arg(file);
    command
        .args(["--format", "json", "--master"])
        .arg(master.to_string());
    Ok(command)
}

/// A command for `tracer explain`, verdicts as JSON.
pub fn explain(files: &[&Path]) -> Result<Command> {
    let mut command = Command::new(programs::tracer()?);
    command.args(["explain", "--format", "json"]).args(files);
    Ok(command)
}

/// Explains captures to the end, whatever comes of it.
pub fn explained(files: &[&Path]) -> Result<Ended> {
    Tracer::start(&mut explain(files)?)?.ended()
}

impl Tracer {
    /// Starts `command` with both outputs read.
    pub fn start(command: &mut Command) -> Result<Self> {
        let started = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let stdout = child.stdout.take().context("no stdout")?;
        let stderr = child.stderr.take().context("no stderr")?;
        Ok(Self {
            child,
            stdout: Lines::of(stdout),
            stderr: Lines::of(stderr),
            started,
            capture: None,
        })
    }

    /// Starts `tracer record` for this master and waits until all its hooks are attached.
    pub fn follow(master: u32) -> Result<Self> {
        Self::follow_with(master, &[])
    }

    /// The same with further arguments.
    pub fn follow_with(master: u32, arguments: &[&str]) -> Result<Self> {
        let folder = Folder::new()?;
        let file = folder.join(CAPTURE);
        Self::recording((file, Some(folder)), master, arguments)
    }

    /// The same, and the capture stays.
    pub fn follow_into(file: &Path, master: u32) -> Result<Self> {
        Self::recording((file.to_owned(), None), master, &[])
    }

    fn recording(
        capture: (PathBuf, Option<Folder>),
        master: u32,
        arguments: &[&str],
    ) -> Result<Self> {
        let mut command = record(master, &capture.0)?;
        let mut tracer = Self::start(command.args(arguments))?;
        tracer.capture = Some(capture);
        tracer.tracing()?;
        Ok(tracer)
    }

    /// The tracer's pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the line that says that all hooks are attached; returns the time since exec.
    pub fn tracing(&mut self) -> Result<Duration> {
        let line = self.says("tracing")?;
        Ok(line.at - self.started)
    }

    /// The lines on stderr so far.
    pub fn said(&self) -> Vec<Line> {
        self.stderr.now()
    }

    /// Waits for a line on stderr that contains `text`.
    pub fn says(&mut self, text: &str) -> Result<Line> {
        let (child, stderr) = (&mut self.child, &mut self.stderr);
        until(
            &format!("{text:?} on the tracer's stderr"),
            PATIENCE,
            || {
                let found = stderr
                    .now()
                    .into_iter()
                    .find(|line| line.text.contains(text));
                if found.is_none()
                    && let Some(status) = child.try_wait()?
                {
                    let said = texts(&stderr.finish());
                    return Err(anyhow!("the tracer ended with {status}: {said}"));
                }
                Ok(found)
            },
        )
        .with_context(|| format!("it said: {}", texts(&self.stderr.now())))
    }

    /// Waits until at least `count` verdicts have come, and gives the lines.
    pub fn verdict_lines(&self, count: usize) -> Result<Vec<Line>> {
        let mut last = 0;
        until("verdicts", PATIENCE, || {
            let mut lines = self.stdout.now();
            lines.retain(|line| !line.text.starts_with(NOTICE));
            last = lines.len();
            Ok((lines.len() >= count).then_some(lines))
        })
        .with_context(|| format!("{last} of {count} verdicts came"))
    }

    /// Sends `signal` and collects what is left.
    pub fn stop(mut self, signal: i32) -> Result<Ended> {
        process::signal(self.pid(), signal);
        self.ended()
    }

    /// Waits for the tracer's end and collects what is left.
    pub fn ended(&mut self) -> Result<Ended> {
        let status = process::ended(&mut self.child, PATIENCE)?;
        let lines = self.stdout.finish();
        let stderr = texts(&self.stderr.finish());
        if let Some((capture, _folder)) = self.capture.take()
            && status.success()
        {
            same(&capture, &lines, &stderr)?;
        }
        let all: Vec<Value> = lines
            .iter()
            .map(|line| {
                serde_json::from_str(&line.text).with_context(|| {
                    format!("stdout carries a line that is no JSON: {}", line.text)
                })
            })
            .collect::<Result<_>>()?;
        let (notices, verdicts) = all.into_iter().partition(|line| line["kind"] == "notice");
        Ok(Ended {
            status,
            verdicts,
            notices,
            stderr,
        })
    }
}

/// Fails unless the capture explains to what was said live: each verdict, and the summary.
fn same(capture: &Path, lines: &[Line], stderr: &str) -> Result<()> {
    let explained = explain(&[capture])?.output().context("tracer explain")?;
    let said = String::from_utf8_lossy(&explained.stderr);
    ensure!(explained.status.success(), "explain ended with {said}");
    let live: Vec<&[u8]> = lines.iter().map(|line| line.text.as_bytes()).collect();
    let mut replayed: Vec<&[u8]> = explained.stdout.split(|&byte| byte == b'\n').collect();
    ensure!(
        replayed.pop().is_some_and(<[u8]>::is_empty),
        "explain's last line has no end"
    );
    if let Some(at) =
        (0..live.len().max(replayed.len())).find(|&at| live.get(at) != replayed.get(at))
    {
        let shown = |lines: &[&[u8]]| {
            let line = lines.get(at).copied().unwrap_or(b"nothing");
            String::from_utf8_lossy(line).into_owned()
        };
        anyhow::bail!(
            "verdict {at} live and explained differ ({} and {} in all):\n{}\n{}",
            live.len(),
            replayed.len(),
            shown(&live),
            shown(&replayed)
        );
    }
    ensure!(
        stderr.trim_end().ends_with(said.trim_end()),
        "the summaries differ:\n{stderr}\n{said}"
    );
    Ok(())
}

fn texts(lines: &[Line]) -> String {
    lines
        .iter()
        .map(|line| line.text.as_str())
        .collect::<Vec<_>>()
        .join("\n")
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            process::end(&mut self.child, libc::SIGTERM);
        }
    }
}
