//! `tracer check`, run to its end.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::programs;

/// What it printed, and how it ended.
#[derive(Debug)]
pub struct Checked {
    /// Its exit status.
    pub status: i32,
    /// Its findings, in order.
    pub findings: Vec<Value>,
    /// The counts.
    pub summary: Value,
}

impl Checked {
    /// Checks the nginx with this master, with further arguments.
    pub fn of(master: u32, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(programs::tracer()?);
        command.arg("check").arg("--master").arg(master.to_string());
        command.args(["--format", "json"]).args(arguments);
        Self::run(&mut command)
    }

    /// Runs a command that prints JSON.
    pub fn run(command: &mut Command) -> Result<Self> {
        let ended = command
            .output()
            .with_context(|| format!("cannot run {command:?}"))?;
        let said = String::from_utf8(ended.stdout)?;
        let complained = String::from_utf8_lossy(&ended.stderr).into_owned();
        let lines = said.lines().map(serde_json::from_str);
        let mut lines: Vec<Value> = lines.collect::<Result<_, _>>()?;
        let summary = lines
            .pop()
            .with_context(|| format!("{command:?} printed nothing: {complained}"))?;
        ensure!(summary["kind"] == "summary", "the last line is {summary}");
        Ok(Self {
            status: ended.status.code().context("ended by a signal")?,
            findings: lines,
            summary,
        })
    }

    /// The findings that have this cause, and this text in peer, text or fix.
    pub fn with<'a>(&'a self, cause: &'a str, text: &'a str) -> impl Iterator<Item = &'a Value> {
        let members = ["peer", "text", "fix", "file"];
        self.findings.iter().filter(move |finding| {
            let says = |name: &&str| finding[name].as_str().is_some_and(|one| one.contains(text));
            finding["cause"] == cause && members.iter().any(says)
        })
    }
}
