//! `--metrics`: what a running tracer counts, for Prometheus and what reads the same formats.
//!
//! The event loop counts, and publishes a copy once a second; the thread `metrics` serves the last
//! copy. A scrape takes no lock for longer than a pointer is swapped, so neither waits for the
//! other. Without a thread that serves, the run goes on: nothing here ends a run once it started.

mod accept_queues;
mod address;
mod counts;
mod durations;
mod encode;
mod exposition;
mod http;
mod labels;
mod page;
mod server;
mod snapshot;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    address::{Address, Door, parse},
    snapshot::Run,
};

use std::{io, sync::Arc};

use self::{
    address::SocketFile,
    counts::Counts,
    snapshot::{Shared, Snapshot},
};
use crate::{
    event::{Clock, Event, Process, ProcessKind, Time},
    verdict::Verdict,
};

/// How often a copy is published (nanoseconds): the age of what a scrape reads, at most.
const PUBLISH: u64 = 1_000_000_000;

/// What a run counts, and who serves it.
#[derive(Debug)]
pub(crate) struct Metrics {
    counts: Counts,
    /// Unix seconds.
    started: f64,
    shared: Arc<Shared>,
    published: Time,
    /// Removes the socket's file at the end.
    _file: Option<SocketFile>,
}

impl Metrics {
    /// Begins to serve. At most `upstreams` have a label of their own.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(crate) fn start(
        door: Door,
        upstreams: usize,
        clock: Clock,
        now: Time,
        run: Run,
    ) -> io::Result<Self> {
        let counts = Counts::new(upstreams);
        let started = clock.unix_nanos(now) as f64 / 1e9;
        let shared = Arc::new(Shared::new(Snapshot::of(&counts, started, now, run)));
        let file = server::start(door, Arc::clone(&shared))?;
        accept_queues::start(&shared)?;
        Ok(Self {
            counts,
            started,
            shared,
            published: now,
            _file: file,
        })
    }

    /// Counts what an event reports.
    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::Connection(connection) => self.counts.connection(connection),
            Event::Failure(failure) => self.counts.failure(failure),
            Event::Lost(lost) => self.counts.lost(lost),
            Event::Process(Process {
                pid,
                kind: ProcessKind::Exited { .. },
                ..
            }) => self.counts.ended(*pid),
            _ => {}
        }
    }

    /// Counts a verdict, whatever the filters show.
    pub(crate) fn verdict(&mut self, verdict: &Verdict) {
        self.counts.verdict(verdict);
    }

    /// Publishes what was counted, once a second.
    pub(crate) fn publish(&mut self, now: Time, run: impl FnOnce() -> Run) {
        if now.since(self.published) >= PUBLISH {
            self.published = now;
            let snapshot = Snapshot::of(&self.counts, self.started, now, run());
            self.shared.publish(snapshot);
        }
    }
}
