//! Accept queues, sampled while somebody reads the metrics: of the upstreams that have a label of
//! their own and are on this host.

use std::{
    io,
    sync::{Arc, Weak},
};

use super::snapshot::Shared;
use crate::{
    event::Upstream,
    source::{clock, watch_queues},
};

/// After so long without a reader nothing is sampled (nanoseconds).
const UNREAD: u64 = 300 * 1_000_000_000;

/// Starts the thread that samples; it ends with the run.
///
/// # Errors
/// It cannot be started.
pub(super) fn start(shared: &Arc<Shared>) -> io::Result<()> {
    let (asks, answers) = (Arc::downgrade(shared), Arc::downgrade(shared));
    watch_queues(
        move || wanted(&asks),
        move |depths| {
            if let Some(shared) = answers.upgrade() {
                shared.found(depths);
            }
        },
    )
}

/// The upstreams to look at, each with a worker that uses it; `None`: the run ended.
fn wanted(shared: &Weak<Shared>) -> Option<Vec<(Upstream, u32)>> {
    let shared = shared.upgrade()?;
    let is_read = |at| clock::now().since(at) < UNREAD;
    if !shared.read_at().is_some_and(is_read) {
        return Some(Vec::new());
    }
    let snapshot = shared.snapshot();
    let used = snapshot.upstreams.values();
    let mut wanted: Vec<_> = used.filter_map(|one| one.used_by.clone()).collect();
    // What is of one namespace is asked about together.
    wanted.sort_unstable_by_key(|(_, worker)| *worker);
    Some(wanted)
}
