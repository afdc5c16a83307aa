//! The verdicts of a run fault by fault: where one is judged wrongly the others are still reported.

use std::collections::HashMap;

use anyhow::Result;
use serde_json::Value;

use crate::expected::Expected;
use crate::sent::Sent;
use crate::site::Site;
use crate::tracer::{Ended, Tracer};

/// What became of a fault.
#[derive(Debug)]
pub struct Judged {
    /// The verdicts on its requests.
    pub verdicts: Vec<Value>,
    /// Whether they are the right ones.
    pub outcome: Result<()>,
}

impl Site {
    /// Waits for the verdicts, and for `more` on what [`Site`] has not sent, and ends the tracer.
    pub fn finish(&self, sent: &Sent, more: usize, tracer: Tracer) -> Result<Ended> {
        // What is missing is told by comparing.
        drop(tracer.verdict_lines(self.due(sent) + more));
        tracer.stop(libc::SIGINT)
    }

    /// Proves and compares each fault by itself; last come the healthy requests, with the verdicts
    /// on nothing that was sent.
    pub fn apart(&self, sent: &Sent, ended: &Ended) -> Vec<Judged> {
        let owners: HashMap<&str, Option<usize>> = sent
            .answers
            .iter()
            .map(|(answer, fault)| (sent.lines[&answer.path].as_str(), *fault))
            .collect();
        let owner = |verdict: &Value| match verdict["request"]["line"].as_str() {
            Some(line) => owners.get(line).copied().flatten(),
            None => self.nearest(verdict),
        };
        let faults = (0..self.faults.len()).map(Some).chain([None]);
        faults
            .map(|fault| {
                let own = ended.verdicts.iter().filter(|one| owner(one) == fault);
                let verdicts: Vec<Value> = own.cloned().collect();
                let outcome = self.judge(&sent.of(fault), ended, verdicts.clone());
                Judged { verdicts, outcome }
            })
            .collect()
    }

    fn judge(&self, sent: &Sent, ended: &Ended, verdicts: Vec<Value>) -> Result<()> {
        let log = self.prove(sent)?;
        let ended = Ended {
            status: ended.status,
            verdicts,
            notices: Vec::new(),
            stderr: ended.stderr.clone(),
        };
        self.compare(sent, &log, &ended)
    }

    /// The fault that a verdict without a request differs least from.
    fn nearest(&self, verdict: &Value) -> Option<usize> {
        let differences = |expected: &Expected| expected.differences(verdict).len();
        (0..self.faults.len()).min_by_key(|index| differences(&self.faults[*index].expected))
    }
}

impl Sent {
    /// Of these only what is of this fault.
    fn of(&self, fault: Option<usize>) -> Self {
        let own = self.answers.iter().filter(|(_, of)| *of == fault);
        Self {
            answers: own.cloned().collect(),
            lines: self.lines.clone(),
            unanswered: Vec::new(),
            client: self.client,
        }
    }
}
