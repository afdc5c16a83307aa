//! What a failed request's verdict has to say, all of it, and the comparison with what it says.

use serde_json::Value;

/// One attempt that nginx made for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// `IP:port`, `[v6]:port` or `unix:/path`.
    pub upstream: Option<String>,
    /// The cause, or `None` for the attempt that succeeded.
    pub cause: Option<&'static str>,
    /// The errno's name, or `None` for the attempt that succeeded.
    pub errno: Option<&'static str>,
}

/// A whole verdict, but for what each request has of its own (its line, worker, connection).
#[derive(Clone, Debug)]
pub struct Expected {
    /// What the client gets, and the verdict says it got.
    pub status: u16,
    /// The catalogue's id.
    pub cause: &'static str,
    /// The confidences that are right; `proven` where the kernel shows the cause.
    pub confidence: &'static [&'static str],
    /// The upstream of the last attempt.
    pub upstream: Option<String>,
    /// The errno of the last attempt.
    pub errno: Option<&'static str>,
    /// Every attempt; empty for the usual single one, which is as the verdict.
    pub attempts: Vec<Attempt>,
    /// Whether a retry hid the failure from the client.
    pub masked: bool,
    /// Texts that summary, evidence or advice have to contain.
    pub says: Vec<String>,
    /// What nginx's error log says of each failed attempt, in order: proof that the fault is the
    /// one that the test meant.
    pub logged: Vec<String>,
}

/// The number of an errno's name, for those that nginx meets here.
fn number(errno: &str) -> i32 {
    match errno {
        "EPERM" => libc::EPERM,
        "ENOENT" => libc::ENOENT,
        "EAGAIN" => libc::EAGAIN,
        "EACCES" => libc::EACCES,
        "EINVAL" => libc::EINVAL,
        "EMFILE" => libc::EMFILE,
        "EADDRNOTAVAIL" => libc::EADDRNOTAVAIL,
        "ENETDOWN" => libc::ENETDOWN,
        "ENETUNREACH" => libc::ENETUNREACH,
        "ECONNRESET" => libc::ECONNRESET,
        "ETIMEDOUT" => libc::ETIMEDOUT,
        "ECONNREFUSED" => libc::ECONNREFUSED,
        "EHOSTUNREACH" => libc::EHOSTUNREACH,
        "EAFNOSUPPORT" => libc::EAFNOSUPPORT,
        other => panic!("{other} is not among the errnos known to the tests"),
    }
}

impl Expected {
    /// A 502 for `cause` at `upstream`, whose connect() or SO_ERROR gave `errno`; proven.
    pub fn new(cause: &'static str, upstream: &str, errno: &'static str) -> Self {
        Self {
            status: 502,
            cause,
            confidence: &["proven"],
            upstream: Some(upstream.to_owned()),
            errno: Some(errno),
            attempts: Vec::new(),
            masked: false,
            says: Vec::new(),
            logged: vec![format!("failed ({}: ", number(errno))],
        }
    }

    /// A 504 for `cause` at `upstream`: nginx's timer ended the attempt, which it logs with the errno
    /// that the kernel gives when it is the one to give up.
    pub fn timeout(cause: &'static str, upstream: &str) -> Self {
        Self {
            status: 504,
            logged: vec!["upstream timed out (110: ".into()],
            ..Self::new(cause, upstream, "ETIMEDOUT")
        }
    }

    /// The client gets this status instead.
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// The cause is in part out of sight: `inferred` is right too.
    pub fn inferred(mut self) -> Self {
        self.confidence = &["proven", "inferred"];
        self
    }

    /// Nobody can know: the confidence has to be `unknown`.
    pub fn unknown(mut self) -> Self {
        self.confidence = &["unknown"];
        self
    }

    /// Summary, evidence or advice contain `text`.
    pub fn says(mut self, text: impl Into<String>) -> Self {
        self.says.push(text.into());
        self
    }

    /// nginx tries `before` first; they fail, each logged with its errno.
    pub fn after(mut self, before: &[Expected]) -> Self {
        let own = self.attempt();
        let logged = before.iter().flat_map(|failed| failed.logged.clone());
        self.logged = logged.chain(self.logged).collect();
        self.attempts = before.iter().map(Self::attempt).collect();
        self.attempts.push(own);
        self
    }

    /// A retry at `upstream` succeeds: the client gets 200.
    pub fn masked_by(mut self, upstream: &str) -> Self {
        self.attempts = vec![
            self.attempt(),
            Attempt {
                upstream: Some(upstream.to_owned()),
                cause: None,
                errno: None,
            },
        ];
        self.status = 200;
        self.masked = true;
        self
    }

    fn attempt(&self) -> Attempt {
        Attempt {
            upstream: self.upstream.clone(),
            cause: Some(self.cause),
            errno: self.errno,
        }
    }

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
        same("status", self.status.into(), &verdict["status"]);
        same("cause", self.cause.into(), &verdict["cause"]);
        same(
            "upstream",
            self.upstream.clone().into(),
            &verdict["upstream"],
        );
        same("errno", self.errno.into(), &verdict["errno"]);
        // Absent is as good as false, as the contract has it.
        let masked = verdict.get("masked").cloned().unwrap_or(false.into());
        same("masked", self.masked.into(), &masked);
        same("lost_events", 0.into(), &verdict["lost_events"]);

        let attempts = if self.attempts.is_empty() {
            vec![self.attempt()]
        } else {
            self.attempts.clone()
        };
        let none = Vec::new();
        let actual = verdict["attempts"].as_array().unwrap_or(&none);
        same(
            "number of attempts",
            attempts.len().into(),
            &actual.len().into(),
        );
        for (index, (expected, actual)) in attempts.iter().zip(actual).enumerate() {
            let mut same = |name: &str, expected: Value| {
                same(&format!("attempt {index}, {name}"), expected, &actual[name]);
            };
            same("upstream", expected.upstream.clone().into());
            same("cause", expected.cause.into());
            same("errno", expected.errno.into());
            same("reused", false.into());
        }
        for (index, attempt) in actual.iter().enumerate() {
            let (start, end) = (attempt["start"].as_str(), attempt["end"].as_str());
            if start.is_none() || end.is_none() || start > end {
                found.push(format!("attempt {index} lasts from {start:?} to {end:?}"));
            }
        }
        if !self
            .confidence
            .iter()
            .any(|right| verdict["confidence"] == *right)
        {
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
