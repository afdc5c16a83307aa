//! A stage: nginx workers whose requests go as scripted, a host that answers the correlator's
//! questions after a while, and a clock that ticks as the live source does. What was played can be
//! replayed, event by event.

use std::{collections::VecDeque, net::SocketAddr};

use super::{kinds::Kind, playing::Playing, records};
use crate::{
    causes,
    correlate::{Case, Correlator},
    event::{
        Answer, ClientRequest, Event, Fact, FirstByte, LogCall, LogLine, Question, Reply,
        RequestId, Retransmit, Retry, Time, Upstream,
        fact::{DescriptorsView, Finding, PeerSocketView, Worker},
    },
    verdict::Verdict,
};

pub(super) const MS: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1000 * MS;
const TICK: u64 = 20 * MS;
/// What a worker's pid is in its own namespace, which its log shows.
const OWN_PID: u32 = 10_000;

/// A request in flight.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) worker: u32,
    pub(super) request: RequestId,
    pub(super) connection: u64,
    /// When that attempt began.
    pub(super) start: Time,
    pub(super) first_byte: Option<Time>,
    /// An attempt failed before: the kernel side reports the first byte.
    pub(super) is_retry: bool,
    /// What the log shows of it.
    pub(super) line: String,
    /// What its client gets is reported.
    pub(super) client: Option<ClientRequest>,
}

/// What a worker does next for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Begin,
    Retransmit(Kind),
    Log(Kind),
    Record(Kind),
    FirstByte,
    Answer(u16),
    /// What the client gets, if it is there still.
    Reply(Option<u16>),
}

/// All that an attempt is, in a worker's own order.
pub(super) fn attempt(kind: Kind) -> Vec<Act> {
    let mut acts = vec![Act::Begin];
    if kind.retransmits() {
        acts.push(Act::Retransmit(kind));
    }
    if kind.log().is_some() {
        acts.push(Act::Log(kind));
    }
    acts.push(Act::Record(kind));
    if kind == Kind::Busy {
        // nginx logs it after the call returned.
        acts.swap(1, 2);
    }
    acts
}

pub(super) struct Scene {
    correlator: Correlator,
    pub(super) now: Time,
    pub(super) stream: Vec<(Time, Event)>,
    cases: Vec<Case>,
    requests: u64,
    pub(super) asked: Vec<Question>,
    /// How long the host takes to answer.
    pub(super) delay: u64,
    /// How many wait in accept queues.
    pub(super) queue: u32,
    answers: VecDeque<(Time, Question)>,
    log: Vec<(u32, LogLine)>,
}

impl Scene {
    pub(super) fn new() -> Self {
        let mut scene = Self {
            correlator: Correlator::default(),
            now: Time(100 * SECOND),
            stream: Vec::new(),
            cases: Vec::new(),
            requests: 0,
            asked: Vec::new(),
            delay: MS,
            queue: 129,
            answers: VecDeque::new(),
            log: Vec::new(),
        };
        for pid in 1..=3 {
            let at = scene.now;
            scene.feed(Event::Worker(Worker {
                at,
                pid,
                own_pid: OWN_PID + pid,
                master: 100,
                uid: 33,
                gid: 33,
                netns: 1,
                unit: None,
                version: None,
                conf: None,
            }));
        }
        scene
    }

    pub(super) fn feed(&mut self, event: Event) {
        self.stream.push((self.now, event.clone()));
        let outcome = self.correlator.feed(event);
        for question in outcome.questions {
            self.asked.push(question.clone());
            self.answers
                .push_back((self.now.plus(self.delay), question));
        }
        self.cases.extend(outcome.cases);
    }

    /// Time passes: the host answers, and the clock ticks.
    pub(super) fn wait(&mut self, nanoseconds: u64) {
        let until = self.now.plus(nanoseconds);
        loop {
            let tick = Time((self.now.0 / TICK + 1) * TICK);
            match self.answers.front() {
                Some(&(due, _)) if due <= until && due <= tick => {
                    self.now = self.now.max(due);
                    self.answer();
                }
                _ if tick <= until => {
                    self.now = tick;
                    self.feed(Event::Tick(tick));
                }
                _ => break,
            }
        }
        self.now = until;
    }

    fn answer(&mut self) {
        let Some((_, question)) = self.answers.pop_front() else {
            return;
        };
        let finding = match &question {
            Question::Listener { address, .. } => records::listener(*address, self.queue),
            Question::UnixPath { .. } => records::missing(33),
            Question::PeerSocket { .. } => Finding::PeerSocket(PeerSocketView::default()),
            Question::Descriptors { .. } => Finding::Descriptors(DescriptorsView::default()),
            Question::Log { worker } => {
                let lines = self.log.extract_if(.., |(pid, _)| pid == worker);
                for (_, line) in lines.collect::<Vec<_>>() {
                    let at = self.now;
                    self.feed(Event::LogLine(LogLine { at, ..line }));
                }
                Finding::Log
            }
            other => panic!("no scene asks for {other:?}"),
        };
        self.feed(Event::Fact(Box::new(Fact {
            at: self.now,
            question,
            finding: Ok(finding),
        })));
    }

