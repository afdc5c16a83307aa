//! The tracer under test, as a user runs it: `tracer live`, its output line by line.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

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
}

/// What a tracer left when it ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its verdicts, every line of stdout.
    pub verdicts: Vec<Value>,
    /// All of stderr: the `tracing` line, notices, the summary.
    pub stderr: String,
}

/// A command for `tracer live`, verdicts as JSON, for the nginx with this master only.
pub fn live(master: u32) -> Result<Command> {
    let mut command = Command::new(programs::tracer()?);
    command
        .args(["live", "--format", "json", "--master"])
        .arg(master.to_string());
    Ok(command)
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
        })
    }

    /// Starts `tracer live` for this master and waits until all its hooks stand.
    pub fn follow(master: u32) -> Result<Self> {
        let mut tracer = Self::start(&mut live(master)?)?;
        tracer.tracing()?;
        Ok(tracer)
    }

    /// The tracer's pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the line that says that all hooks stand, and gives how long it took from exec.
    pub fn tracing(&mut self) -> Result<Duration> {
        let line = self.says("tracing")?;
        Ok(line.at - self.started)
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
            let lines = self.stdout.now();
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
        let verdicts = self
            .stdout
            .finish()
            .iter()
            .map(|line| {
                serde_json::from_str(&line.text).with_context(|| {
                    format!("stdout carries a line that is no JSON: {}", line.text)
                })
            })
            .collect::<Result<_>>()?;
        Ok(Ended {
            status,
            verdicts,
            stderr: texts(&self.stderr.finish()),
        })
    }
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
