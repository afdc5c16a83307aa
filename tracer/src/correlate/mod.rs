//! From the stream of events to cases. Pure: no clock, no I/O; the same events give the same cases.
//!
//! A request is what one `ngx_peer_connection_t` served: its attempts are joined by that object and by socket, never
//! by address or time. The error answer, made on the same thread after the last attempt was closed, ends it.

pub mod case;
mod host;
mod lines;
mod open;
mod request;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque, hash_map::Entry};

pub use case::{Attempt, Case, Course, Facts};

use self::{host::HostMemory, lines::Lines, open::OpenCase, request::Request};
use crate::event::{
    Answer, Connection, Event, Failure, FirstByte, LogCall, Peer, Question, Time, fact::Worker,
};

/// A case waits no longer than this for the host's answers.
const PATIENCE: u64 = 250_000_000;
/// A retry that got its first byte has succeeded if no error answer follows within this.
const SETTLED: u64 = 100_000_000;
/// A request of which nothing was heard for so long was given up by its client (nanoseconds).
const FORGOTTEN: u64 = 600_000_000_000;
/// Requests remembered; beyond, the oldest go first.
const REQUESTS: usize = 65_536;
/// Successful attempts remembered a worker: an error answer that follows at once is about one of them.
const RECENT: usize = 64;

/// What an event led to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What the host should be asked now.
    pub questions: Vec<Question>,
    /// Requests that are over, with all that will be known of them.
    pub cases: Vec<Case>,
}

/// The correlator's memory, bounded.
#[derive(Debug, Default)]
pub struct Correlator {
    workers: HashMap<u32, Worker>,
    requests: HashMap<(u32, Peer), Request>,
    /// When each request was last heard of.
    heard: BTreeMap<(Time, u32, Peer), ()>,
    /// Requests whose retry got its first byte, the earliest first; some are over by now.
    settling: VecDeque<(Time, u32, Peer)>,
    recent: HashMap<u32, VecDeque<(Peer, Attempt)>>,
    open: VecDeque<OpenCase>,
    host: HostMemory,
    lines: Lines,
    lost: u64,
    absent_hooks: Vec<String>,
}

impl Correlator {
    /// `absent_hooks` names the hooks that do not stand.
    #[must_use]
    pub fn new(absent_hooks: Vec<String>) -> Self {
        Self {
            absent_hooks,
            ..Self::default()
        }
    }

    /// Hooks changed: another nginx was attached.
    pub fn set_absent_hooks(&mut self, absent_hooks: Vec<String>) {
        self.absent_hooks = absent_hooks;
    }

    /// Takes the next event of the stream.
    pub fn feed(&mut self, event: Event) -> Outcome {
        let mut out = Outcome::default();
        match event {
            Event::Failure(failure) => self.failure(failure, &mut out),
            Event::Connection(connection) => self.connection(connection, &mut out),
            Event::FirstByte(first) => self.first_byte(&first),
            Event::Answer(answer) => self.answer(&answer, &mut out),
            Event::LogCall(call) => self.log_call(call),
            Event::Retransmit(retransmit) => out.questions.extend(self.host.ask(
                host::listener(retransmit.worker, retransmit.remote),
                retransmit.at,
            )),
            Event::Worker(worker) => {
                self.workers.insert(worker.pid, worker);
            }
            Event::Process(process) => {
                if let crate::event::ProcessKind::Exited { .. } = process.kind {
                    self.recent.remove(&process.pid);
                }
            }
            Event::Icmp(icmp) => self.host.icmp(icmp),
            Event::Fact(fact) => {
                let at = fact.at;
                self.host.learn(*fact);
                self.close_cases(at, &mut out);
            }
            Event::LogLine(line) => self.lines.add(line),
            Event::Lost { events, .. } => self.lost += events,
            Event::Tick(now) => self.tick(now, &mut out),
        }
        out
    }

