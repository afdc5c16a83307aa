//! Labels of upstreams, in bounded number: the first have one of their own, all later ones share
//! `other`. One that was not used for an hour makes room for a new one.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use crate::{clean, event::Time};

/// What all others share.
pub(super) const OTHER: &str = "other";
/// nginx tried no upstream, or it is not known which.
pub(super) const NONE: &str = "none";

/// An upstream that was not used for so long makes room (nanoseconds).
const IDLE: u64 = 3600 * 1_000_000_000;
/// How often it is looked for one (nanoseconds).
const LOOK: u64 = 60 * 1_000_000_000;
/// Upstreams without a label of their own are counted up to this many.
const COUNTED: usize = 65_536;

/// The labels that are in use.
#[derive(Debug)]
pub(super) struct Labels {
    limit: usize,
    known: HashMap<String, Known>,
    /// Hashes of those that share `other`.
    folded: HashSet<u64>,
    looked: Option<Time>,
    other: Arc<str>,
    none: Arc<str>,
}

#[derive(Debug)]
struct Known {
    label: Arc<str>,
    used: Time,
}

/// A label, and one that made room for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) label: Arc<str>,
    pub(super) dropped: Option<Arc<str>>,
}

impl Labels {
    /// At most so many, in addition to `other` and `none`.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            known: HashMap::new(),
            folded: HashSet::new(),
            looked: None,
            other: OTHER.into(),
            none: NONE.into(),
        }
    }

    /// What all others share.
    pub(super) fn other(&self) -> Arc<str> {
        Arc::clone(&self.other)
    }

    /// That of no upstream.
    pub(super) fn none(&self) -> Arc<str> {
        Arc::clone(&self.none)
    }

    /// How many upstreams share `other`.
    pub(super) fn folded(&self) -> usize {
        self.folded.len()
    }

    /// The label of an upstream that was used.
    pub(super) fn of(&mut self, name: &str, at: Time) -> Label {
        if let Some(known) = self.known.get_mut(name) {
            known.used = known.used.max(at);
            return Label {
                label: Arc::clone(&known.label),
                dropped: None,
            };
        }
        let dropped = match self.known.len() < self.limit {
            true => None,
            false => self.make_room(at),
        };
        if self.known.len() >= self.limit {
            if self.folded.len() < COUNTED {
                self.folded.insert(hash(name));
            }
            return Label {
                label: self.other(),
                dropped,
            };
        }
        self.folded.remove(&hash(name));
        let label: Arc<str> = clean::text(name).into();
        let known = Known {
            label: Arc::clone(&label),
            used: at,
        };
        self.known.insert(name.to_owned(), known);
        Label { label, dropped }
    }

    fn make_room(&mut self, at: Time) -> Option<Arc<str>> {
        if self.looked.is_some_and(|looked| at.since(looked) < LOOK) {
            return None;
        }
        self.looked = Some(at);
        let oldest = self.known.iter().min_by_key(|(_, known)| known.used);
        let (name, _) = oldest.filter(|(_, known)| at.since(known.used) >= IDLE)?;
        let name = name.clone();
        self.known.remove(&name).map(|known| known.label)
    }
}

fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_first_have_a_label_and_the_rest_share_one() {
        let mut labels = Labels::new(2);
        let mut of = |name: &str| labels.of(name, Time(1)).label.to_string();
        assert_eq!((of("a"), of("b")), ("a".to_owned(), "b".to_owned()));
        assert_eq!(
            (of("c"), of("d"), of("c")),
            (OTHER.into(), OTHER.into(), OTHER.into())
        );
        assert_eq!(of("a"), "a");
        assert_eq!(labels.folded(), 2);
    }

    #[test]
    fn one_that_is_unused_for_an_hour_makes_room() {
        let mut labels = Labels::new(2);
        labels.of("a", Time(0));
        labels.of("b", Time(1800 * SECOND));
        assert_eq!(&*labels.of("c", Time(3000 * SECOND)).label, OTHER);
        let late = labels.of("c", Time(3700 * SECOND));
        assert_eq!((&*late.label, late.dropped.as_deref()), ("c", Some("a")));
        assert_eq!(labels.folded(), 0);
        assert_eq!(&*labels.of("a", Time(3701 * SECOND)).label, OTHER);
    }

    #[test]
    fn a_hostile_name_is_a_clean_label() {
        let mut labels = Labels::new(2);
        let label = labels.of("unix:/tmp/\x1b[31m\n", Time(1)).label;
        assert_eq!(&*label, "unix:/tmp/\\x1b[31m\\x0a");
    }
}
