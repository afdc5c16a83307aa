//! `--otlp`: verdicts and notices as log records, failed requests as spans, for an OpenTelemetry
//! collector (OTLP/HTTP with JSON, no TLS).
//!
//! The event loop adds to a bounded queue; the thread `otlp` makes batches of it and sends them.
//! Whatever becomes of the collector, nothing waits for it: what finds the queue full is counted
//! and dropped. Each record is sent at least once, with ids that a retry does not change.

mod attempt;
mod attributes;
mod batch;
mod endpoint;
mod post;
mod queue;
mod record;
mod sender;
mod trace;

pub(crate) use self::{
    endpoint::{Endpoint, parse},
    queue::Unsent,
};

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use self::queue::{Item, Queue};
use crate::{event::Clock, render::json::Said, verdict::Verdict};

/// Bytes that a full queue and a batch of it may take.
pub(crate) const MEMORY: u64 = 16 << 20;

/// At the end of a run: for all that waits.
const LAST: Duration = Duration::from_secs(2);

/// Where a run's verdicts are sent.
#[derive(Debug)]
pub(crate) struct Otlp {
    queue: Arc<Queue>,
}

impl Otlp {
    /// Begins to send what is of this host.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(crate) fn start(endpoint: Endpoint, host: &str, clock: Clock) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        sender::start(endpoint, host, clock, Arc::clone(&queue))?;
        Ok(Self { queue })
    }

    /// Adds a verdict.
    pub(crate) fn verdict(&self, verdict: &Verdict) {
        self.queue.add(Item::Verdict(Box::new(verdict.clone())));
    }

    /// Adds a notice.
    pub(crate) fn notice(&self, said: Said) {
        self.queue.add(Item::Notice(said));
    }

    /// Sends what waits, for two seconds at most; returns what was not sent in the whole run.
    pub(crate) fn finish(self) -> Unsent {
        self.queue.close(Instant::now() + LAST)
    }
}
