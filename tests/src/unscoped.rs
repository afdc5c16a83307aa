//! A tracer that follows every nginx of the host, as it does without options. Others run nginx here
//! too: of its verdicts those on the test's own upstream count, of its lines those that name the
//! test's own.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use regex_lite::Regex;
use serde_json::Value;

use crate::client::Answer;
use crate::failing::Failing;
use crate::programs;
use crate::tracer::{Ended, Line, Tracer};
use crate::wait::{PATIENCE, until};

/// The tracer and the upstream whose verdicts count.
#[derive(Debug)]
pub struct Unscoped {
    tracer: Tracer,
    upstream: String,
}

/// A command for `tracer live` without a scope, verdicts as JSON.
pub fn live() -> Result<Command> {
    let mut command = Command::new(programs::tracer()?);
    command.args(["live", "--format", "json"]);
    Ok(command)
}

impl Unscoped {
    /// Starts `tracer live` and waits until it says that it traces.
    pub fn start(of: &Failing) -> Result<Self> {
        Self::start_with(of, &[])
    }

    /// The same with further arguments.
    pub fn start_with(of: &Failing, arguments: &[&str]) -> Result<Self> {
        let mut tracer = Tracer::start(live()?.args(arguments))?;
        tracer.tracing()?;
        Ok(Self::of(tracer, of))
    }

    /// Has a tracer's verdicts on this nginx count.
    #[must_use]
    pub fn of(tracer: Tracer, failing: &Failing) -> Self {
        Self {
            tracer,
            upstream: failing.upstream.clone(),
        }
    }

    /// The tracer's pid.
    pub fn pid(&self) -> u32 {
        self.tracer.pid()
    }

    /// What it has said so far.
    pub fn said(&self) -> Vec<Line> {
        self.tracer.said()
    }

    /// Waits for a line on stderr that `is_it`; `what` names it.
    pub fn says(&self, what: &str, is_it: impl Fn(&str) -> bool) -> Result<Line> {
        until(what, PATIENCE, || {
            let mut said = self.said().into_iter();
            Ok(said.find(|line| is_it(&line.text)))
        })
        .with_context(|| self.last_words())
    }

    /// All of stderr so far.
    pub fn text(&self) -> String {
        let said = self.said().into_iter();
        said.map(|line| line.text).collect::<Vec<_>>().join("\n")
    }

    /// The end of it, for messages: there may be a line for each nginx of the host.
    fn last_words(&self) -> String {
        let said = self.said();
        let lines = said.iter().skip(said.len().saturating_sub(4));
        let lines = lines.map(|line| line.text.chars().take(400).collect::<String>());
        format!("it said last: {}", lines.collect::<Vec<_>>().join("\n"))
    }

    /// Waits for a line that names this process.
    pub fn names(&self, pid: u32) -> Result<Line> {
        let word = Regex::new(&format!(r"\b{pid}\b"))?;
        self.says("a line with the pid of an nginx", |line| {
            word.is_match(line)
        })
    }

    /// The verdicts so far, with the time of each.
    pub fn verdicts(&self) -> Result<Vec<(Line, Value)>> {
        let lines = self.tracer.verdict_lines(0)?.into_iter();
        let verdicts = lines.map(|line| {
            let verdict: Value = serde_json::from_str(&line.text)?;
            Ok((line, verdict))
        });
        let mut verdicts: Vec<_> = verdicts.collect::<Result<_>>()?;
        verdicts.retain(|(_, verdict)| verdict["upstream"] == *self.upstream);
        Ok(verdicts)
    }

    /// Waits until each of these requests has its verdict, and fails unless it is the right one and
    /// the only one.
    pub fn reported(&self, sent: &[Answer]) -> Result<()> {
        let waited = until("a verdict on each failed request", PATIENCE, || {
            let found = by_path(self.verdicts()?.into_iter().map(|(_, verdict)| verdict));
            let all = sent.iter().all(|answer| found.contains_key(&answer.path));
            Ok(all.then_some(()))
        });
        let verdicts = self.verdicts()?.into_iter();
        check(sent, verdicts.map(|(_, verdict)| verdict)).with_context(|| self.last_words())?;
        waited
    }

