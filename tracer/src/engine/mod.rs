//! From events to verdicts: the correlator and the catalogue, the same for a live run and for
//! captures.

mod replay;

pub(crate) use self::replay::{Played, Replay, Run};
use crate::{
    causes,
    correlate::{Case, Correlator, Unreported},
    event::{Event, Question, Time},
    verdict::Verdict,
};

/// The correlator, with each of its cases judged.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    correlator: Correlator,
}

/// What an event led to.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// What the host should be asked now.
    pub questions: Vec<Question>,
    /// Verdicts on the requests that are closed.
    pub verdicts: Judged,
}

/// Closed cases, judged one by one: many verdicts at a time would take as much memory again.
#[derive(Debug, Default)]
pub(crate) struct Judged(std::vec::IntoIter<Case>);

impl Iterator for Judged {
    type Item = Verdict;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.find_map(|case| causes::judge(&case))
    }
}

impl Engine {
    /// Starts in the middle of a stream: what came before this time is not known.
    pub(crate) fn begin(&mut self, at: Time) {
        self.correlator.begin(at);
    }

    /// Takes the next event.
    #[must_use]
    pub(crate) fn feed(&mut self, event: Event) -> Step {
        let outcome = self.correlator.feed(event);
        Step {
            questions: outcome.questions,
            verdicts: Judged(outcome.cases.into_iter()),
        }
    }

    /// Ends the stream: returns verdicts on what is still open, in batches. `None`: there are no
    /// more.
    pub(crate) fn finish(&mut self, at: Time) -> Option<Judged> {
        let cases = self.correlator.finish(at);
        (!cases.is_empty()).then(|| Judged(cases.into_iter()))
    }

    /// Is a case waiting for an answer of the host?
    #[must_use]
    pub(crate) fn is_waiting(&self) -> bool {
        self.correlator.is_waiting()
    }

    /// Returns how many failed requests have no verdict so far.
    #[must_use]
    pub(crate) fn unreported(&self) -> Unreported {
        self.correlator.unreported()
    }
}
