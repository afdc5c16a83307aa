//! Compares all verdicts of a run with all requests that were sent.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::client::HOST;
use crate::differences::{may_be_lowered_by_skips, names_a_skipped_run};
use crate::error_log::LogLine;
use crate::kernel;
use crate::possible::Possible;
use crate::site::{Sent, Site};
use crate::tracer::Ended;

/// Requests of a run of some seconds.
const LONG: usize = 1000;

impl Site {
    /// Fails unless these are the right verdicts on these requests, and the tracer ended well.
    pub fn compare(
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
        let mut unnamed = Vec::new();
        for verdict in &ended.verdicts {
            match verdict["request"]["line"].as_str() {
                Some(line) => verdicts.entry(line).or_default().push(verdict),
                None => unnamed.push(verdict),
            }
        }
        let mut wrong = Vec::new();
        let mut possible = Possible::default();
        let mut skipped = 0;
        for (answer, fault) in &sent.answers {
            let line = &sent.lines[&answer.path];
            let found = verdicts.remove(line.as_str()).unwrap_or_default();
            let fault = fault.filter(|fault| !self.faults[*fault].expected.silent);
            // What nginx does not log has no name: any verdict that is right will do.
            if let Some(fault) = fault
                && found.is_empty()
                && !log.contains_key(line)
            {
                let right = |verdict: &&Value| {
                    let expected = &self.faults[fault].expected;
                    expected.differences(verdict).is_empty()
                        && self.own(sent, verdict, None).is_empty()
                };
                if let Some(at) = unnamed.iter().position(right) {
                    unnamed.swap_remove(at);
                    continue;
                }
            }
            match (fault, found.as_slice()) {
                (None, []) => {}
                (Some(fault), [verdict]) => {
                    let mut differences = self.faults[fault].expected.differences(verdict);
                    let logged = log.get(line).and_then(|lines| lines.first());
                    differences.extend(self.own(sent, verdict, logged));
                    if let Some(lines) = log.get(line) {
                        differences.extend(possible.differences(verdict, lines)?);
                    }
                    if !differences.is_empty() && may_lack_skipped_runs(verdict) {
                        skipped += 1;
                    } else if !differences.is_empty() {
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
        // A request whose client got no answer may have been judged before or not.
        for (line, fault) in &sent.unanswered {
            let found = verdicts.remove(line.as_str()).unwrap_or_default();
            let expected = fault.map(|fault| &self.faults[fault].expected);
            let right = match (expected, found.as_slice()) {
                (_, []) => true,
                (Some(expected), [verdict]) => verdict["cause"] == expected.cause,
                _ => false,
            };
            if !right {
                wrong.push(format!("{line}, unanswered, has {}", listed(&found)));
            }
        }
        for (line, strange) in verdicts {
            let strange = listed(&strange);
            wrong.push(format!(
                "a request that was not sent, {line}, has {strange}"
            ));
        }
        // First, for those without a verdict are the same requests.
        let before = unnamed.len();
        unnamed.retain(|verdict| !may_lack_skipped_runs(verdict));
        skipped += before - unnamed.len();
        let nobodys = unnamed.into_iter().map(|verdict| self.nobodys(verdict));
        wrong.splice(0..0, nobodys);
        if !wrong.is_empty() {
            bail!(
                "{} of {} requests judged wrongly:\n{}\nthe tracer said: {}",
                wrong.len(),
                sent.answers.len(),
                kinds(&wrong).join("\n"),
                ended.stderr
            );
        }
        let lowered = ended
            .verdicts
            .iter()
            .filter(|one| may_be_lowered_by_skips(one));
        let lowered = lowered.count();
        if lowered > 0 {
            // Of a run of some seconds a few moments at most.
            ensure!(
                sent.answers.len() < LONG || 4 * lowered <= sent.answers.len(),
                "{lowered} of {} verdicts are less certain, for runs of hooks that the kernel skipped: {}",
                sent.answers.len(),
                ended.stderr
            );
            let test = std::thread::current();
            let reason = format!(
                "the kernel skipped runs of hooks that an interrupt came in the midst of: {lowered} verdicts of that \
                 moment are inferred, and say so"
            );
            kernel::lesser(test.name().unwrap_or_default(), &reason);
        }
        if skipped > 0 {
            // Few at most, of the burst that all begins with: else it were no lesser kernel but a
            // fault.
            ensure!(
                5 * skipped <= sent.answers.len(),
                "{skipped} of {} verdicts unexplained, for runs of hooks that the kernel skipped: {}",
                sent.answers.len(),
                ended.stderr
            );
            let test = std::thread::current();
            let reason = format!(
                "this kernel may preempt a tracepoint's program and then skips others' runs: {skipped} requests of that \
                 moment are unexplained, and say so"
            );
            kernel::lesser(test.name().unwrap_or_default(), &reason);
        }
        Ok(())
    }

    /// A verdict that names no request and is right for none: what it misses of the nearest.
    fn nobodys(&self, verdict: &Value) -> String {
        let expected = self.faults.iter().map(|fault| &fault.expected);
        let nearest = expected
            .map(|expected| expected.differences(verdict))
            .min_by_key(Vec::len)
            .unwrap_or_default()
            .join("\n    ");
        format!("a verdict without a request\n    {nearest}\n    {verdict}")
    }

    /// Compares what each request has of its own with nginx's error log.
    fn own(&self, sent: &Sent, verdict: &Value, logged: Option<&LogLine>) -> Vec<String> {
        let mut differences = Vec::new();
        let mut same = |name: &str, expected: Value, actual: &Value| {
            if expected != *actual {
                differences.push(format!("{name}: expected {expected}, not {actual}"));
            }
        };
        if let Some(logged) = logged {
            same(
                "connection",
                logged.connection.into(),
                &verdict["connection"],
            );
            let request = &verdict["request"];
            same("client", sent.client.into(), &request["client"]);
            same("host", HOST.into(), &request["host"]);
        }
        match logged {
            Some(logged) if !self.witness.contained => {
                same("worker", logged.worker.into(), &verdict["worker"]);
            }
            // A container's nginx logs its own numbering of processes, we want the host's.
            _ => {
                let known = verdict["worker"]
                    .as_u64()
                    .is_some_and(|pid| self.nginx.had_worker(pid));
                same("worker is the host's", true.into(), &known.into());
            }
        }
        let time = verdict["time"].as_str().unwrap_or_default();
        if time.len() < 20 || !time.ends_with('Z') || time.as_bytes()[10] != b'T' {
            differences.push(format!("time: {time:?} is no RFC 3339 time in UTC"));
        }
        differences
    }
}

/// One of each kind of mistake, at most six: those with the same differences are one kind.
fn kinds(wrong: &[String]) -> Vec<&str> {
    let mut seen = BTreeSet::new();
    let kind = |text: &str| -> String {
        let lines: Vec<&str> = text.lines().collect();
        let differences = &lines[1..lines.len().saturating_sub(1).max(1)];
        let text = if differences.is_empty() {
            text.split_once(" has ").map_or("", |(_, rest)| rest)
        } else {
            &differences.join("\n")
        };
        text.replace(|character: char| character.is_ascii_digit(), "")
    };
    let first = wrong.iter().filter(|text| seen.insert(kind(text)));
    first.map(String::as_str).take(6).collect()
}

/// Whether the verdict says that the evidence does not decide and that the kernel skipped runs of
/// hooks meanwhile, on a kernel that does so in a usual run.
fn may_lack_skipped_runs(verdict: &Value) -> bool {
    verdict["cause"] == "unexplained"
        && kernel::preempts_tracepoints()
        && names_a_skipped_run(verdict)
}

fn listed(verdicts: &[&Value]) -> String {
    let first = verdicts
        .first()
        .map_or_else(String::new, |verdict| format!(", first {verdict}"));
    format!("{} verdicts{first}", verdicts.len())
}
