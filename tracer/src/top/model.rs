//! Events and verdicts in, counts out.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
};

use super::spans::Spans;
use crate::{
    event::{Clock, Connection, Event, Heap as _, Question, Upstream},
    series::{self, Depth},
    verdict::Verdict,
};

/// Upstreams that are counted apart; of more, the one that was quiet longest is forgotten.
const UPSTREAMS: usize = 512;
/// Listeners whose queues are kept.
const LISTENERS: usize = 128;
/// Verdicts that are kept, and their bytes.
const VERDICTS: usize = 200;
const VERDICT_BYTES: usize = 8 << 20;
/// Notices that are kept.
const NOTICES: usize = 10;
/// Listeners that are asked about at a time.
const ASKED: usize = 16;
/// A listener is asked about while its upstream is in use (nanoseconds).
const IN_USE: u64 = 10_000_000_000;

/// A verdict, where and when it was.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    /// Of all verdicts, this one's number.
    pub(crate) number: u64,
    /// The verdict.
    pub(crate) verdict: Arc<Verdict>,
    /// The host that it happened on.
    pub(crate) host: Arc<str>,
    /// That host's clock.
    pub(crate) clock: Clock,
}

#[derive(Debug)]
pub(super) struct UpstreamCounts {
    pub(super) spans: Spans,
    /// The last event (Unix nanoseconds).
    last: u64,
    /// A worker that used it, and its address: the accept queue of who listens there.
    asked_of: Option<(u32, SocketAddr)>,
}

#[derive(Debug)]
pub(super) struct Queue {
    /// As it was last seen, and at its fullest.
    pub(super) now: Depth,
    pub(super) fullest: Depth,
    /// When it was last seen (Unix nanoseconds).
    pub(super) at: u64,
}

/// All counts.
#[derive(Debug)]
pub(crate) struct Model {
    pub(super) is_live: bool,
    pub(super) upstreams: HashMap<String, UpstreamCounts>,
    /// Failed requests, by cause.
    pub(super) requests: Spans,
    /// … that the client did not notice, since the start.
    pub(super) masked: u64,
    /// Failed requests since the start.
    pub(super) failed: u64,
    pub(super) queues: HashMap<String, Queue>,
    /// The newest last.
    pub(super) verdicts: VecDeque<Kept>,
    bytes: usize,
    pub(super) lost: u64,
    /// What was reported that is no failed request, the newest last.
    pub(super) notices: VecDeque<String>,
    /// The first and the last time seen (Unix nanoseconds).
    pub(super) seen: Option<(u64, u64)>,
}

impl Model {
    /// Of a live run, or of captures.
    pub(crate) fn new(is_live: bool) -> Self {
        Self {
            is_live,
            upstreams: HashMap::new(),
            requests: Spans::new(is_live),
            masked: 0,
            failed: 0,
            queues: HashMap::new(),
            verdicts: VecDeque::new(),
            bytes: 0,
            lost: 0,
            notices: VecDeque::new(),
            seen: None,
        }
    }

    /// Time has come to this (Unix nanoseconds), or something was recorded then.
    pub(crate) fn seen(&mut self, at: u64) {
        self.seen = Some(match self.seen {
            Some((first, last)) => (first.min(at), last.max(at)),
            None => (at, at),
        });
    }

    /// Keeps a notice.
    pub(crate) fn notice(&mut self, words: String) {
        if self.notices.len() == NOTICES {
            self.notices.pop_front();
        }
        self.notices.push_back(words);
    }

    /// Counts what an event reports.
    pub(crate) fn event(&mut self, event: &Event, clock: &Clock) {
        self.seen(clock.unix_nanos(event.at()));
        match event {
            Event::Connection(connection) => self.connection(connection, clock),
            Event::Failure(failure) => {
                if let Some(upstream) = &failure.upstream {
                    let at = clock.unix_nanos(failure.at);
                    let counts = self.upstream(&upstream.to_string(), at);
                    counts.asked_of = asked_of(failure.worker, upstream);
                    if let Some(span) = counts.spans.at(at) {
                        span.attempts += 1;
                    }
                }
            }
            Event::Fact(fact) => {
                if let Some((name, depth)) = series::depth_of(fact) {
                    self.queue(name, depth, clock.unix_nanos(fact.at));
                }
            }
            Event::Lost(lost) => self.lost = self.lost.saturating_add(lost.events),
            _ => {}
        }
    }

