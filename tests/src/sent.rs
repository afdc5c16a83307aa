//! What was sent: each answer with its fault, by the path.

use std::collections::HashMap;

use serde_json::Value;

use crate::client::{Answer, Front};
use crate::site::Site;

/// Requests that were sent and answered.
#[derive(Debug, Default)]
pub struct Sent {
    /// Each answer with the index of its fault, or `None` for a healthy one.
    pub(crate) answers: Vec<(Answer, Option<usize>)>,
    /// The request line of each path.
    pub(crate) lines: HashMap<String, String>,
    /// Lines of requests that the client got no answer to, with their faults.
    pub(crate) unanswered: Vec<(String, Option<usize>)>,
    /// The client's address.
    pub(crate) client: &'static str,
}

impl Sent {
    /// Adds what was sent after.
    pub fn extend(&mut self, more: Self) {
        self.answers.extend(more.answers);
        self.lines.extend(more.lines);
        self.unanswered.extend(more.unanswered);
        if !more.client.is_empty() {
            self.client = more.client;
        }
    }

    /// The answers to requests that failed.
    pub fn failed(&self) -> impl Iterator<Item = &Answer> {
        let failed = self.answers.iter().filter(|(_, fault)| fault.is_some());
        failed.map(|(answer, _)| answer)
    }
}

impl Site {
    /// The fault that a path leads to.
    pub(crate) fn fault(&self, path: &str) -> Option<usize> {
        (0..self.faults.len()).find(|index| path.starts_with(&format!("/fail{index}/")))
    }

    /// A request, by its line, to which no answer came: a worker ended with it.
    pub fn unanswered(&self, method: &str, path: &str) -> Sent {
        let line = Front::Http.line(method, path);
        Sent {
            unanswered: vec![(line, self.fault(path))],
            client: Front::Http.client(),
            ..Sent::default()
        }
    }

    /// Requests that a test sent by itself to the paths of faults or to `/ok/`.
    pub fn sent(&self, answers: Vec<(&'static str, Answer)>) -> Sent {
        self.sent_where(answers, |_| true)
    }

    /// The same, where only requests whose line `meets` the fault of their path met it.
    pub fn sent_where(
        &self,
        answers: Vec<(&'static str, Answer)>,
        meets: impl Fn(&str) -> bool,
    ) -> Sent {
        let mut sent = Sent {
            client: Front::Http.client(),
            ..Sent::default()
        };
        for (method, answer) in answers {
            let line = Front::Http.line(method, &answer.path);
            let fault = self.fault(&answer.path).filter(|_| meets(&line));
            sent.lines.insert(answer.path.clone(), line);
            sent.answers.push((answer, fault));
        }
        sent
    }

    /// Whether a fault cuts the answer short, so that nginx closes the client's connection.
    pub fn cuts(&self, fault: usize) -> bool {
        self.faults[fault].expected.cause == "response-truncated"
    }

    /// The cause that a verdict has to name, by its request or else by its upstream; `None` for a
    /// verdict that nobody should get.
    pub fn due_cause(&self, verdict: &Value) -> Option<&'static str> {
        let path = verdict["request"]["line"].as_str().unwrap_or_default();
        let path = path.split(' ').nth(1).unwrap_or_default();
        let fault = self.fault(path).or_else(|| {
            let upstream = verdict["upstream"].as_str()?;
            (0..self.faults.len())
                .find(|index| self.faults[*index].expected.upstream.as_deref() == Some(upstream))
        });
        fault.map(|fault| self.faults[fault].expected.cause)
    }

    /// The causes due to these requests.
    pub fn due_causes(&self, sent: &Sent) -> impl Iterator<Item = &'static str> {
        let faults = sent.answers.iter().filter_map(|(_, fault)| *fault);
        let due = faults.map(|fault| &self.faults[fault].expected);
        due.filter(|expected| !expected.silent)
            .map(|expected| expected.cause)
    }
}
