//! A terminal of a test's own: tmux, whose keys a test types and whose screen it reads.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::folder::Folder;
use crate::wait::{PATIENCE, until};
use crate::{process, programs};

/// A terminal in which a script runs one program; both end with this value.
#[derive(Debug)]
pub struct Terminal {
    folder: Folder,
}

/// What the terminal was before and after the program, as `stty -g` has it.
const SCRIPT: &str = "stty -g > before; echo prompt\n\
                      \"$@\" 2> stderr; status=$?\n\
                      stty -g > after; cat stderr; echo status=$status; exec cat\n";

impl Terminal {
    /// Starts `command` in a terminal of that size.
    pub fn start((columns, rows): (u16, u16), command: &Command) -> Result<Self> {
        let folder = Folder::new()?;
        fs::write(folder.join("script"), SCRIPT).context("writing the script")?;
        let terminal = Self { folder };
        let mut tmux = terminal.tmux()?;
        tmux.args(["new-session", "-d", "-x", &columns.to_string()])
            .args(["-y", &rows.to_string(), "-c"])
            .arg(terminal.folder.path());
        for (name, value) in command.get_envs() {
            if let (name, Some(value)) = (name.to_string_lossy(), value) {
                tmux.arg("-e")
                    .arg(format!("{name}={}", value.to_string_lossy()));
            }
        }
        tmux.args(["sh", "script"]);
        tmux.arg(command.get_program()).args(command.get_args());
        let output = tmux.output().context("tmux")?;
        ensure!(output.status.success(), "tmux: {output:?}");
        Ok(terminal)
    }

    fn tmux(&self) -> Result<Command> {
        let mut tmux = programs::command("tmux")?;
        tmux.args(["-u", "-f", "/dev/null", "-S"])
            .arg(self.folder.join("socket"));
        // A tmux around the tests is not theirs.
        tmux.env_remove("TMUX").env("LC_ALL", "C.UTF-8");
        Ok(tmux)
    }

    fn ask(&self, words: &[&str]) -> Result<String> {
        let output = self.tmux()?.args(words).output().context("tmux")?;
        ensure!(output.status.success(), "tmux {words:?}: {output:?}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Presses these keys, by tmux's names.
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        self.ask(&[&["send-keys"], keys].concat()).map(drop)
    }

    /// What is on the screen.
    pub fn screen(&self) -> Result<String> {
        self.ask(&["capture-pane", "-p"])
    }

    /// The same with its colours, as escape sequences.
    pub fn colored(&self) -> Result<String> {
        self.ask(&["capture-pane", "-p", "-e"])
    }

    /// Waits until the screen shows all of this, and returns it.
    pub fn shows(&self, parts: &[&str]) -> Result<String> {
        let mut last = String::new();
        until(&format!("a screen with {parts:?}"), PATIENCE, || {
            last = self.screen()?;
            let shows = parts.iter().all(|part| last.contains(part));
            Ok(shows.then(|| last.clone()))
        })
        .with_context(|| format!("the screen:\n{}", self.screen().unwrap_or_default()))
    }

    /// Changes its size.
    pub fn resize(&self, (columns, rows): (u16, u16)) -> Result<()> {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        self.ask(&["resize-window", "-x", &columns, "-y", &rows])
            .map(drop)
    }

    /// The program's process.
    pub fn pid(&self) -> Result<u32> {
        let script: u32 = self
            .ask(&["display", "-p", "#{pane_pid}"])?
            .trim()
            .parse()?;
        until("the program", PATIENCE, || {
            Ok(process::children(script).first().copied())
        })
    }

    /// Waits until the program has ended with this status; the terminal must be as it was before:
    /// its settings, its screen, its cursor. Returns what is on it.
    pub fn given_back(&self, status: i32) -> Result<String> {
        let screen = self.shows(&["prompt", &format!("status={status}")])?;
        let state = self.ask(&["display", "-p", "#{alternate_on} #{cursor_flag}"])?;
        ensure!(state.trim() == "0 1", "alternate screen, cursor: {state}");
        let settings = |name: &str| {
            fs::read_to_string(self.folder.join(name)).with_context(|| name.to_owned())
        };
        let (before, after) = (settings("before")?, settings("after")?);
        ensure!(before == after, "stty: {before} became {after}");
        Ok(screen)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Ok(mut tmux) = self.tmux() {
            let _ = tmux.arg("kill-server").output();
        }
    }
}