    /// From now on requests are numbered as from the beginning.
    pub(super) fn renumber(&mut self) {
        self.requests = 0;
    }

    /// The number of the next.
    pub(super) fn next_request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    /// A request turns to its upstream.
    pub(super) fn request(&mut self, worker: u32, connection: u64) -> Playing<'_> {
        let id = self.next_request();
        let request = Request {
            worker,
            request: id,
            connection,
            start: self.now,
            first_byte: None,
            is_retry: false,
            line: format!("GET /{connection}"),
            client: None,
        };
        Playing::new(self, request)
    }

    /// One act of a request, now.
    pub(super) fn play(&mut self, request: &mut Request, act: Act) {
        let (at, worker, id) = (self.now, request.worker, request.request);
        match act {
            Act::Begin => {
                request.start = at;
                request.first_byte = None;
                if request.is_retry {
                    self.feed(Event::Retry(Retry {
                        at,
                        worker,
                        request: id,
                    }));
                }
            }
            Act::Retransmit(kind) => {
                let Some(Upstream::Inet(remote)) = kind.upstream() else {
                    return;
                };
                self.feed(Event::Retransmit(Retransmit {
                    at,
                    worker,
                    socket: 1,
                    remote,
                    count: 1,
                }));
            }
            Act::Log(kind) => {
                let Some((format, errno)) = kind.log() else {
                    return;
                };
                let line = LogLine {
                    at,
                    pid: OWN_PID + worker,
                    connection: request.connection,
                    message: format.to_owned(),
                    request: Some(request.line.clone()),
                    ..LogLine::default()
                };
                self.log.push((worker, line));
                self.feed(Event::LogCall(LogCall {
                    at,
                    worker,
                    level: 4,
                    errno,
                    connection: request.connection,
                    request: Some(id),
                    stream: false,
                    format: format.into(),
                    unread: None,
                    text: None,
                    number: None,
                    resolved: None,
                }));
            }
            Act::Record(kind) if kind.is_at_once() => {
                self.feed(Event::Failure(kind.failure(request, at)));
                request.is_retry = true;
            }
            Act::Record(kind) => {
                let connection = kind.connection(request, at);
                self.feed(Event::Connection(Box::new(connection)));
                if kind != Kind::Served {
                    request.is_retry = true;
                }
            }
            Act::FirstByte => {
                request.first_byte = Some(at);
                if request.is_retry {
                    self.feed(Event::FirstByte(Box::new(FirstByte {
                        server_port: None,
                        local: None,
                        at,
                        worker,
                        socket: 2,
                        request: id,
                        remote: Kind::Served.upstream(),
                        status: Some(200),
                        connection: None,
                        client: None,
                        head: None,
                        names: None,
                        start: request.start,
                        client_request: request.client,
                    })));
                }
            }
            Act::Answer(status) => self.feed(Event::Answer(Answer {
                server_port: None,
                at,
                worker,
                status,
                request: Some(id),
                client: None,
                connection: Some(request.connection),
                head: None,
                names: None,
                client_status: None,
                watched: request.client,
                is_returned: false,
            })),
            Act::Reply(status) => self.feed(Event::Reply(Reply {
                at,
                worker,
                client_request: request.client.expect("a watched request"),
                request: Some(id),
                status,
                is_earlier: false,
            })),
        }
    }

    /// Ends the run; returns its cases, in order.
    pub(super) fn cases(mut self) -> Vec<Case> {
        self.wait(2 * SECOND);
        self.cases.extend(self.correlator.finish(self.now));
        self.cases
    }

    pub(super) fn verdicts(self) -> Vec<Verdict> {
        self.cases().iter().filter_map(causes::judge).collect()
    }

    /// What has come of it so far.
    pub(super) fn so_far(&self) -> &[Case] {
        &self.cases
    }

    pub(super) fn correlator(&self) -> &Correlator {
        &self.correlator
    }

    /// A listener's queue was asked for.
    pub(super) fn asked_listeners(&self) -> Vec<SocketAddr> {
        let listener = |question: &Question| match question {
            Question::Listener { address, .. } => Some(*address),
            _ => None,
        };
        self.asked.iter().filter_map(listener).collect()
    }
}

/// The verdicts on a stream, as from a capture.
pub(super) fn replay(stream: impl IntoIterator<Item = (Time, Event)>) -> Vec<Verdict> {
    let mut correlator = Correlator::default();
    let mut cases = Vec::new();
    let mut now = Time(0);
    for (at, event) in stream {
        now = at;
        cases.extend(correlator.feed(event).cases);
    }
    cases.extend(correlator.finish(now));
    cases.iter().filter_map(causes::judge).collect()
}
