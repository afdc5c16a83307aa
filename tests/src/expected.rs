//! What a failed request's verdict has to say, all of it.

use crate::netns::Netns;

/// One attempt that nginx made for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// `IP:port`, `[v6]:port` or `unix:/path`.
    pub upstream: Option<String>,
    /// The cause, or `None` for the attempt that succeeded.
    pub cause: Option<&'static str>,
    /// The errno's name, or `None` for the attempt that succeeded.
    pub errno: Option<&'static str>,
    /// On a kept-alive connection.
    pub reused: bool,
}

/// A whole verdict, but for what each request has of its own (its line, worker, connection).
#[derive(Clone, Debug)]
pub struct Expected {
    /// What the client gets, and the verdict says it got; 0 where there is no status.
    pub status: u16,
    /// Nobody is to blame: there must be no verdict.
    pub silent: bool,
    /// The catalogue's id.
    pub cause: &'static str,
    /// Causes that are right too, where a race in the kernel decides.
    pub or_cause: Vec<&'static str>,
    /// The confidences that are right; `proven` where the kernel shows the cause.
    pub confidence: &'static [&'static str],
    /// The upstream of the last attempt.
    pub upstream: Option<String>,
    /// The errno of the last attempt.
    pub errno: Option<&'static str>,
    /// Errnos that are right too, where a race in the kernel decides.
    pub or_errno: Vec<Option<&'static str>>,
    /// The last attempt was on a kept-alive connection.
    pub reused: bool,
    /// nginx tried nobody: there is no attempt, or one that names no upstream.
    pub untried: bool,
    /// Every attempt; empty for the usual single one, which is as the verdict.
    pub attempts: Vec<Attempt>,
    /// Whether a retry hid the failure from the client.
    pub masked: bool,
    /// What the client got may be unknown: this nginx does not show it.
    pub or_unseen: bool,
    /// Texts that summary, evidence or advice have to contain.
    pub says: Vec<String>,
    /// What nginx's error log says of each failed attempt, in order: proof that the fault is the
    /// one that the test meant. ` | ` separates texts of which one is enough; a last line that
    /// starts with `?` may be missing.
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
        "ELOOP" => libc::ELOOP,
        other => panic!("{other} is not among the errnos known to the tests"),
    }
}

impl Expected {
    /// A 502 for `cause` at `upstream`, whose connect() or SO_ERROR gave `errno`; proven.
    pub fn new(cause: &'static str, upstream: &str, errno: &'static str) -> Self {
        Self {
            status: 502,
            silent: false,
            cause,
            or_cause: Vec::new(),
            confidence: &["proven"],
            upstream: Some(upstream.to_owned()),
            errno: Some(errno),
            or_errno: Vec::new(),
            reused: false,
            untried: false,
            attempts: Vec::new(),
            masked: false,
            or_unseen: false,
            says: Vec::new(),
            logged: vec![format!("failed ({}: ", number(errno))],
        }
    }

    /// A 504 for `cause` at `upstream`: nginx's timer ended the attempt, which it logs with the
    /// errno that the kernel gives when it is the one to give up.
    pub fn timeout(cause: &'static str, upstream: &str) -> Self {
        Self {
            status: 504,
            logged: vec!["upstream timed out (110: ".into()],
            ..Self::new(cause, upstream, "ETIMEDOUT")
        }
    }

    /// A 502 for `cause` at `upstream`, to which nginx was connected: no errno, this in its log.
    pub fn connected(cause: &'static str, upstream: &str, logged: &str) -> Self {
        Self {
            errno: None,
            logged: vec![logged.to_owned()],
            ..Self::new(cause, upstream, "ECONNRESET")
        }
    }

    /// The same for a connection that was reset: read, write or connect() fails, by race.
    pub fn reset(cause: &'static str, upstream: &str) -> Self {
        let logged = "(104: Connection reset by peer) | (32: Broken pipe)";
        Self {
            errno: Some("ECONNRESET"),
            ..Self::connected(cause, upstream, logged)
        }
        .or_errno(Some("EPIPE"))
    }

    /// A 502 for `cause` without any attempt, and this in nginx's log.
    pub fn untried(cause: &'static str, logged: &str) -> Self {
        Self {
            upstream: None,
            untried: true,
            ..Self::connected(cause, "", logged)
        }
    }

    /// No verdict at all: the client gets this status, and nginx logs this.
    pub fn silence(status: u16, logged: &[&str]) -> Self {
        Self {
            status,
            silent: true,
            logged: logged.iter().map(|&line| line.to_owned()).collect(),
            ..Self::untried("none", "")
        }
    }

    /// This errno is right too.
    pub fn or_errno(mut self, errno: Option<&'static str>) -> Self {
        self.or_errno.push(errno);
        self
    }

    /// The connection was kept alive from an earlier request.
    pub fn reused(mut self) -> Self {
        self.reused = true;
        self
    }

    /// nginx logs nothing.
    pub fn unlogged(mut self) -> Self {
        self.logged.clear();
        self
    }

    /// nginx logs this after all else.
    pub fn then_logged(mut self, line: &str) -> Self {
        self.logged.push(line.to_owned());
        self
    }

    /// The client gets this status and something takes the failure's place: not a retry, but
    /// `error_page`, a cache, or the part of the answer that had come.
    pub fn hidden(mut self, status: u16) -> Self {
        self.status = status;
        self.masked = true;
        self
    }

    /// The client gets this status instead.
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Nothing shows the cause on any kernel, it is the only one that fits: `inferred`.
    pub fn exactly_inferred(mut self) -> Self {
        self.confidence = &["inferred"];
        self
    }

    /// Some kernels, builds of nginx or runs show the cause, others do not: `inferred` is right
    /// too.
    pub fn at_best_proven(mut self) -> Self {
        self.confidence = &["proven", "inferred"];
        self
    }

    /// Less sure, and perhaps without what the client got: this nginx shows none of its functions.
    pub fn unseen(mut self) -> Self {
        self.or_unseen = true;
        self.at_best_proven()
    }

    /// Proven where this kernel shows the cause, else perhaps the only cause that fits.
    pub fn proven_if(self, is_shown: bool) -> Self {
        if is_shown {
            self
        } else {
            self.at_best_proven()
        }
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
                reused: false,
            },
        ];
        self.status = 200;
        self.masked = true;
        self
    }

    /// The same where the backends of `netns` run.
    pub fn placed(mut self, netns: &Netns) -> Self {
        let reaches = |address: Option<String>| address.map(|address| netns.reaches(&address));
        self.upstream = reaches(self.upstream);
        for attempt in &mut self.attempts {
            attempt.upstream = reaches(attempt.upstream.take());
        }
        for text in &mut self.logged {
            *text = netns.reaches(text);
        }
        for text in &mut self.says {
            *text = netns.listens(text);
        }
        self
    }

    pub(crate) fn attempt(&self) -> Attempt {
        Attempt {
            upstream: self.upstream.clone(),
            cause: Some(self.cause),
            errno: self.errno,
            reused: self.reused,
        }
    }
}
