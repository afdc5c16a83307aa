//! What a cause is: an entry of the catalogue with its matcher.

use super::{
    finding::Finding,
    logged::{Logged, Shown},
    scene::Scene,
    unexplained,
};

/// One entry.
pub(crate) struct Cause {
    /// The stable name: the verdict's `cause`.
    pub id: &'static str,
    /// What happened, in a sentence without its stop.
    pub title: &'static str,
    /// How the kernel shows it, and what distinguishes it from its look-alikes.
    pub split: &'static str,
    /// Lines of nginx's error log that it explains; one line can have many causes.
    pub log_lines: &'static [&'static str],
    /// The kinds of lines that it can be behind. Those of `log_lines` are among them.
    pub logged: &'static [Logged],
    /// How to decide by hand whether it is this one.
    pub by_hand: ByHand,
    /// The status the client gets, unless a retry hides the failure.
    pub client_gets: &'static str,
    /// What fixes it, in general; a verdict's advice is filled with what was seen.
    pub fix: &'static str,
    /// Whether an attempt fits; `None`: no verdict names it yet, such requests are `unexplained`.
    pub(super) matches: Option<fn(&Scene<'_>) -> Option<Finding>>,
}

/// A command that decides, while the fault lasts.
pub(crate) struct ByHand {
    /// `ADDRESS`, `IP`, `PORT`, `PATH`, `NAME`, `PID` and `FILE` are filled in from the line.
    pub command: &'static str,
    /// What it shows if it is this cause: goes on after `if `.
    pub shows: &'static str,
}

impl Cause {
    /// Verdicts can name it. (`unexplained` is what is left, so it needs no matcher.)
    #[must_use]
    pub(crate) fn is_implemented(&self) -> bool {
        self.matches.is_some() || self.id == unexplained::UNEXPLAINED.id
    }

    /// Can it be behind such a line?
    #[must_use]
    pub(crate) fn can_be_behind(&self, shown: &Shown) -> bool {
        self.logged.iter().any(|logged| logged.fits(shown))
    }
}
