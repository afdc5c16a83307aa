//! A faulty backend as a process of its own (the program `backend` of this crate): it can die.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::lines::Lines;
use crate::netns::Netns;
use crate::process;
use crate::wait::{PATIENCE, until};

/// A running backend; it ends with this value.
#[derive(Debug)]
pub struct Service {
    child: Child,
    lines: Lines,
}

/// What is done to a process that says that it serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    Lives,
    /// This test's process sends it this signal.
    Signalled(i32),
}

impl Service {
    /// Starts `backend` with these words in `netns`, and waits until it listens.
    pub fn start(netns: &Netns, words: &[&str]) -> Result<Self> {
        Self::start_with(netns, words, Fate::Lives, |_| Ok(()))
    }

    /// The same; what serves a request meets `fate`, and `prepare` looks at the command first.
    pub fn start_with(
        netns: &Netns,
        words: &[&str],
        fate: Fate,
        prepare: impl FnOnce(&mut Command) -> Result<()>,
    ) -> Result<Self> {
        let mut command = Command::new(program()?);
        netns.backends().place(&mut command);
        command
            .args(words.iter().map(|word| netns.listens(word)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        prepare(&mut command)?;
        let mut child = command.spawn().context("cannot start a backend")?;
        let stdout = child.stdout.take().context("no stdout")?;
        let lines = Lines::heard(stdout, move |line| {
            let pid = line.strip_prefix("serving ").map(str::parse);
            if let (Fate::Signalled(signal), Some(Ok(pid))) = (fate, pid) {
                process::signal(pid, signal);
            }
        });
        let mut service = Self { child, lines };
        service.says("ready", 1)?;
        Ok(service)
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has said at least `count` lines that start with `text`, and gives the last.
    pub fn says(&mut self, text: &str, count: usize) -> Result<String> {
        until(&format!("{text:?} from the backend"), PATIENCE, || {
            let mut lines = self.lines.now();
            lines.retain(|line| line.text.starts_with(text));
            if lines.len() < count
                && let Some(status) = self.child.try_wait()?
            {
                bail!("the backend ended with {status}");
            }
            let last = lines.pop().filter(|_| lines.len() + 1 >= count);
            Ok(last.map(|line| line.text))
        })
    }

    /// Writes a line to its stdin.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        let mut stdin = self.child.stdin.as_ref().context("no stdin")?;
        writeln!(stdin, "{line}").context("cannot tell the backend")
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> Result<()> {
        process::ended(&mut self.child, PATIENCE).map(drop)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            process::end(&mut self.child, libc::SIGTERM);
        }
    }
}

/// The program `backend`. Cargo puts a package's programs next to the folder of its tests.
pub fn program() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let folders = this.ancestors().skip(1).take(2);
    for folder in folders {
        let program = folder.join("backend");
        if program.is_file() {
            return Ok(program);
        }
    }
    bail!(
        "no program backend beside {} (cargo build -p tests)",
        this.display()
    )
}
