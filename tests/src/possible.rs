//! What `tracer causes LINE` says of nginx's lines: a verdict's cause must be among them.

use std::collections::HashMap;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::error_log::LogLine;
use crate::programs;

/// Causes that nginx logs no error for, or that no line shows.
const WITHOUT_A_LINE: [&str; 3] = ["unexplained", "passed-through", "returned-by-config"];
/// Lines about what came of another request's failure.
const OF_ANOTHER: [&str; 2] = ["auth request unexpected status", "in slice response"];

/// Answers so far, by message and upstream.
#[derive(Default)]
pub(crate) struct Possible(HashMap<(String, String), Vec<String>>);

/// The upstream without the request's path.
fn upstream(line: &LogLine) -> String {
    let field = line.whole.split("upstream: \"").nth(1).unwrap_or_default();
    field.split('/').take(3).collect::<Vec<_>>().join("/")
}

impl Possible {
    /// What is wrong with a verdict on a request of which nginx logged these lines.
    pub(crate) fn differences(
        &mut self,
        verdict: &Value,
        lines: &[LogLine],
    ) -> Result<Option<String>> {
        let cause = verdict["cause"].as_str().unwrap_or_default();
        if WITHOUT_A_LINE.contains(&cause) {
            return Ok(None);
        }
        let mut all = Vec::new();
        for line in lines {
            if !OF_ANOTHER.iter().any(|words| line.message.contains(words)) {
                all.extend(self.behind(line)?.iter().cloned());
            }
        }
        let is_among = all.is_empty() || all.iter().any(|id| id == cause);
        let messages = || lines.iter().map(|line| line.message.as_str());
        Ok((!is_among).then(|| {
            let messages: Vec<&str> = messages().collect();
            format!("`tracer causes` says of {messages:?}: {all:?}, without {cause}")
        }))
    }

    fn behind(&mut self, line: &LogLine) -> Result<&Vec<String>> {
        let key = (line.message.clone(), upstream(line));
        if !self.0.contains_key(&key) {
            let mut asked = Command::new(programs::tracer()?);
            let answer = asked
                .args(["causes", "--format", "json", &line.whole])
                .output()
                .context("tracer causes")?;
            let answer: Value = serde_json::from_slice(&answer.stdout)
                .with_context(|| format!("tracer causes {:?}: {answer:?}", line.whole))?;
            let causes = answer["causes"].as_array().context("causes")?;
            let ids = causes.iter().filter_map(|cause| cause["id"].as_str());
            let ids = ids.map(str::to_owned).collect();
            self.0.insert(key.clone(), ids);
        }
        Ok(&self.0[&key])
    }
}
