//! The comparison of a verdict with what was expected.

use serde_json::Value;

use crate::expected::Expected;

impl Expected {
    /// Everything in which `verdict` differs, a line each.
    pub fn differences(&self, verdict: &Value) -> Vec<String> {
        let mut found = Vec::new();
        let mut same = |name: &str, expected: Value, actual: &Value| {
            if expected != *actual {
                found.push(format!(
                    "{name}: expected {expected}, the verdict says {actual}"
                ));
            }
        };
        let status = (self.status > 0).then_some(self.status);
        let is_unseen = self.or_unseen && verdict["status"].is_null();
        if !is_unseen {
            same("status", status.into(), &verdict["status"]);
        }
        let right_too = |told: &Value| self.or_cause.iter().any(|cause| told == cause);
        if !right_too(&verdict["cause"]) {
            same("cause", self.cause.into(), &verdict["cause"]);
        }
        same(
            "upstream",
            self.upstream.clone().into(),
            &verdict["upstream"],
        );
        if !self.or_errno.contains(&verdict["errno"].as_str()) {
            same("errno", self.errno.into(), &verdict["errno"]);
        }
        // Absent is as good as false, as the contract has it.
        let masked = verdict.get("masked").cloned().unwrap_or(false.into());
        if !is_unseen {
            same("masked", self.masked.into(), &masked);
        }
        same("lost_events", 0.into(), &verdict["lost_events"]);

        let attempts = if self.untried && self.attempts.is_empty() {
            Vec::new()
        } else if self.attempts.is_empty() {
            vec![self.attempt()]
        } else {
            self.attempts.clone()
        };
        let attempts: Vec<_> = attempts
            .into_iter()
            .filter(|attempt| !is_unseen || attempt.cause.is_some())
            .collect();
        let mut actual = verdict["attempts"].as_array().cloned().unwrap_or_default();
        // Asking the balancer in vain may be told as an attempt, or not.
        let nobody = |attempt: &Value| {
            attempt["upstream"].is_null() && attempt["cause"] == "no-live-upstreams"
        };
        actual.retain(|attempt| !nobody(attempt));
        same(
            "number of attempts",
            attempts.len().into(),
            &actual.len().into(),
        );
        for (index, (expected, actual)) in attempts.iter().zip(&actual).enumerate() {
            let mut same = |name: &str, expected: Value| {
                same(&format!("attempt {index}, {name}"), expected, &actual[name]);
            };
            same("upstream", expected.upstream.clone().into());
            if !right_too(&actual["cause"]) {
                same("cause", expected.cause.into());
            }
            if !self.or_errno.contains(&actual["errno"].as_str()) {
                same("errno", expected.errno.into());
            }
            same("reused", expected.reused.into());
        }
        for (index, attempt) in actual.iter().enumerate() {
            let (start, end) = (attempt["start"].as_str(), attempt["end"].as_str());
            if start.is_none() || end.is_none() || start > end {
                found.push(format!("attempt {index} lasts from {start:?} to {end:?}"));
            }
        }
        let mut right = self.confidence.iter();
        let is_right = right.any(|right| verdict["confidence"] == *right)
            || self.confidence.contains(&"proven") && may_be_lowered_by_skips(verdict);
        if !is_right {
            found.push(format!(
                "confidence: expected {}, the verdict says {}",
                self.confidence.join(" or "),
                verdict["confidence"]
            ));
        }
        let words = words(verdict);
        for text in self.says.iter().filter(|text| !words.contains(*text)) {
            found.push(format!("{text:?} is not in its words: {words}"));
        }
        if verdict["summary"].as_str().is_none_or(str::is_empty) {
            found.push("no summary".into());
        }
        found
    }
}

/// Summary, evidence and advice of a verdict, a line each.
fn words(verdict: &Value) -> String {
    let texts = |list: &str, name: Option<&str>| -> Vec<String> {
        let list = verdict[list].as_array().cloned().unwrap_or_default();
        list.iter()
            .filter_map(|item| name.map_or(item, |name| &item[name]).as_str())
            .map(str::to_owned)
            .collect()
    };
    let mut words = vec![verdict["summary"].as_str().unwrap_or_default().to_owned()];
    words.extend(texts("evidence", Some("text")));
    words.extend(texts("advice", None));
    words.join("\n")
}

/// Whether the verdict says that the kernel skipped runs of hooks while its request lasted and is
/// less certain for it: an interrupt in the midst of a hook does that on every kernel.
pub(crate) fn may_be_lowered_by_skips(verdict: &Value) -> bool {
    verdict["confidence"] == "inferred" && names_a_skipped_run(verdict)
}

pub(crate) fn names_a_skipped_run(verdict: &Value) -> bool {
    let evidence = verdict["evidence"].as_array();
    evidence.is_some_and(|all| all.iter().any(|one| one["event"] == "skipped"))
}
