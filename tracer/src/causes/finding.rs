//! What a matcher found: how sure, the sentence, the host's state, and what to do.

use super::{hook::Hook, scene::Scene, wording};
use crate::{
    event::Skipped,
    plural,
    verdict::{Confidence, Evidence},
};

/// A cause that fits an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) confidence: Confidence,
    pub(super) summary: String,
    /// In addition to the story: facts of the host, facts that are not visible.
    pub(super) evidence: Vec<Evidence>,
    pub(super) advice: Vec<String>,
}

impl Finding {
    /// The kernel showed it.
    pub(super) fn proven(summary: impl Into<String>) -> Self {
        Self {
            confidence: Confidence::Proven,
            summary: summary.into(),
            evidence: Vec::new(),
            advice: Vec::new(),
        }
    }

    /// The only cause that fits; `out_of_sight` names the fact that would prove it.
    pub(super) fn inferred(summary: impl Into<String>, out_of_sight: impl Into<String>) -> Self {
        Self::proven(summary).unless(false, out_of_sight)
    }

    /// Stays as sure as it is if `shown`; else at most inferred, naming the fact that is not
    /// visible.
    pub(super) fn unless(mut self, shown: bool, out_of_sight: impl Into<String>) -> Self {
        if !shown {
            self.confidence = self.confidence.min(Confidence::Inferred);
            self = self.fact("unseen", out_of_sight);
        }
        self
    }

    /// Rests on these hooks having seen nothing: an absent one, or lost records, lower it.
    pub(super) fn rests_on_silence_of(self, scene: &Scene<'_>, hooks: &[Hook]) -> Self {
        self.rests_on(scene, hooks).rests_on_complete_records(scene)
    }

    /// Rests on what these hooks count.
    pub(super) fn rests_on(mut self, scene: &Scene<'_>, hooks: &[Hook]) -> Self {
        for &hook in hooks {
            self = self.unless(
                scene.stands(hook),
                format!("hook {hook} is not attached; its evidence is unavailable"),
            );
        }
        self
    }

    /// Rests on no record being missing.
    pub(super) fn rests_on_complete_records(mut self, scene: &Scene<'_>) -> Self {
        let lost = scene.case.lost_events;
        if lost > 0 {
            self.confidence = self.confidence.min(Confidence::Inferred);
            let records = wording::count(lost, "kernel record");
            let was = plural::was(lost);
            self = self.fact(
                "lost",
                format!("{records} {was} lost in this run; one may belong here"),
            );
        }
        for Skipped { hook, runs, .. } in &scene.case.skipped {
            self.confidence = self.confidence.min(Confidence::Inferred);
            let times = wording::count(*runs, "run");
            self = self.fact(
                "skipped",
                format!("the kernel skipped {times} of the hook {hook} meanwhile; what it would have reported may belong here"),
            );
        }
        self
    }

    /// Adds a state of the host.
    pub(super) fn fact(mut self, event: &'static str, text: impl Into<String>) -> Self {
        self.evidence.push(Evidence {
            time: None,
            event,
            text: text.into(),
        });
        self
    }

    /// Adds a line of advice, the most useful first.
    pub(super) fn advise(mut self, line: impl Into<String>) -> Self {
        self.advice.push(line.into());
        self
    }

    /// Adds a line if there is one to add.
    pub(super) fn advise_if(self, line: Option<String>) -> Self {
        match line {
            Some(line) => self.advise(line),
            None => self,
        }
    }
}
