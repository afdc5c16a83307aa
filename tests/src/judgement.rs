//! Compares all verdicts of a run with all requests that were sent.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::client::HOST;
use crate::error_log::LogLine;
use crate::site::{Sent, Site};
use crate::tracer::Ended;

impl Site {
    pub(crate) fn compare(
        &self,
        sent: &Sent,
        log: &HashMap<String, Vec<LogLine>>,
        ended: &Ended,
    ) -> Result<()> {
        ensure!(
            ended.status.code() == Some(0),
            "the tracer ended with {}: {}",
            ended.status,
            ended.stderr
        );
        let mut verdicts: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for verdict in &ended.verdicts {
            let line = verdict["request"]["line"].as_str().unwrap_or("no request");
            verdicts.entry(line).or_default().push(verdict);
        }
        let mut wrong = Vec::new();
        for (answer, fault) in &sent.answers {
            let line = &sent.lines[&answer.path];
            let found = verdicts.remove(line.as_str()).unwrap_or_default();
            match (fault, found.as_slice()) {
                (None, []) => {}
                (Some(fault), [verdict]) => {
                    let mut differences = self.faults[*fault].expected.differences(verdict);
                    differences.extend(self.own(sent, verdict, &log[line][0]));
                    if !differences.is_empty() {
                        let differences = differences.join("\n    ");
                        wrong.push(format!("{line}\n    {differences}\n    {verdict}"));
                    }
                }
                (None, found) => {
                    wrong.push(format!("{line} is healthy, yet has {}", listed(found)));
                }
                (Some(_), found) => wrong.push(format!("{line} has {}", listed(found))),
            }
        }
        for (line, strange) in verdicts {
            let strange = listed(&strange);
            wrong.push(format!(
                "a request that was not sent, {line}, has {strange}"
            ));
        }
        if !wrong.is_empty() {
            bail!(
                "{} of {} requests judged wrongly:\n{}\nthe tracer said: {}",
                wrong.len(),
                sent.answers.len(),
                // The first tell enough.
                wrong[..wrong.len().min(4)].join("\n"),
                ended.stderr
            );
        }
        Ok(())
    }

    /// Compares what each request has of its own with nginx's error log.
    fn own(&self, sent: &Sent, verdict: &Value, logged: &LogLine) -> Vec<String> {
        let mut differences = Vec::new();
        let mut same = |name: &str, expected: Value, actual: &Value| {
            if expected != *actual {
                differences.push(format!("{name}: expected {expected}, not {actual}"));
            }
        };
        same(
            "connection",
            logged.connection.into(),
            &verdict["connection"],
        );
        let request = &verdict["request"];
        same("client", sent.client.into(), &request["client"]);
        same("host", HOST.into(), &request["host"]);
        if self.contained {
            // A container's nginx logs its own numbering of processes, we want the host's.
            let workers = self.nginx.worker_pids();
            let known = workers.iter().any(|pid| verdict["worker"] == *pid);
            same("worker is the host's", true.into(), &known.into());
        } else {
            same("worker", logged.worker.into(), &verdict["worker"]);
        }
        let time = verdict["time"].as_str().unwrap_or_default();
        if time.len() < 20 || !time.ends_with('Z') || time.as_bytes()[10] != b'T' {
            differences.push(format!("time: {time:?} is no RFC 3339 time in UTC"));
        }
        differences
    }
}

fn listed(verdicts: &[&Value]) -> String {
    let first = verdicts
        .first()
        .map_or_else(String::new, |verdict| format!(", first {verdict}"));
    format!("{} verdicts{first}", verdicts.len())
}
