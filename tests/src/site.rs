//! A running nginx with faulty and healthy locations: sends it requests, proves the faults.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::backend::Backend;
use crate::client::{self, Answer};
use crate::error_log::LogLine;
use crate::netns::Netns;
use crate::nginx::Nginx;
use crate::stage::{Fault, Load};
use crate::tracer::{Line, Tracer};

/// A running nginx with its faults.
pub struct Site {
    /// The nginx.
    pub nginx: Nginx,
    /// Where it runs.
    pub netns: Netns,
    pub(crate) faults: Vec<Fault>,
    /// In pid and mount namespaces of its own.
    pub(crate) contained: bool,
    sent: AtomicUsize,
    _backend: Backend,
}

/// Requests that were sent and answered.
#[derive(Debug, Default)]
pub struct Sent {
    /// Each answer with the index of its fault, or `None` for a healthy one.
    pub(crate) answers: Vec<(Answer, Option<usize>)>,
    /// The request line of each path.
    pub(crate) lines: HashMap<String, String>,
    /// The client's address.
    pub(crate) client: &'static str,
}

impl Sent {
    /// Adds what was sent after.
    pub fn extend(&mut self, more: Self) {
        self.answers.extend(more.answers);
        self.lines.extend(more.lines);
        self.client = more.client;
    }

    /// The answers to requests that failed.
    pub fn failed(&self) -> impl Iterator<Item = &Answer> {
        let failed = self.answers.iter().filter(|(_, fault)| fault.is_some());
        failed.map(|(answer, _)| answer)
    }
}

impl Site {
    /// What [`Stage::start`](crate::stage::Stage::start) has started.
    pub(crate) fn new(
        nginx: Nginx,
        netns: Netns,
        faults: Vec<Fault>,
        contained: bool,
        backend: Backend,
    ) -> Self {
        Self {
            nginx,
            netns,
            faults,
            contained,
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
        let mut paths = Vec::new();
        for round in 0..rounds {
            let id = first + round;
            if due(load.failing, round) {
                paths.extend((0..self.faults.len()).map(|fault| format!("/fail{fault}/{id}")));
            }
            if due(load.healthy, round) {
                paths.push(format!("/ok/{id}"));
            }
        }
        let answers = self
            .netns
            .enter(|| client::send(load.front, &paths, load.concurrency))?;
        let answers = answers
            .into_iter()
            .map(|answer| {
                let fault = (0..self.faults.len())
                    .find(|index| answer.path.starts_with(&format!("/fail{index}/")));
                (answer, fault)
            })
            .collect();
        let lines = paths
            .into_iter()
            .map(|path| (path.clone(), load.front.line(&path)))
            .collect();
        Ok(Sent {
            answers,
            lines,
            client: load.front.client(),
        })
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
                messages.len() == expected.len()
                    && messages
                        .iter()
                        .zip(&expected)
                        .all(|(is, want)| is.contains(want)),
                "GET {}: nginx logged {messages:?}, the fault should give {expected:?}",
                answer.path
            );
        }
        Ok(log)
    }

    /// Proves the faults, waits for the verdicts, ends the tracer and checks all of them.
    pub fn check(&self, sent: &Sent, tracer: Tracer) -> Result<Vec<Value>> {
        let log = self.prove(sent)?;
        // What is missing is told below, with the requests' names.
        let waited = tracer.verdict_lines(sent.failed().count());
        let ended = tracer.stop(libc::SIGINT)?;
        self.compare(sent, &log, &ended)
            .map_err(|error| match waited {
                Ok(_) => error,
                Err(waited) => error.context(waited),
            })?;
        Ok(ended.verdicts)
    }

    /// Waits until each failed request has a line, and gives the lines.
    pub fn verdict_lines(&self, sent: &Sent, tracer: &Tracer) -> Result<Vec<Line>> {
        tracer.verdict_lines(sent.failed().count())
    }
}
