//! From events to verdicts: the correlator and the catalogue, the same for a live run and for
//! captures.

mod replay;

pub use self::replay::{Played, Replay, Run};
use crate::{
    causes,
    correlate::{Case, Correlator, Untold},
    event::{Event, Question, Time},
    verdict::Verdict,
};

/// The correlator, with each of its cases judged.
#[derive(Debug, Default)]
pub struct Engine {
    correlator: Correlator,
}

/// What an event led to.
#[derive(Debug, Default)]
pub struct Step {
    /// What the host should be asked now.
    pub questions: Vec<Question>,
    /// Requests that are closed, each with its verdict.
    pub verdicts: Vec<(Case, Verdict)>,
}

impl Engine {
    /// Starts in the middle of a stream: what came before this time is not known.
    pub fn begin(&mut self, at: Time) {
        self.correlator.begin(at);
    }

    /// Takes the next event.
    #[must_use]
    pub fn feed(&mut self, event: Event) -> Step {
        let outcome = self.correlator.feed(event);
        Step {
            questions: outcome.questions,
            verdicts: judged(outcome.cases),
        }
    }

    /// Ends the stream: returns verdicts on what is still open, in batches. `None`: there are no
    /// more.
    pub fn finish(&mut self, at: Time) -> Option<Vec<(Case, Verdict)>> {
        let cases = self.correlator.finish(at);
        (!cases.is_empty()).then(|| judged(cases))
    }

    /// Is a case waiting for an answer of the host?
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.correlator.is_waiting()
    }

    /// Returns how many failed requests have no verdict so far.
    #[must_use]
    pub fn untold(&self) -> Untold {
        self.correlator.untold()
    }
}

fn judged(cases: Vec<Case>) -> Vec<(Case, Verdict)> {
    let judged = |case| causes::judge(&case).map(|verdict| (case, verdict));
    cases.into_iter().filter_map(judged).collect()
}