    /// Are there cases that wait for the host's answers?
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.open.is_empty()
    }

    /// The end of the stream: what is still open is over now.
    pub fn finish(&mut self, now: Time) -> Vec<Case> {
        let mut out = Outcome::default();
        self.settle(now.plus(SETTLED), &mut out);
        self.close_cases(now.plus(PATIENCE + SETTLED), &mut out);
        out.cases
    }

    fn failure(&mut self, failure: Failure, out: &mut Outcome) {
        let (worker, peer, at, tries) = (failure.worker, failure.peer, failure.at, failure.tries);
        for question in host::about_failure(&failure) {
            out.questions.extend(self.host.ask(question, at));
        }
        out.questions
            .extend(self.host.ask(Question::Log { worker }, at));
        let attempt = Attempt::failed_at_once(failure);
        self.request_tried(worker, peer, at, tries, &attempt)
            .add(attempt, tries);
    }

    fn connection(&mut self, connection: Box<Connection>, out: &mut Outcome) {
        let Some(peer) = connection.peer else { return };
        let (worker, at, tries) = (connection.worker, connection.closed, connection.tries);
        if connection.first_byte.is_some() && !self.requests.contains_key(&(worker, peer)) {
            let recent = self.recent.entry(worker).or_default();
            if recent.len() == RECENT {
                recent.pop_front();
            }
            recent.push_back((peer, Attempt::connection(connection)));
            return;
        }
        for question in host::about_connection(&connection) {
            out.questions.extend(self.host.ask(question, at));
        }
        let succeeded = connection.first_byte.is_some();
        let attempt = Attempt::connection(connection);
        let request = self.request_tried(worker, peer, at, tries, &attempt);
        request.add(attempt, tries);
        if succeeded {
            if request.settles(at) {
                self.settling.push_back((at, worker, peer));
            }
        } else {
            out.questions
                .extend(self.host.ask(Question::Log { worker }, at));
        }
    }

    fn first_byte(&mut self, first: &FirstByte) {
        if let Some(request) = self.requests.get_mut(&(first.worker, first.peer)) {
            if request.settles(first.at) {
                self.settling
                    .push_back((first.at, first.worker, first.peer));
            }
            request.status = first.status;
            request.serving = Some(Attempt::succeeded(first, request.attempts.last()));
        }
    }

    fn log_call(&mut self, call: LogCall) {
        if let Some(peer) = call.peer {
            let (worker, at) = (call.worker, call.at);
            self.end_other(worker, peer, at, call.connection);
            let request = self.request(worker, peer, at);
            request.log_calls.push(call);
            request.log_calls.truncate(request::LOG_CALLS);
        }
    }

    fn answer(&mut self, answer: &Answer, out: &mut Outcome) {
        let mut request = Request::default();
        if let Some(peer) = answer.peer {
            self.end_other(
                answer.worker,
                peer,
                answer.at,
                answer.connection.unwrap_or(0),
            );
            request = self
                .requests
                .remove(&(answer.worker, peer))
                .unwrap_or_default();
            self.heard.remove(&(request.heard, answer.worker, peer));
            // An attempt of a request that failed before is never among the recent ones.
            if request.attempts.is_empty()
                && let Some(recent) = self.recent.get_mut(&answer.worker)
                && let Some(position) = recent.iter().rposition(|(other, _)| *other == peer)
                && let Some((_, attempt)) = recent.remove(position)
            {
                request.attempts.push(attempt);
            }
        }
        if answer.status == 500 && request.attempts.is_empty() {
            out.questions.extend(self.host.ask(
                Question::Descriptors {
                    worker: answer.worker,
                },
                answer.at,
            ));
        }
        out.questions.extend(self.host.ask(
            Question::Log {
                worker: answer.worker,
            },
            answer.at,
        ));
        self.open.push_back(OpenCase::answered(answer, request));
    }

    fn tick(&mut self, now: Time, out: &mut Outcome) {
        self.settle(now, out);
        self.close_cases(now, out);
        while let Some((&(heard, worker, peer), ())) = self.heard.first_key_value() {
            if now.since(heard) < FORGOTTEN && self.requests.len() <= REQUESTS {
                break;
            }
            self.heard.remove(&(heard, worker, peer));
            self.requests.remove(&(worker, peer));
        }
        self.host.forget(now);
        self.lines.forget(now);
    }

    /// Retries that succeeded become masked cases.
    fn settle(&mut self, now: Time, out: &mut Outcome) {
        while let Some(&(since, worker, peer)) = self.settling.front()
            && now.since(since) >= SETTLED
        {
            self.settling.pop_front();
            let Entry::Occupied(mut entry) = self.requests.entry((worker, peer)) else {
                continue;
            };
            if entry.get().settling != Some(since) {
                continue;
            }
            // What is logged after the first byte may be the next request's, in the same peer object.
            let rest = entry.get_mut().split_off(since.plus(1));
            let request = if rest.log_calls.is_empty() {
                let request = entry.remove();
                self.heard.remove(&(request.heard, worker, peer));
                request
            } else {
                entry.insert(rest)
            };
            if request.has_failed() {
                out.questions
                    .extend(self.host.ask(Question::Log { worker }, now));
                self.open.push_back(OpenCase::masked(worker, request, now));
            }
        }
    }

    fn close_cases(&mut self, now: Time, out: &mut Outcome) {
        let mut waiting = VecDeque::new();
        while let Some(mut open) = self.open.pop_front() {
            if now.since(open.since) < PATIENCE && !open.is_answered(&self.host) {
                waiting.push_back(open);
                continue;
            }
            let identity = self.workers.get(&open.worker).cloned();
            let lines = self.lines.take(identity.as_ref(), &open);
            for attempt in &mut open.request.attempts {
                attempt.facts = self.host.facts(open.worker, attempt);
            }
            out.cases
                .push(open.close(identity, lines, self.lost, &self.absent_hooks));
        }
        self.open = waiting;
    }

    /// The request.
    fn request(&mut self, worker: u32, peer: Peer, at: Time) -> &mut Request {
        let request = self.requests.entry((worker, peer)).or_default();
        self.heard.remove(&(request.heard, worker, peer));
        request.heard = at;
        self.heard.insert((at, worker, peer), ());
        request
    }

    /// The request of an attempt; a new one if the peer object was recycled, which ends the old one.
    fn request_tried(
        &mut self,
        worker: u32,
        peer: Peer,
        at: Time,
        tries: u32,
        attempt: &Attempt,
    ) -> &mut Request {
        let request = self.request(worker, peer, at);
        if request.is_over(tries, attempt) {
            let new = request.split_off(attempt.start);
            let over = std::mem::replace(request, new);
            self.end(worker, over, at);
        }
        self.request(worker, peer, at)
    }

    /// Ends a request that is another client connection's: the peer object was recycled.
    fn end_other(&mut self, worker: u32, peer: Peer, at: Time, connection: u64) {
        if let Entry::Occupied(entry) = self.requests.entry((worker, peer))
            && entry.get().is_of_another(connection)
        {
            let over = entry.remove();
            self.heard.remove(&(over.heard, worker, peer));
            self.end(worker, over, at);
        }
    }

    /// A request that ended without an error answer: masked, or given up by its client.
    fn end(&mut self, worker: u32, over: Request, at: Time) {
        if over.settling.is_some() && over.has_failed() {
            self.open.push_back(OpenCase::masked(worker, over, at));
        }
    }
}
