//! The thread `queues`: how full the accept queues of upstreams on this host are, every few
//! seconds. It is not the observer: a verdict never waits for it.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::{Duration, Instant},
};

use super::{
    clock,
    host::{AcceptQueues, Depth},
    privileges,
};
use crate::event::Upstream;

/// How often.
const EVERY: Duration = Duration::from_secs(2);
/// The part of the time that it works, at most: very many upstreams are looked at less often.
const SHARE: u32 = 50;

/// Starts it. It looks at what `wanted` returns, each with a worker that uses it, and hands the
/// depths to `found`; it ends when `wanted` returns `None`.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn watch_queues(
    wanted: impl Fn() -> Option<Vec<(Upstream, u32)>> + Send + 'static,
    found: impl Fn(Vec<Depth>) + Send + 'static,
) -> io::Result<()> {
    thread::Builder::new()
        .name("queues".to_owned())
        .spawn(move || {
            privileges::observer();
            let mut queues = AcceptQueues::default();
            while let Some(wanted) = wanted() {
                let began = Instant::now();
                // A panic, which was reported, costs this round.
                let depths = catch_unwind(AssertUnwindSafe(|| queues.look(&wanted, clock::now())));
                found(depths.unwrap_or_default());
                thread::sleep(EVERY.max(began.elapsed() * SHARE));
            }
        })
        .map(drop)
}
