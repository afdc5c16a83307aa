//! From the stream to what charts and the report show: counts and durations by time, upstream and
//! cause. Pure, one pass, bounded memory whatever comes: time is folded into wider spans, rare
//! upstreams into "others", and both are said.
//!
//! Times are Unix nanoseconds here: captures of several hosts and boots meet.

mod causes;
mod histogram;
mod queues;
mod reuse;
mod timeline;
mod timings;
mod upstreams;

pub(crate) use self::{
    causes::CauseCounts,
    histogram::Histogram,
    queues::{Depth, Queues, depth_of},
    reuse::{Race, Reuse},
    timeline::Timeline,
    timings::Timings,
    upstreams::{Outcome, Outcomes, UpstreamSeries, Upstreams},
};

use crate::{
    event::{Clock, Connection, Event, Time},
    verdict::Verdict,
};

/// Spans of what is charted once.
pub(crate) const FINE: usize = 240;
/// Spans of what is charted for each upstream.
pub(crate) const COARSE: usize = 60;

/// Two of a kind made one.
pub trait Merge {
    /// Adds `other` to it.
    fn merge(&mut self, other: Self);
}

impl Merge for u64 {
    fn merge(&mut self, other: Self) {
        *self += other;
    }
}

/// All series of a stream.
#[derive(Debug, Default)]
pub struct Series {
    /// The first and the last time seen, Unix nanoseconds.
    pub span: Option<(u64, u64)>,
    /// Verdicts by cause.
    pub failures: Timeline<CauseCounts, FINE>,
    /// From `connect()` to the end of the handshake.
    pub connect: Timeline<Histogram, FINE>,
    /// From `connect()`, or from the reuse of a kept-alive connection, to the first byte of the
    /// response.
    pub first_byte: Timeline<Histogram, FINE>,
    /// Kept-alive connections that were used again.
    pub reuse: Reuse,
    /// By upstream.
    pub upstreams: Upstreams,
    /// Accept queues.
    pub queues: Queues,
    /// Kernel records lost.
    pub lost: u64,
}

impl Series {
    /// Counts what an event reports.
    pub fn event(&mut self, event: &Event, clock: &Clock) {
        match event {
            Event::Connection(connection) => self.connection(connection, clock),
            Event::Failure(failure) => {
                self.seen(clock.unix_nanos(failure.at));
                if let Some(upstream) = &failure.upstream {
                    let outcomes = &mut self.upstreams.of(upstream).outcomes;
                    outcomes.add(Outcome::NotConnected);
                }
            }
            Event::Fact(fact) => self.queues.fact(fact, clock),
            Event::Lost(lost) => {
                self.seen(clock.unix_nanos(lost.at));
                self.lost = self.lost.saturating_add(lost.events);
            }
            Event::Tick(at) => self.seen(clock.unix_nanos(*at)),
            _ => {}
        }
    }

    /// Counts a verdict.
    pub fn verdict(&mut self, verdict: &Verdict, clock: &Clock) {
        let at = clock.unix_nanos(verdict.time);
        self.seen(at);
        self.failures.at(at).add(verdict.cause, verdict.masked);
        self.reuse.verdict(verdict, clock);
    }

    fn connection(&mut self, c: &Connection, clock: &Clock) {
        let unix = |time: Time| clock.unix_nanos(time);
        let closed = unix(c.closed);
        self.seen(closed);
        // Opened before tracing began, and not used since: nothing is known of it.
        if c.request.is_none() {
            return;
        }
        self.reuse.connection(c, clock);
        // What is open yet comes again at its end.
        if c.open {
            return;
        }
        if c.start.0 != 0 {
            self.seen(unix(c.start));
        }
        let upstream = self.upstreams.of(&c.remote);
        upstream.outcomes.add(Outcome::of(c));
        upstream.outcomes.reused += u64::from(c.reuses);
        let timings = Timings::of(c);
        if let Some((start, took)) = timings.connect {
            upstream.connect.at(unix(start)).add(took);
            self.connect.at(unix(start)).add(took);
        }
        if let Some((first, took)) = timings.first_byte {
            upstream.first_byte.at(unix(first)).add(took);
            self.first_byte.at(unix(first)).add(took);
        }
    }

    /// Something was recorded at that time, Unix nanoseconds: also that nothing happened.
    pub fn seen(&mut self, at: u64) {
        self.span = Some(match self.span {
            Some((first, last)) => (first.min(at), last.max(at)),
            None => (at, at),
        });
    }
}
