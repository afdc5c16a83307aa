//! What a verdict is: the contract of `--format json`, one object a failed request.

use crate::event::{Clock, Heap, Time};

/// How sure a verdict is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// The evidence does not decide.
    Unknown,
    /// The only cause that fits what was seen; a fact is not visible, and is named.
    Inferred,
    /// The kernel showed it.
    Proven,
}

/// The request as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// The client's address.
    pub client: Option<String>,
    /// The `Host` it asked for.
    pub host: Option<String>,
    /// The request line.
    pub line: Option<String>,
    /// The `server_name` of its server block.
    pub server_name: Option<String>,
    /// `$request_id` where nginx has computed it, else the client's `X-Request-ID`.
    pub request_id: Option<String>,
    /// The client's `traceparent`.
    pub traceparent: Option<String>,
}

/// One try of nginx's to reach an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptVerdict {
    /// `IP:port`, `[v6]:port` or `unix:/path`.
    pub upstream: Option<String>,
    /// A catalogue id; `null` for an attempt that succeeded.
    pub cause: Option<&'static str>,
    /// The errno's name nginx got, if any.
    pub errno: Option<String>,
    /// On a kept-alive connection.
    pub reused: bool,
    /// When it began.
    pub start: Time,
    /// When it ended.
    pub end: Time,
}

/// Something seen, at its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// When; `None` for a state of the host rather than an event ("nearby").
    pub time: Option<Time>,
    /// A stable id: `connect`, `rst-sent`, `rst-received`, `error`, `drop`, `icmp`, `route`,
    /// `retransmit`, `nearby`, `listener`, `path`, `answer`, `lost`, ….
    pub event: &'static str,
    /// The sentence.
    pub text: String,
}

/// One failed request, explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// When nginx made the error answer (or the masked failure ended).
    pub time: Time,
    /// What the client got.
    pub status: Option<u16>,
    /// The client got a whole answer and no server error: a retry, an error page, a fallback or a
    /// stale cache answered.
    pub masked: bool,
    /// Catalogue id.
    pub cause: &'static str,
    /// How sure.
    pub confidence: Confidence,
    /// The worker's pid on the host.
    pub worker: u32,
    /// The container or unit nginx runs in, where its cgroup names one.
    pub unit: Option<String>,
    /// nginx's connection number.
    pub connection: Option<u64>,
    /// Where known.
    pub request: Option<Request>,
    /// The upstream that the cause is about; `None` where nginx never tried one.
    pub upstream: Option<String>,
    /// The name of the upstream block that it was passed to; `None` where that has none, or it is
    /// not known.
    pub upstream_name: Option<String>,
    /// The errno's name, if one was involved.
    pub errno: Option<String>,
    /// All tries, in order.
    pub attempts: Vec<AttemptVerdict>,
    /// One sentence.
    pub summary: String,
    /// How we know, in order of time.
    pub evidence: Vec<Evidence>,
    /// What to do, most useful first.
    pub advice: Vec<String>,
    /// Kernel records lost so far in this run.
    pub lost_events: u64,
}

impl Verdict {
    /// The same with times of another host's clock: for verdicts of several hosts in one list.
    #[must_use]
    pub fn on_clock(mut self, own: Clock, other: Clock) -> Self {
        let times = std::iter::once(&mut self.time)
            .chain(
                self.attempts
                    .iter_mut()
                    .flat_map(|attempt| [&mut attempt.start, &mut attempt.end]),
            )
            .chain(self.evidence.iter_mut().flat_map(|one| &mut one.time));
        for time in times {
            *time = own.translate(*time, other);
        }
        self
    }
}

impl Heap for Verdict {
    fn heap(&self) -> usize {
        self.unit.heap()
            + self.request.heap()
            + self.upstream.heap()
            + self.upstream_name.heap()
            + self.errno.heap()
            + self.attempts.heap()
            + self.summary.heap()
            + self.evidence.heap()
            + self.advice.heap()
    }
}

impl Heap for Request {
    fn heap(&self) -> usize {
        self.client.heap()
            + self.host.heap()
            + self.line.heap()
            + self.server_name.heap()
            + self.request_id.heap()
            + self.traceparent.heap()
    }
}

impl Heap for AttemptVerdict {
    fn heap(&self) -> usize {
        self.upstream.heap() + self.errno.heap()
    }
}

impl Heap for Evidence {
    fn heap(&self) -> usize {
        self.text.heap()
    }
}
