//! From the stream of events to cases. Pure: no clock, no I/O; the same events give the same cases.
//!
//! A request has a number, which the kernel side gives it (tracer-ebpf, `identity.rs`): what
//! belongs to it is joined by that, never by address or time. The error answer, made on the same
//! thread after the last attempt was closed, ends it; without one it ends when its last attempt has
//! served it for a moment.

mod alone;
mod around;
pub(crate) mod case;
mod host;
mod lines;
mod losses;
mod open;
mod passes;
mod remembered;
mod replies;
mod request;
mod requests;
#[cfg(test)]
mod tests;
mod workers;

use std::{
    collections::{HashSet, VecDeque},
    iter::Sum,
};

pub(crate) use around::EXITS_WITHIN;
pub(crate) use case::{Attempt, Case, Course, Facts, RequestFacts};
pub(crate) use request::HTTP2_SETTINGS;

use self::{
    alone::Alone,
    around::Around,
    host::HostMemory,
    lines::Lines,
    losses::Losses,
    open::OpenCase,
    passes::{Part, Passes},
    replies::Replies,
    request::Request,
    requests::Requests,
    workers::Workers,
};
use crate::event::{
    Answer, ClientRequest, Connection, Event, Failure, FailureKind, FirstByte, Heap as _, LogCall,
    Question, Reply, RequestId, Retry, RouteLookup, Said, Time, coverage::Change,
};

/// A case waits no longer than this for the host's answers (nanoseconds): they come within
/// milliseconds, but a host in an incident is a busy one, and a late answer proves what would be
/// inferred without it.
const PATIENCE: u64 = 1_000_000_000;
/// What sees nginx's log calls; its name among the absent hooks.
const LOG_HOOK: &str = "log_error";
/// A request that got its first byte, and no error answer within this, was served.
const SETTLED: u64 = 100_000_000;
/// A request of which nothing was heard for so long was given up by its client.
const FORGOTTEN: u64 = 600_000_000_000;
/// How often the memory is swept.
const SWEEP: u64 = 5_000_000_000;
/// Bytes of cases that wait for the host's answers; beyond, the oldest ones wait no longer.
const OPEN: usize = 40 << 20;
/// Bytes of cases in one outcome, about; more come with the next.
const AT_ONCE: usize = 16 << 20;
/// Cases are looked through no more often than this: live, a tick comes each 20 ms.
const GLANCE: u64 = 5_000_000;
/// Entries of requests that may settle, beyond twice the requests there are, before they are gone
/// through.
const SETTLING: usize = 65_536;

/// Of what was heard last, so much is looked through.
const LATELY: usize = 256;

/// The newest of them; the oldest give way.
fn push<T>(queue: &mut VecDeque<T>, value: T) {
    if queue.len() == LATELY {
        queue.pop_front();
    }
    queue.push_back(value);
}

/// Failed requests that get no verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unreported {
    /// Those that ended without an answer of nginx's after a failure: their clients had left (499),
    /// or a cache answered.
    pub given_up: u64,
    /// Those in flight that were dropped for newer ones: there were too many at once.
    pub forgotten: u64,
}

impl Sum for Unreported {
    fn sum<I: Iterator<Item = Self>>(each: I) -> Self {
        each.fold(Self::default(), |sum, one| Self {
            given_up: sum.given_up + one.given_up,
            forgotten: sum.forgotten + one.forgotten,
        })
    }
}

/// What an event led to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What the host should be asked now.
    pub questions: Vec<Question>,
    /// Requests that are complete, with all that will be known of them.
    pub cases: Vec<Case>,
}