    /// An attempt of an open connection comes again at its end.
    fn connection(&mut self, c: &Connection, clock: &Clock) {
        if c.request.is_none() || c.open {
            return;
        }
        let closed = clock.unix_nanos(c.closed);
        let counts = self.upstream(&c.remote.to_string(), closed);
        counts.asked_of = asked_of(c.worker, &c.remote);
        let began = Some(c.start).filter(|start| start.0 != 0);
        let took = c
            .reused_at
            .or(began)
            .zip(c.first_byte)
            .map(|(from, first)| (clock.unix_nanos(first), first.since(from)));
        if let Some(span) = counts.spans.at(closed) {
            span.attempts += 1 + u64::from(c.reuses);
        }
        if let Some((at, took)) = took
            && let Some(span) = counts.spans.at(at)
        {
            span.first_byte.add(took);
        }
    }

    /// Counts a verdict, and keeps it.
    pub(crate) fn verdict(&mut self, verdict: &Verdict, host: &Arc<str>, clock: &Clock) {
        let at = clock.unix_nanos(verdict.time);
        self.seen(at);
        self.failed += 1;
        self.masked += u64::from(verdict.masked);
        if let Some(span) = self.requests.at(at) {
            span.failed += 1;
            span.causes.add(verdict.cause, verdict.masked);
        }
        for attempt in &verdict.attempts {
            let (Some(upstream), Some(cause)) = (&attempt.upstream, attempt.cause) else {
                continue;
            };
            let end = clock.unix_nanos(attempt.end);
            if let Some(span) = self.upstream(upstream, end).spans.at(end) {
                span.failed += 1;
                span.causes.add(cause, verdict.masked);
            }
        }
        self.bytes += bytes(verdict);
        self.verdicts.push_back(Kept {
            number: self.failed,
            verdict: Arc::new(verdict.clone()),
            host: Arc::clone(host),
            clock: *clock,
        });
        while self.verdicts.len() > VERDICTS || self.bytes > VERDICT_BYTES {
            let Some(oldest) = self.verdicts.pop_front() else {
                break;
            };
            self.bytes -= bytes(&oldest.verdict);
        }
    }

    fn upstream(&mut self, name: &str, at: u64) -> &mut UpstreamCounts {
        if self.upstreams.len() == UPSTREAMS && !self.upstreams.contains_key(name) {
            let quiet = self.upstreams.iter().min_by_key(|(_, counts)| counts.last);
            if let Some(quiet) = quiet.map(|(name, _)| name.clone()) {
                self.upstreams.remove(&quiet);
            }
        }
        let is_live = self.is_live;
        let entry = self.upstreams.entry(name.to_owned());
        let counts = entry.or_insert_with(|| UpstreamCounts {
            spans: Spans::new(is_live),
            last: at,
            asked_of: None,
        });
        counts.last = counts.last.max(at);
        counts
    }

    fn queue(&mut self, name: String, depth: Depth, at: u64) {
        if self.queues.len() == LISTENERS && !self.queues.contains_key(&name) {
            let oldest = self.queues.iter().min_by_key(|(_, queue)| queue.at);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.queues.remove(&oldest);
            }
        }
        let queue = self.queues.entry(name).or_insert(Queue {
            now: depth,
            fullest: depth,
            at,
        });
        if at >= queue.at {
            (queue.now, queue.at) = (depth, at);
        }
        if depth.fullness() > queue.fullest.fullness() {
            queue.fullest = depth;
        }
    }

    /// What to ask the host to learn how full accept queues are: of the upstreams in use, the
    /// busiest first.
    pub(crate) fn questions(&self, now: u64) -> Vec<Question> {
        let in_use = self.upstreams.values().filter(|counts| {
            let age = now.saturating_sub(counts.last);
            age <= IN_USE
        });
        let mut in_use: Vec<_> = in_use
            .filter_map(|counts| Some((counts.spans.counts().0, counts.asked_of?)))
            .collect();
        in_use.sort_by(|a, b| b.cmp(a));
        let asked = in_use.into_iter().take(ASKED);
        asked
            .map(|(_, (worker, address))| Question::Listener { worker, address })
            .collect()
    }
}

fn bytes(verdict: &Verdict) -> usize {
    size_of::<Verdict>() + verdict.heap()
}

fn asked_of(worker: u32, upstream: &Upstream) -> Option<(u32, SocketAddr)> {
    match upstream {
        Upstream::Inet(address) => Some((worker, *address)),
        Upstream::Unix(_) => None,
    }
}
