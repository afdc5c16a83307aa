//! A running nginx with faulty and healthy locations: sends it requests, proves the faults.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::backend::Backend;
use crate::client::{self, Question};
use crate::error_log::LogLine;
use crate::netns::Netns;
use crate::nginx::Nginx;
pub use crate::sent::Sent;
use crate::stage::{Fault, Load};
use crate::tracer::{Ended, Line, Tracer};

/// A running nginx with its faults.
pub struct Site {
    /// The nginx.
    pub nginx: Nginx,
    /// Where it runs.
    pub netns: Netns,
    pub(crate) faults: Vec<Fault>,
    pub(crate) witness: Witness,
    sent: AtomicUsize,
    _backend: Backend,
}

/// What nginx's error log can be asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Witness {
    /// nginx runs in pid and mount namespaces of its own, and logs its own pids.
    pub(crate) contained: bool,
    /// There is a log file.
    pub(crate) logs: bool,
}

impl Site {
    /// What [`Stage::start`](crate::stage::Stage::start) has started.
    pub(crate) fn new(
        nginx: Nginx,
        netns: Netns,
        faults: Vec<Fault>,
        witness: Witness,
        backend: Backend,
    ) -> Self {
        Self {
            nginx,
            netns,
            faults,
            witness,
            sent: AtomicUsize::new(0),
            _backend: backend,
        }
    }

    /// Sends the load, each request with a path of its own, failing and healthy ones in turn.
    pub fn send(&self, load: Load) -> Result<Sent> {
        let rounds = load.failing.max(load.healthy);
        let first = self.sent.fetch_add(rounds, Ordering::Relaxed);
        // Both kinds spread evenly over the rounds.
        let due =
            |count: usize, round: usize| (round + 1) * count / rounds > round * count / rounds;
        let mut questions = Vec::new();
        for round in 0..rounds {
            let id = first + round;
            if due(load.failing, round) {
                for (index, fault) in self.faults.iter().enumerate() {
                    questions.push(Question {
                        method: fault.method,
                        path: format!("/fail{index}/{id}"),
                        body: fault.body,
                    });
                }
            }
            if due(load.healthy, round) {
                questions.push(Question::get(format!("/ok/{id}")));
            }
        }
        let answers = self
            .netns
            .enter(|| client::send(load.front, &questions, load.concurrency))?;
        let answers = answers
            .into_iter()
            .map(|answer| {
                let fault = self.fault(&answer.path);
                (answer, fault)
            })
            .collect();
        let lines = questions
            .into_iter()
            .map(|Question { method, path, .. }| {
                let line = load.front.line(method, &path);
                (path, line)
            })
            .collect();
        Ok(Sent {
            answers,
            lines,
            unanswered: Vec::new(),
            client: load.front.client(),
        })
    }

    /// How many verdicts these requests have to get.
    pub(crate) fn due(&self, sent: &Sent) -> usize {
        let faults = sent.answers.iter().filter_map(|(_, fault)| *fault);
        faults
            .filter(|fault| !self.faults[*fault].expected.silent)
            .count()
    }

    /// Checks the clients' statuses and nginx's error log: the faults are the intended ones.
    pub fn prove(&self, sent: &Sent) -> Result<HashMap<String, Vec<LogLine>>> {
        let mut log: HashMap<String, Vec<LogLine>> = HashMap::new();
        for line in self.nginx.log()? {
            log.entry(line.request.clone()).or_default().push(line);
        }
        for (answer, fault) in &sent.answers {
            let logged = log.get(&sent.lines[&answer.path]);
            let messages: Vec<&str> = logged
                .into_iter()
                .flatten()
                .map(|line| line.message.as_str())
                .collect();
            let (status, expected) = match fault {
                Some(index) => {
                    let expected = &self.faults[*index].expected;
                    (expected.status, expected.logged.clone())
                }
                None => (200, Vec::new()),
            };
            ensure!(
                answer.status == status,
                "GET {} got {}, not {status}; nginx logged {messages:?}",
                answer.path,
                answer.status
            );
            ensure!(
                !self.witness.logs || is_logged(&messages, &expected),
                "GET {}: nginx logged {messages:?}, the fault should give {expected:?}",
                answer.path
            );
        }
        Ok(log)
    }

    /// Proves the faults, waits for the verdicts, ends the tracer and checks all of them.
    pub fn check(&self, sent: &Sent, tracer: Tracer) -> Result<Vec<Value>> {
        Ok(self.check_all(sent, tracer)?.verdicts)
    }

    /// The same, and gives all that the tracer said.
    pub fn check_all(&self, sent: &Sent, tracer: Tracer) -> Result<Ended> {
        let log = self.prove(sent)?;
        let (ended, waited) = self.collect(sent, tracer)?;
        self.compare(sent, &log, &ended)
            .map_err(|error| match waited {
                Ok(()) => error,
                Err(waited) => error.context(waited),
            })?;
        Ok(ended)
    }

    /// Waits for the verdicts and ends the tracer; comparing reports what is missing, by the
    /// requests' names.
    pub fn collect(&self, sent: &Sent, tracer: Tracer) -> Result<(Ended, Result<()>)> {
        let waited = tracer.verdict_lines(self.due(sent)).map(drop);
        Ok((tracer.stop(libc::SIGINT)?, waited))
    }

    /// Waits until each failed request has a line, and gives the lines.
    pub fn verdict_lines(&self, sent: &Sent, tracer: &Tracer) -> Result<Vec<Line>> {
        tracer.verdict_lines(self.due(sent))
    }
}

/// Whether nginx logged what [`Expected::logged`](crate::expected::Expected::logged) says.
fn is_logged(messages: &[&str], expected: &[String]) -> bool {
    let (needed, optional) = match expected.split_last() {
        Some((last, before)) if last.starts_with('?') => (before, Some(&last[1..])),
        _ => (expected, None),
    };
    let wanted = needed.iter().map(String::as_str).chain(optional);
    (needed.len()..=needed.len() + usize::from(optional.is_some())).contains(&messages.len())
        && messages
            .iter()
            .zip(wanted)
            .all(|(is, want)| want.split(" | ").any(|want| is.contains(want)))
}
