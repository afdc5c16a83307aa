//! Counts of an upstream by time: the last minute of a live run, or all of a capture in at most
//! sixty spans.

use std::collections::VecDeque;

use crate::series::{CauseCounts, Histogram, Merge, Timeline};

/// Spans that are kept.
pub(super) const SPANS: usize = 60;
/// The width of a span of a live run (nanoseconds).
pub(super) const WIDTH: u64 = 1_000_000_000;

/// What happened within a span.
#[derive(Debug, Clone, Default)]
pub(super) struct Span {
    /// Attempts that ended.
    pub(super) attempts: u64,
    /// Failed attempts (of all upstreams together: failed requests), and their causes.
    pub(super) failed: u64,
    pub(super) causes: CauseCounts,
    /// From `connect()`, or the reuse, to the first byte of the response.
    pub(super) first_byte: Histogram,
}

impl Merge for Span {
    fn merge(&mut self, other: Self) {
        self.attempts += other.attempts;
        self.failed += other.failed;
        self.causes.merge(other.causes);
        self.first_byte.merge(other.first_byte);
    }
}

/// Spans in order of time.
#[derive(Debug, Clone)]
pub(super) enum Spans {
    /// The newest ones; what is older is dropped.
    Sliding {
        /// The number of the last span, counted from the Unix epoch.
        last: u64,
        /// The last [`SPANS`].
        spans: VecDeque<Span>,
    },
    /// All.
    Whole(Timeline<Span, SPANS>),
}

impl Spans {
    pub(super) fn new(is_live: bool) -> Self {
        match is_live {
            true => Self::Sliding {
                last: 0,
                spans: VecDeque::new(),
            },
            false => Self::Whole(Timeline::default()),
        }
    }

    /// Time has come to this (Unix nanoseconds).
    pub(super) fn advance(&mut self, now: u64) {
        let Self::Sliding { last, spans } = self else {
            return;
        };
        let span = now / WIDTH;
        let passed = span.saturating_sub(*last);
        if passed == 0 {
            return;
        }
        *last = span;
        for _ in 0..passed.min(SPANS as u64) {
            spans.push_back(Span::default());
        }
        while spans.len() > SPANS {
            spans.pop_front();
        }
    }

    /// The span of a time; `None`: it is gone.
    pub(super) fn at(&mut self, time: u64) -> Option<&mut Span> {
        self.advance(time);
        match self {
            Self::Sliding { last, spans } => {
                let back = usize::try_from(*last - time / WIDTH).ok()?;
                let index = spans.len().checked_sub(back + 1)?;
                spans.get_mut(index)
            }
            Self::Whole(timeline) => Some(timeline.at(time)),
        }
    }

    /// The spans, the oldest first.
    pub(super) fn iter(&self) -> Box<dyn Iterator<Item = &Span> + '_> {
        match self {
            Self::Sliding { spans, .. } => Box::new(spans.iter()),
            Self::Whole(timeline) => Box::new(timeline.iter().map(|(_, span)| span)),
        }
    }

    /// The width of a span in nanoseconds.
    pub(super) fn width(&self) -> u64 {
        match self {
            Self::Sliding { .. } => WIDTH,
            Self::Whole(timeline) => timeline.width(),
        }
    }

    /// Attempts and failed ones.
    pub(super) fn counts(&self) -> (u64, u64) {
        self.iter().fold((0, 0), |(attempts, failed), span| {
            (attempts + span.attempts, failed + span.failed)
        })
    }

    /// All as one.
    pub(super) fn total(&self) -> Span {
        let mut total = Span::default();
        self.iter().for_each(|span| total.merge(span.clone()));
        total
    }
}
