//! What became of the hooks, one by one and in numbers.

use std::fmt;

use super::table::{ICMP_RECEIVE, SIGHTS, Sight};
use crate::plural::count;

/// What became of one program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Attached.
    Attached,
    /// Not attached, and why.
    Missing(String),
    /// Not needed: a better way is attached.
    Spare,
    /// Attached once an nginx needs it.
    Deferred,
}

impl Outcome {
    /// It is attached, or will be once it is needed.
    pub(super) fn serves(&self) -> bool {
        matches!(self, Self::Attached | Self::Deferred)
    }

    /// How bad that is.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Spare => 0,
            Self::Deferred => 1,
            Self::Attached => 2,
            Self::Missing(_) => 3,
        }
    }
}

/// The state of a hook, as `live`, `doctor` and the report name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Attached in the best way.
    Attached,
    /// Attached in another way, or what it shows comes from elsewhere: the same causes, perhaps
    /// `inferred`.
    Fallback,
    /// Not attached in any way.
    Missing,
}

impl State {
    /// Its name.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Fallback => "fallback",
            Self::Missing => "missing",
        }
    }

    /// The state of what is seen in this way, the best being 0.
    pub(super) fn of(sight: &Sight, way: Option<usize>) -> Self {
        match way {
            Some(0) => Self::Attached,
            Some(_) => Self::Fallback,
            None if sight.instead.is_some() => Self::Fallback,
            None => Self::Missing,
        }
    }
}

/// How many hooks are in each state: one count for `live`, `doctor` and the report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// [`State::Attached`].
    pub attached: usize,
    /// [`State::Fallback`].
    pub fallback: usize,
    /// [`State::Missing`].
    pub missing: usize,
}

impl Tally {
    /// Counts one more.
    pub(crate) fn add(&mut self, state: State) {
        match state {
            State::Attached => self.attached += 1,
            State::Fallback => self.fallback += 1,
            State::Missing => self.missing += 1,
        }
    }

    /// Counts what a capture's header says: the programs that were attached, the names of what was
    /// not.
    #[must_use]
    pub(crate) fn recorded(programs: &[String], absent: &[String], has_nginx: bool) -> Self {
        let is_absent = |sight: &Sight| absent.iter().any(|name| name == sight.name);
        let is_attached = |program: &str| programs.iter().any(|one| one == program);
        let mut tally = Self::default();
        for sight in SIGHTS {
            // Before there is an nginx, its hooks are in no state.
            let is_nginx = sight
                .ways
                .iter()
                .copied()
                .flatten()
                .any(|hook| hook.place.is_nginx());
            if is_nginx && !has_nginx {
                continue;
            }
            let way = sight
                .ways
                .iter()
                .position(|way| way.iter().all(|hook| is_attached(hook.program)));
            tally.add(match is_absent(sight) {
                true => State::of(sight, None),
                // What is deferred is not among the programs.
                false => State::of(sight, way.or(Some(0))),
            });
        }
        tally.add(match is_absent(&ICMP_RECEIVE) {
            true => State::Missing,
            false => State::Attached,
        });
        tally
    }
}

impl fmt::Display for Tally {
    /// `20 hooks attached, 2 fallback, 1 missing`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} attached", count(self.attached, "hook"))?;
        for (number, state) in [
            (self.fallback, State::Fallback),
            (self.missing, State::Missing),
        ] {
            if number > 0 {
                write!(f, ", {number} {}", state.name())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_counts_its_hooks_as_live_did() {
        let all: Vec<String> = SIGHTS
            .iter()
            .flat_map(|sight| sight.ways[0])
            .map(|hook| hook.program.to_owned())
            .collect();
        let sights = SIGHTS.len() + 1;
        let tally = Tally::recorded(&all, &[], true);
        assert_eq!(tally.to_string(), format!("{sights} hooks attached"));
        // One by a further way, one with something instead, one with nothing.
        let without: Vec<String> = all
            .into_iter()
            .filter(|program| program != "error_report" && !program.starts_with("overflow"))
            .chain(["error_report_probe".to_owned()])
            .collect();
        let absent = ["overflow".to_owned(), "icmp_receive".to_owned()];
        let tally = Tally::recorded(&without, &absent, true);
        let attached = sights - 3;
        assert_eq!(
            tally.to_string(),
            format!("{attached} hooks attached, 2 fallback, 1 missing")
        );
        // What nginx's own hooks would be is not known without one.
        let own = |sight: &&Sight| sight.ways[0].iter().all(|hook| hook.place.is_nginx());
        assert_eq!(
            Tally::recorded(&without, &absent, false).attached,
            attached - SIGHTS.iter().filter(own).count()
        );
    }
}
