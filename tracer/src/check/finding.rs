//! What `tracer check` found.

use std::cmp::Reverse;

use crate::nginx::config::At;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// Worth knowing; no request fails by it alone.
    Note,
    /// Some requests fail, or all do under load.
    Warning,
    /// Requests fail now.
    Error,
}

impl Severity {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// The files are newer than what the workers run.
pub(crate) const CONFIG_CHANGED: &str = "config-changed";
/// nginx would not start with these files.
pub(crate) const CONFIG_UNREADABLE: &str = "config-unreadable";

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// The master; 0: of no running nginx.
    pub(crate) master: u32,
    /// Where the configuration has it.
    pub(crate) at: At,
    /// Whom it is about, if it is about one.
    pub(crate) peer: Option<String>,
    /// A cause of the catalogue, [`CONFIG_CHANGED`] or [`CONFIG_UNREADABLE`].
    pub(crate) cause: &'static str,
    pub(crate) text: String,
    pub(crate) fix: String,
}

impl Finding {
    /// What comes first: newer files, as all else is about these; then the worst.
    fn rank(&self) -> impl Ord + '_ {
        let is_first = self.cause == CONFIG_CHANGED;
        (
            Reverse(is_first),
            Reverse(self.severity),
            self.master,
            &self.at,
            &self.peer,
            self.cause,
        )
    }
}

/// All that was found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) findings: Vec<Finding>,
    /// Masters that were checked; 0 for a file alone.
    pub(crate) masters: usize,
    /// Different addresses that were tried.
    pub(crate) peers: usize,
    /// Lookups and addresses that could not be tried, and why.
    pub(crate) untried: Vec<String>,
}

impl Report {
    /// Puts them in order, each once.
    pub(crate) fn sort(&mut self) {
        self.findings
            .sort_by(|one, other| one.rank().cmp(&other.rank()));
        self.findings.dedup();
        self.untried.sort();
        self.untried.dedup();
    }

    /// How many there are of a severity.
    pub(crate) fn count(&self, severity: Severity) -> usize {
        let is_it = |finding: &&Finding| finding.severity == severity;
        self.findings.iter().filter(is_it).count()
    }

    /// Is any at least as bad as this?
    pub(crate) fn has(&self, severity: Severity) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.severity >= severity)
    }
}