/// The correlator's memory, bounded.
#[derive(Debug, Default)]
pub struct Correlator {
    workers: Workers,
    requests: Requests,
    /// Requests that were served, or whose last attempt failed, in order of that time.
    settling: VecDeque<(Time, u32, RequestId)>,
    /// Boxed: a queue has room for twice what is in it.
    open: VecDeque<Box<OpenCase>>,
    /// Bytes of these.
    open_bytes: usize,
    /// Up to when cases are being closed, of which some did not fit the last outcome.
    closing: Option<Time>,
    /// When cases were last looked through.
    glanced: Option<Time>,
    replies: Replies,
    /// Upstreams' own 502s and 504s, which may be subrequests'.
    passed: VecDeque<(requests::Key, ClientRequest, Time)>,
    /// Log calls of requests that have no upstream yet.
    unheard: VecDeque<LogCall>,
    /// Whose balancer had no peer last, and when.
    busy: Option<(u32, Time)>,
    passes: Passes,
    host: HostMemory,
    alone: Alone,
    around: Around,
    lines: Lines,
    losses: Losses,
    /// Where the stream begins.
    since: Time,
    unreported: Unreported,
    swept: Time,
    absent_hooks: Vec<String>,
}

impl Correlator {
    /// The stream begins here, in the middle of what happened: of requests that began earlier the
    /// first events are missing, so they get no verdict.
    pub fn begin(&mut self, at: Time) {
        self.since = at;
    }

    /// Takes the next event of the stream.
    pub fn feed(&mut self, event: Event) -> Outcome {
        let mut out = Outcome::default();
        // As they would have been then: nothing has come since.
        if let Some(now) = self.closing.take() {
            self.close_cases(Some(now), &mut out);
        }
        if event
            .request()
            .is_some_and(|request| request.0 < self.since.0)
        {
            return out;
        }
        match event {
            Event::Failure(failure) => self.failure(failure, &mut out),
            Event::Connection(connection) => self.connection(connection, &mut out),
            Event::FirstByte(first) => self.first_byte(&first),
            Event::Answer(answer) => self.answer(&answer, &mut out),
            Event::Reply(reply) => self.reply(&reply, &mut out),
            Event::LogCall(call) => self.log_call(call, &mut out),
            Event::Retry(retry) => self.retry(&retry),
            Event::Retransmit(retransmit) => out.questions.extend(self.host.ask(
                host::listener(retransmit.worker, retransmit.remote),
                retransmit.at,
            )),
            Event::Worker(worker) => self.workers.learn(worker),
            Event::Process(process) => {
                if let crate::event::ProcessKind::Exited { .. } = process.kind {
                    self.around.ended(process.pid);
                    self.workers.ended(process.pid);
                    self.alone.ended(process.pid);
                }
            }
            Event::PeerClosed(closed) => self.around.peer_closed(*closed),
            Event::Death(death) => self.around.death(*death),
            Event::Dns(dns) => self.around.dns(dns),
            Event::Icmp(icmp) => self.host.icmp(icmp),
            Event::Fact(fact) => self.host.learn(*fact),
            Event::LogLine(line) => {
                if let Some(line) = self.alone.line(line, &self.workers) {
                    self.lines.add(line);
                }
            }
            Event::Lost(lost) => self.losses.add(lost),
            Event::Hooks(hooks) => self.absent_hooks = hooks.absent,
            Event::Coverage(coverage) => {
                if let Change::Alone { pid, .. } = coverage.change {
                    self.alone.add(pid);
                }
            }
            // It concerns no request.
            Event::Notice(_) => {}
            Event::Tick(now) => self.tick(now, &mut out),
        }
        self.close_oldest(&mut out);
        self.replies.limit(&mut out.cases);
        out
    }

