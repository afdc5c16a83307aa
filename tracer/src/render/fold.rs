//! Folding of bursts: the first verdict of its kind in full, the same again counted.
//!
//! What is shown, and when, depends on the verdicts' own times alone: a replay folds as the live
//! run did. Ticks only let a count be shown earlier, with the same words.

use crate::{
    event::Time,
    verdict::{Confidence, Verdict},
};

/// A burst ends when its kind was not seen for this long (nanoseconds).
const QUIET: u64 = 5_000_000_000;
/// A long burst is reported this often (nanoseconds).
const PROGRESS: u64 = 10_000_000_000;
/// Bursts followed at once; the one that was quiet longest is dropped.
const BURSTS: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Kind {
    cause: &'static str,
    confidence: Confidence,
    upstream: Option<String>,
    status: Option<u16>,
    masked: bool,
}

#[derive(Debug)]
struct Burst {
    kind: Kind,
    hidden: u64,
    last: Time,
    reported: Time,
}

/// So many more were like one already shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fold {
    /// How many.
    pub count: u64,
    /// The last one's time.
    pub until: Time,
    /// Their cause.
    pub cause: &'static str,
    /// Their upstream.
    pub upstream: Option<String>,
    /// The one they are like is the last that was shown.
    pub follows: bool,
}

/// What was shown recently.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    bursts: Vec<Burst>,
    /// The kind shown last.
    shown: Option<Kind>,
}

impl Folder {
    /// Returns what to show for the next verdict: first the folds, then, if `true`, the verdict
    /// itself.
    pub(crate) fn take(&mut self, verdict: &Verdict) -> (Vec<Fold>, bool) {
        let now = verdict.time;
        let mut folds = self.tick(now);
        let kind = Kind {
            cause: verdict.cause,
            confidence: verdict.confidence,
            upstream: verdict.upstream.clone(),
            status: verdict.status,
            masked: verdict.masked,
        };
        if let Some(index) = self.bursts.iter().position(|burst| burst.kind == kind) {
            let burst = &mut self.bursts[index];
            burst.hidden += 1;
            burst.last = burst.last.max(now);
            if now.since(burst.reported) >= PROGRESS {
                burst.reported = now;
                folds.extend(Self::tell(&mut self.bursts[index], &mut self.shown));
            }
            return (folds, false);
        }
        // A new kind is shown in full below; what was counted so far is said above it.
        folds.extend(self.flush(|_| true));
        if self.bursts.len() == BURSTS {
            let oldest = self
                .bursts
                .iter()
                .enumerate()
                .min_by_key(|(_, burst)| burst.last);
            if let Some((index, _)) = oldest {
                self.bursts.swap_remove(index);
            }
        }
        self.shown = Some(kind.clone());
        self.bursts.push(Burst {
            kind,
            hidden: 0,
            last: now,
            reported: now,
        });
        (folds, true)
    }

    /// Time has passed: what of bursts that are over is left to say.
    pub(crate) fn tick(&mut self, now: Time) -> Vec<Fold> {
        let folds = self.flush(|burst| now.since(burst.last) > QUIET);
        self.bursts.retain(|burst| now.since(burst.last) <= QUIET);
        folds
    }

    /// Returns what is left at the end of a run.
    pub(crate) fn finish(&mut self) -> Vec<Fold> {
        let folds = self.flush(|_| true);
        self.bursts.clear();
        folds
    }

    fn flush(&mut self, which: impl Fn(&Burst) -> bool) -> Vec<Fold> {
        let shown = &mut self.shown;
        self.bursts
            .iter_mut()
            .filter(|burst| which(burst))
            .filter_map(|burst| Self::tell(burst, shown))
            .collect()
    }

    fn tell(burst: &mut Burst, shown: &mut Option<Kind>) -> Option<Fold> {
        let count = std::mem::take(&mut burst.hidden);
        if count == 0 {
            return None;
        }
        let follows = shown.as_ref() == Some(&burst.kind);
        *shown = Some(burst.kind.clone());
        Some(Fold {
            count,
            until: burst.last,
            cause: burst.kind.cause,
            upstream: burst.kind.upstream.clone(),
            follows,
        })
    }
}