    /// How long after each of these requests was sent its verdict was read.
    pub fn delays(&self, sent: &[Answer]) -> Result<Vec<Duration>> {
        let mut read = BTreeMap::new();
        for (line, verdict) in self.verdicts()? {
            read.entry(path(&verdict)).or_insert(line.at);
        }
        let delays = sent.iter().map(|answer| {
            let at = read.get(&answer.path);
            let at = at.with_context(|| format!("no verdict on {}", answer.path))?;
            Ok(at.saturating_duration_since(answer.asked))
        });
        delays.collect()
    }

    /// Waits for the verdict on the request for this path, wherever it was passed to.
    pub fn verdict_on(&self, wanted: &str) -> Result<Value> {
        until("the verdict on a request", PATIENCE, || {
            let lines = self.tracer.verdict_lines(0)?.into_iter();
            let verdicts = lines.flat_map(|line| serde_json::from_str(&line.text));
            Ok(verdicts.into_iter().find(|verdict| path(verdict) == wanted))
        })
        .with_context(|| self.last_words())
    }

    /// Ends it and gives what is left, the test's own verdicts alone.
    pub fn stop(self, signal: i32) -> Result<Ended> {
        let mut ended = self.tracer.stop(signal)?;
        let upstream = self.upstream;
        ended
            .verdicts
            .retain(|verdict| verdict["upstream"] == *upstream);
        Ok(ended)
    }

    /// Waits as [`Unscoped::reported`], ends it, and fails if there is a verdict on anything else
    /// or if it did not end well.
    pub fn check(self, sent: &[Answer]) -> Result<Ended> {
        self.reported(sent)?;
        let ended = self.stop(libc::SIGINT)?;
        ensure!(
            ended.status.code() == Some(0),
            "it ended with {}: {}",
            ended.status,
            ended.stderr
        );
        check(sent, ended.verdicts.iter().cloned())?;
        ensure!(
            ended.verdicts.len() == sent.len(),
            "{} verdicts on {} requests",
            ended.verdicts.len(),
            sent.len()
        );
        Ok(ended)
    }
}

/// The verdicts by the path of their request; the empty path is that of an unknown request.
pub fn by_path(verdicts: impl IntoIterator<Item = Value>) -> BTreeMap<String, Vec<Value>> {
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for verdict in verdicts {
        found.entry(path(&verdict)).or_default().push(verdict);
    }
    found
}

/// The path that a verdict's request asked for.
fn path(verdict: &Value) -> String {
    let line = verdict["request"]["line"].as_str().unwrap_or_default();
    line.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// Fails unless each of these requests has one verdict: `no-listener`, proven, one attempt.
fn check(sent: &[Answer], verdicts: impl IntoIterator<Item = Value>) -> Result<()> {
    let found = by_path(verdicts);
    let mut missing = Vec::new();
    let mut wrong = Vec::new();
    for answer in sent {
        match found.get(&answer.path).map(Vec::as_slice) {
            None => missing.push(answer.path.as_str()),
            Some([verdict]) if is_right(verdict) => {}
            Some(verdicts) => wrong.extend(verdicts.first()),
        }
    }
    let nameless = found.get("").map_or(0, Vec::len);
    ensure!(
        missing.is_empty() && wrong.is_empty(),
        "of {} failed requests {} have no verdict, as {:?} ({nameless} verdicts name no request), {} a wrong one or \
         several, first {:?}",
        sent.len(),
        missing.len(),
        missing.iter().take(8).collect::<Vec<_>>(),
        wrong.len(),
        wrong.first()
    );
    Ok(())
}

fn is_right(verdict: &Value) -> bool {
    verdict["cause"] == "no-listener"
        && verdict["confidence"] == "proven"
        && verdict["status"] == 502
        && verdict["errno"] == "ECONNREFUSED"
        && verdict["attempts"]
            .as_array()
            .is_some_and(|all| all.len() == 1)
}