    /// Are there cases that wait for the host's answers?
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.open.is_empty()
    }

    /// Failed requests without a verdict so far; those given up are counted at the latest by
    /// [`Self::finish`].
    #[must_use]
    pub fn unreported(&self) -> Unreported {
        Unreported {
            forgotten: self.requests.forgotten,
            ..self.unreported
        }
    }

    /// The end of the stream: what is still open is over now. To be called until it gives none.
    pub fn finish(&mut self, now: Time) -> Vec<Case> {
        let mut out = Outcome::default();
        self.closing = None;
        self.settle(now.plus(SETTLED), &mut out);
        while out.cases.is_empty() && !self.open.is_empty() {
            self.close_cases(None, &mut out);
        }
        let left = self
            .requests
            .iter()
            .filter(|request| request.is_given_up() && request.reply.is_none());
        self.unreported.given_up += left.count() as u64;
        self.requests.clear();
        if self.open.is_empty() {
            self.replies.finish(AT_ONCE, &mut out.cases);
        }
        out.cases
    }

    fn failure(&mut self, failure: Failure, out: &mut Outcome) {
        let (worker, request, at) = (failure.worker, failure.request, failure.at);
        if failure.kind() == FailureKind::NoPeer {
            self.busy = Some((worker, at));
        }
        for question in host::about_failure(&failure) {
            out.questions.extend(self.host.ask(question, at));
        }
        out.questions
            .extend(self.host.ask(Question::Log { worker }, at));
        self.add((worker, request), at, || Attempt::failed_at_once(failure));
    }

    fn connection(&mut self, mut connection: Box<Connection>, out: &mut Outcome) {
        if connection.translated.is_none() && connection.reached().is_some() {
            connection.translated = self.around.translation(&connection);
        }
        let (worker, at) = (connection.worker, connection.closed);
        let Some(request) = connection.request else {
            // Opened before attaching and not used since, or of another kind than an upstream's.
            let may_have_failed =
                connection.first_byte.is_none() || alone::has_failing_status(&connection);
            if may_have_failed && self.alone.has(worker, &self.workers) {
                self.ask_about(&connection, out);
                let mut request = Request::default();
                request.add(Attempt::connection(connection));
                self.open(OpenCase::alone(worker, request, Vec::new(), at), out);
            }
            return;
        };
        if connection.first_byte.is_none() {
            self.ask_about(&connection, out);
        }
        self.add((worker, request), at, || Attempt::connection(connection));
    }

    fn ask_about(&mut self, connection: &Connection, out: &mut Outcome) {
        let (worker, at) = (connection.worker, connection.closed);
        for question in host::about_connection(connection) {
            out.questions.extend(self.host.ask(question, at));
        }
        out.questions
            .extend(self.host.ask(Question::Log { worker }, at));
    }

    fn first_byte(&mut self, first: &FirstByte) {
        let (worker, at) = (first.worker, first.at);
        // Whose response it is was not seen: its connection tells at its end.
        if self.alone.has(worker, &self.workers) {
            return;
        }
        let key = (worker, first.request);
        if let (Some(502 | 504), Some(client)) = (first.status, first.client_request) {
            push(&mut self.passed, (key, client, at));
        }
        if let Some(master) = self.master(worker) {
            self.passes.passed(master, first);
        }
        let request = self.requests.hear(key, at);
        let before = request.bytes();
        let attempt = Attempt::succeeded(first, request.attempts.last());
        request.serve(attempt, first);
        if request.ticket.is_none()
            && let Some(client_request) = first.client_request
        {
            request.ticket = self.replies.expect_more(worker, client_request, at);
        }
        let (after, is_due) = (request.bytes(), request.settles_at(at));
        self.requests.grew(before, after);
        self.settles(is_due, at, key);
    }

    fn retry(&mut self, retry: &Retry) {
        let key = (retry.worker, retry.request);
        self.requests.hear(key, retry.at).is_trying = true;
    }

    fn log_call(&mut self, call: LogCall, out: &mut Outcome) {
        if call.stream && call.said() == Said::NoLiveUpstreams && !self.was_busy(&call) {
            self.session_without_peer(call, out);
            return;
        }
        let Some(request) = call.request else {
            if !call.stream && (call.connection != 0 || call.said() == Said::KeysZoneFull) {
                push(&mut self.unheard, call);
            }
            return;
        };
        // nginx goes on after its error answer: to a page, or with what a subrequest's answer is a
        // part of.
        let key = (call.worker, request);
        let mut open = self.open.iter_mut().rev().take(LATELY);
        let is_tried = self
            .requests
            .get(&key)
            .is_some_and(|known| !known.attempts.is_empty());
        if !is_tried && let Some(open) = open.find(|open| open.answers(call.worker, request)) {
            self.open_bytes += open.log(call);
            return;
        }
        let late = match is_tried {
            true => Some(call),
            false => self.replies.log(call.worker, request, call),
        };
        if let Some(call) = late {
            let (at, is_stream) = (call.at, call.stream);
            let request = self.requests.hear(key, at);
            let before = request.bytes();
            request.log(call);
            let after = request.bytes();
            // A session without a live server fails before nginx logs it.
            let is_due = is_stream && !request.attempts.is_empty() && request.settles_at(at);
            self.requests.grew(before, after);
            self.settles(is_due, at, key);
        }
    }

    /// Was the failure itself seen?
    fn was_busy(&self, call: &LogCall) -> bool {
        let soon = |at: Time| call.at.since(at) < GLANCE;
        self.busy
            .is_some_and(|(worker, at)| worker == call.worker && soon(at))
    }

    /// nginx's log alone shows that a session's balancer had no peer: of a worker's first session
    /// no more is known.
    fn session_without_peer(&mut self, call: LogCall, out: &mut Outcome) {
        let (worker, at) = (call.worker, call.at);
        let mut request = Request::default();
        request.add(Attempt::failed_at_once(Failure {
            start: at,
            at,
            worker,
            request: call.request.unwrap_or(RequestId(at.0)),
            upstream: None,
            source: None,
            block: None,
            code: Failure::NO_PEER,
            errno: 0,
            syn_sent: false,
            routes: RouteLookup::default(),
        }));
        request.log(call);
        self.over(worker, request, at, out);
    }

    fn answer(&mut self, answer: &Answer, out: &mut Outcome) {
        let mut request = answer
            .request
            .and_then(|request| self.requests.remove(&(answer.worker, request)))
            .unwrap_or_default();
        // One whose response began was not asked about at its end.
        for attempt in request.attempts.iter().filter(|one| one.has_response()) {
            for question in host::about(answer.worker, attempt, true) {
                out.questions.extend(self.host.ask(question, answer.at));
            }
        }
        if answer.status == 500 && request.attempts.is_empty() && !answer.is_returned {
            let worker = answer.worker;
            out.questions
                .extend(self.host.ask(Question::Descriptors { worker }, answer.at));
        }
        let worker = answer.worker;
        let mut of_subrequest = None;
        let is_untried = request.attempts.is_empty() && !answer.is_returned;
        if answer.status == 500 && is_untried {
            of_subrequest = self.take_passed(answer).map(|mut passed| {
                let status = passed.take_serving();
                request.attempts = std::mem::take(&mut passed.attempts);
                request.log_calls = std::mem::take(&mut passed.log_calls);
                status
            });
        }
        if is_untried {
            self.unheard.retain(|call| {
                let age = answer.at.since(call.at);
                // In nobody's name, but in the same turn of the worker's.
                let is_nobodys = call.connection == 0 && answer.status == 500 && age < GLANCE;
                let is_connections = Some(call.connection) == answer.connection && age < SETTLED;
                let is_its = call.worker == worker && (is_nobodys || is_connections);
                if is_its {
                    request.log(call.clone());
                }
                !is_its
            });
        }
        out.questions
            .extend(self.host.ask(Question::Log { worker }, answer.at));
        if request.ticket.is_none()
            && let Some(client_request) = answer.watched
        {
            request.ticket = Some(self.replies.expect(worker, client_request, answer.at));
        }
        let case = OpenCase::answered(answer, request);
        if let Some(master) = self.master(worker) {
            self.passes.answered(master, &case);
        }
        self.open(case.of_subrequest(of_subrequest.flatten()), out);
    }

    /// A subrequest of this answer's request, to which its upstream has just answered 502 or 504
    /// itself.
    fn take_passed(&mut self, answer: &Answer) -> Option<Request> {
        let client = answer.watched?;
        let is_said = |call: &LogCall| {
            call.worker == answer.worker
                && Some(call.connection) == answer.connection
                && call.said() == Said::AuthStatus
        };
        self.unheard.iter().find(|call| is_said(call))?;
        let at = self.passed.iter().rposition(|((worker, _), of, at)| {
            *worker == answer.worker && *of == client && answer.at.since(*at) < SETTLED
        })?;
        let (key, ..) = self.passed.remove(at)?;
        self.requests.remove(&key)
    }

    /// Where no error answer was made, something else took the failure's place: a retry, the
    /// upstream's own answer, or a cache.
    fn reply(&mut self, reply: &Reply, out: &mut Outcome) {
        let (worker, at) = (reply.worker, reply.at);
        // The upstream's own answer was the client's: no subrequest's.
        self.passed.retain(|((passed, _), of, _)| {
            (*passed, *of) != (worker, reply.client_request) || reply.is_earlier
        });
        let is_known = !reply.is_earlier
            && self
                .replies
                .replied(worker, reply.client_request, reply.status, &mut out.cases);
        let (false, Some(request), Some(status)) = (is_known, reply.request, reply.status) else {
            return;
        };
        let began = if reply.is_earlier { Time(0) } else { at };
        // From a cache it is sent before the connection that failed is closed.
        let key = (worker, request);
        let known = self.requests.hear(key, at);
        known.reply = Some((status, began));
        let is_due = known.settles_at(at);
        if !reply.is_earlier
            && self.requests.get(&key).is_some_and(Request::is_given_up)
            && let Some(over) = self.requests.remove(&key)
        {
            self.over(worker, over, at, out);
        }
        self.settles(is_due, at, key);
    }

    fn open(&mut self, case: OpenCase, out: &mut Outcome) {
        for question in case.questions(self.conf(case.worker)) {
            out.questions.extend(self.host.ask(question, case.since));
        }
        self.open_bytes += case.bytes();
        self.open.push_back(Box::new(case));
    }

    /// The configuration file of a worker's nginx.
    fn conf(&self, worker: u32) -> Option<&str> {
        self.workers.get(worker)?.conf.as_deref()
    }

    fn master(&self, worker: u32) -> Option<u32> {
        Some(self.workers.get(worker)?.master)
    }

    /// An attempt ended, which may have been the request's last.
    // An attempt is large: it is made where it goes, not handed on.
    #[inline]
    fn add(&mut self, key: requests::Key, at: Time, attempt: impl FnOnce() -> Attempt) {
        let request = self.requests.hear(key, at);
        let before = request.bytes();
        request.add(attempt());
        let (after, is_due) = (request.bytes(), request.settles_at(at));
        self.requests.grew(before, after);
        self.settles(is_due, at, key);
    }

    /// The request may settle from then on, if it is not known already.
    fn settles(&mut self, is_due: bool, at: Time, (worker, request): requests::Key) {
        if !is_due {
            return;
        }
        self.settling.push_back((at, worker, request));
        // Without ticks nothing leaves them: of each request the last entry matters.
        if self.settling.len() > 2 * self.requests.len() + SETTLING {
            let mut seen = HashSet::new();
            let mut last = VecDeque::new();
            while let Some((at, worker, request)) = self.settling.pop_back() {
                let known = self.requests.get(&(worker, request));
                let may_settle = known.is_some_and(|known| known.heard <= at);
                if may_settle && seen.insert((worker, request)) {
                    last.push_front((at, worker, request));
                }
            }
            self.settling = last;
        }
    }

    fn tick(&mut self, now: Time, out: &mut Outcome) {
        self.settle(now, out);
        let is_soon = |before: Time| now.since(before) < GLANCE;
        if !self.glanced.is_some_and(is_soon) {
            self.glanced = Some(now);
            self.close_cases(Some(now), out);
        }
        self.requests.limit();
        for worker in self.alone.look(&self.workers, now) {
            out.questions
                .extend(self.host.ask(Question::Log { worker }, now));
        }
        for case in self.alone.left_over(now) {
            for attempt in &case.request.attempts {
                for question in host::about(case.worker, attempt, false) {
                    out.questions.extend(self.host.ask(question, attempt.end));
                }
            }
            self.open(case, out);
        }
        if now.since(self.swept) >= SWEEP {
            self.swept = now;
            self.requests.forget_silent(now, FORGOTTEN);
            self.host.forget(now);
            self.around.forget(now);
            self.lines.forget(now);
            self.replies.forget(now, AT_ONCE, &mut out.cases);
        }
    }

    /// Requests that were served some time ago, and sessions of `stream {}` whose last attempt
    /// failed then.
    fn settle(&mut self, now: Time, out: &mut Outcome) {
        while let Some(&(at, worker, id)) = self.settling.front() {
            if now.since(at) < SETTLED {
                break;
            }
            self.settling.pop_front();
            if let Some(request) = self.requests.take_settled((worker, id), at) {
                self.over(worker, request, now, out);
            }
        }
    }

    /// A request that ended without an error answer of nginx's: most were served and leave nothing.
    fn over(&mut self, worker: u32, request: Request, now: Time, out: &mut Outcome) {
        self.unreported.given_up += u64::from(request.is_given_up() && request.reply.is_none());
        if let Some(case) = OpenCase::unanswered(worker, request, now) {
            out.questions
                .extend(self.host.ask(Question::Log { worker }, now));
            self.open(case, out);
        }
    }

    /// Closes those that are answered or waited too long; all, if time is at its end.
    fn close_cases(&mut self, now: Option<Time>, out: &mut Outcome) {
        let mut waiting: VecDeque<Box<OpenCase>> = VecDeque::new();
        let mut given = 0;
        while let Some(open) = self.open.pop_front() {
            if given > AT_ONCE {
                self.open.push_front(open);
                self.closing = now;
                break;
            }
            let waited = now.map(|now| now.since(open.since));
            let may_wait = waited.is_some_and(|waited| waited < PATIENCE);
            // What is still open before it may be why nginx has no peer left.
            let mut earlier = waiting.iter();
            let is_late =
                open.is_without_peer() && earlier.any(|before| before.worker == open.worker);
            let is_known = || {
                let waited = waited.unwrap_or_default();
                let gathers = |master| self.passes.gathers(master, &open, waited);
                open.is_answered(&self.host, self.conf(open.worker))
                    && !self.master(open.worker).is_some_and(gathers)
            };
            let awaits_exit = || {
                let mut attempts = open.request.attempts.iter();
                let at = now.unwrap_or_default();
                waited.is_some_and(|waited| waited < around::EXIT)
                    && attempts.any(|one| self.around.awaits_exit(one, at))
            };
            if may_wait && (is_late || !is_known()) || awaits_exit() {
                waiting.push_back(open);
                continue;
            }
            given += self.close(*open, out);
        }
        waiting.append(&mut self.open);
        self.open = waiting;
    }

    /// There are too many: the oldest wait no longer.
    fn close_oldest(&mut self, out: &mut Outcome) {
        let mut given = 0;
        while self.open_bytes > OPEN
            && given <= AT_ONCE
            && let Some(open) = self.open.pop_front()
        {
            given += self.close(*open, out);
        }
    }

    /// Completes a case; gives how many bytes it has.
    fn close(&mut self, mut open: OpenCase, out: &mut Outcome) -> usize {
        self.open_bytes -= open.bytes();
        let is_call_seen =
            self.losses.records() == 0 && !self.absent_hooks.iter().any(|hook| hook == LOG_HOOK);
        let part = |master| self.passes.part(master, &open);
        let part = self.master(open.worker).map_or(Part::None, part);
        let identity = self.workers.get(open.worker).cloned();
        let lines = match open.alone.as_mut().map(std::mem::take) {
            None => self.lines.take(identity.as_ref(), &open, is_call_seen),
            Some(lines) => match self.alone.complete(&mut open, lines) {
                Some(lines) => lines,
                None => return 0,
            },
        };
        let ticket = open.request.ticket;
        let looped = match part {
            Part::None => None,
            Part::Reporter(looped) => Some(looped),
            Part::Inner => {
                out.cases
                    .extend(ticket.and_then(|ticket| self.replies.left_out(ticket)));
                return 0;
            }
        };
        let is_answered = open.is_answered_by_nginx();
        for attempt in &mut open.request.attempts {
            attempt.facts = self
                .host
                .facts(open.worker, attempt, is_answered, &self.workers);
            self.around.complete(attempt);
        }
        let answered = open.request_answered();
        let asked = open.questions(self.conf(open.worker));
        let facts = self.host.request_facts(&asked, open.since);
        let mut case = open.close(identity, lines, &self.losses, &self.absent_hooks);
        *case.host = facts;
        case.looped = looped;
        self.around.add(&mut case);
        self.around.failed(&case);
        let bytes = size_of::<Case>() + case.heap();
        match ticket {
            Some(ticket) => self
                .replies
                .explained(ticket, answered, case, &mut out.cases),
            None => out.cases.push(case),
        }
        bytes
    }
}
