//! What a scrape reads: a copy of all counts, of one moment.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::counts::{Counts, Failed, Gaps, Traffic};
use crate::{correlate::Unreported, event::Time, source::Depth};

/// What the run itself knows at that moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    /// Each hook, and whether it is attached in some way.
    pub(crate) hooks: Vec<(&'static str, bool)>,
    /// nginx masters and workers that are followed.
    pub(crate) masters: usize,
    /// See `masters`.
    pub(crate) workers: usize,
    /// Failed requests that get no verdict.
    pub(crate) unreported: Unreported,
    /// The failures of some nginx, or of any to come, are not visible.
    pub(crate) is_blind: bool,
}

/// A copy.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) at: Time,
    /// Unix seconds.
    pub(super) started: f64,
    pub(super) failed: BTreeMap<Failed, u64>,
    pub(super) masked: BTreeMap<Failed, u64>,
    pub(super) upstreams: BTreeMap<Arc<str>, Traffic>,
    pub(super) gaps: Gaps,
    pub(super) folded: usize,
    pub(super) run: Run,
}

impl Snapshot {
    /// Of this moment.
    pub(super) fn of(counts: &Counts, started: f64, at: Time, run: Run) -> Self {
        Self {
            at,
            started,
            failed: counts.failed.clone(),
            masked: counts.masked.clone(),
            upstreams: counts.upstreams.clone(),
            gaps: counts.gaps,
            folded: counts.folded(),
            run,
        }
    }
}

/// Where the threads meet. Each lock is held while a pointer is copied.
#[derive(Debug)]
pub(super) struct Shared {
    snapshot: Mutex<Arc<Snapshot>>,
    queues: Mutex<Arc<Vec<Depth>>>,
    /// When it was last read (nanoseconds since boot); 0 never.
    read: AtomicU64,
}

impl Shared {
    /// With the first.
    pub(super) fn new(first: Snapshot) -> Self {
        Self {
            snapshot: Mutex::new(Arc::new(first)),
            queues: Mutex::default(),
            read: AtomicU64::new(0),
        }
    }

    /// Replaces the copy.
    pub(super) fn publish(&self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        let before = {
            let mut own = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *own, snapshot)
        };
        // Freed without the lock.
        drop(before);
    }

    /// The last copy.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        let own = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&own)
    }

    /// Replaces the accept queues.
    pub(super) fn found(&self, queues: Vec<Depth>) {
        *self.queues.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(queues);
    }

    /// The accept queues as last seen.
    pub(super) fn queues(&self) -> Arc<Vec<Depth>> {
        let own = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&own)
    }

    /// Somebody reads it now.
    pub(super) fn reads(&self, now: Time) {
        self.read.store(now.0, Ordering::Relaxed);
    }

    /// When somebody last did.
    pub(super) fn read_at(&self) -> Option<Time> {
        let read = self.read.load(Ordering::Relaxed);
        (read > 0).then_some(Time(read))
    }
}
