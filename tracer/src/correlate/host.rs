//! What the host was asked, and what it answered: asked no more often than it can change,
//! remembered briefly.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
};

use super::{
    Attempt, Course, Facts, RequestFacts,
    remembered::{Limits, Remembered},
    workers::Workers,
};
use crate::event::{
    Connection, Fact, Failure, Heap, Icmp, Question, Time, Upstream,
    fact::{Finding, ListenerView, UnixPathView},
};

/// An answer this young (nanoseconds) serves the next failure of the same kind too.
const FRESH: u64 = 200_000_000;
/// Answers older than this are forgotten.
const MEMORY: u64 = 120_000_000_000;
/// Questions and answers kept; beyond, only fresh ones are, and of these the newer.
const FACTS: usize = 4096;
/// Bytes of answers.
const FACT_BYTES: usize = 16 << 20;
/// Bytes of listener views.
const VIEW_BYTES: usize = 32 << 20;
/// Of the host's words why it could not tell, so many bytes are shown at most.
const WHY: usize = 2048;
/// Questions about single connections asked at most in the time that an answer is fresh: a flood of
/// failures must not become a flood of questions.
const SINGLE: usize = 128;
/// Listener views kept an address, ICMP errors kept.
const VIEWS: usize = 16;
const ICMPS: usize = 1024;
const AF_FAILURES: [u32; 2] = [EACCES, EPERM];
/// What a routing table gives instead of a route.
const ROUTE_FAILURES: [u32; 4] = [EACCES, EINVAL, ENETUNREACH, EHOSTUNREACH];
const EPERM: u32 = 1;
const EACCES: u32 = 13;
const EINVAL: u32 = 22;
const ENFILE: u32 = 23;
const EMFILE: u32 = 24;
const EADDRNOTAVAIL: u32 = 99;
const ENETUNREACH: u32 = 101;
const ECONNREFUSED: u32 = 111;
const EHOSTUNREACH: u32 = 113;

/// Questions and answers of late.
#[derive(Debug)]
pub(super) struct HostMemory {
    asked: HashMap<Question, Time>,
    facts: Remembered<Question, Fact>,
    listeners: Remembered<Question, Seen>,
    icmps: VecDeque<Icmp>,
    /// When questions about single connections were asked of late.
    single: VecDeque<Time>,
}

/// Listeners as they were at a time.
#[derive(Debug)]
struct Seen {
    at: Time,
    view: ListenerView,
}

impl Heap for Seen {
    fn heap(&self) -> usize {
        self.view.heap()
    }
}

impl Default for HostMemory {
    fn default() -> Self {
        Self {
            asked: HashMap::new(),
            facts: Remembered::new(Limits {
                at: |fact| fact.at,
                most: 1,
                keys: FACTS,
                fresh: FRESH,
                budget: FACT_BYTES,
            }),
            listeners: Remembered::new(Limits {
                at: |seen| seen.at,
                most: VIEWS,
                keys: FACTS,
                fresh: FRESH,
                budget: VIEW_BYTES,
            }),
            icmps: VecDeque::new(),
            single: VecDeque::new(),
        }
    }
}

pub(super) fn listener(worker: u32, address: SocketAddr) -> Question {
    Question::Listener { worker, address }
}

/// What a failure at once makes one ask.
pub(super) fn about_failure(failure: &Failure) -> Vec<Question> {
    let worker = failure.worker;
    // nginx lacks a descriptor, whatever it is for.
    if [EMFILE, ENFILE].contains(&failure.errno) {
        return vec![Question::Descriptors { worker }];
    }
    match &failure.upstream {
        // The routing table can still be asked.
        Some(Upstream::Inet(address))
            if failure.routes.unseen && ROUTE_FAILURES.contains(&failure.errno) =>
        {
            let mut questions = vec![listener(worker, *address)];
            if failure.errno == EACCES {
                questions.push(Question::Confinement { worker });
            }
            questions
        }
        Some(Upstream::Unix(path)) => {
            let mut questions = vec![Question::UnixPath {
                worker,
                path: path.clone(),
            }];
            if AF_FAILURES.contains(&failure.errno) {
                questions.push(Question::Confinement { worker });
            }
            questions
        }
        Some(Upstream::Inet(address)) => match failure.errno {
            EPERM | EACCES | ECONNREFUSED => vec![Question::Confinement { worker }],
            EADDRNOTAVAIL => vec![Question::Ports {
                worker,
                remote: *address,
            }],
            _ => Vec::new(),
        },
        None => Vec::new(),
    }
}

/// What a connection that failed makes one ask.
pub(super) fn about_connection(connection: &Connection) -> Vec<Question> {
    let worker = connection.worker;
    let remote = match &connection.remote {
        Upstream::Inet(remote) => *remote,
        Upstream::Unix(path) if path.is_empty() => return Vec::new(),
        Upstream::Unix(path) => {
            return vec![Question::UnixPath {
                worker,
                path: path.clone(),
            }];
        }
    };
    let listener = listener(worker, connection.reached().unwrap_or(remote));
    // An end that answered says no more than that, and one that closed is gone.
    let is_over = connection.first_byte.is_some()
        || connection.end_read.is_some()
        || connection.rst_received.is_some();
    if let Some(local) = connection.local
        && connection.was_established()
        && !is_over
    {
        // First: it may find that the address is translated, which the other then rests on.
        let peer = Question::PeerSocket {
            worker,
            local,
            remote,
        };
        return vec![peer, listener];
    }
    vec![listener]
}

/// What an attempt makes one ask. One whose response began has failed only if nginx itself answered
/// its request.
pub(super) fn about(worker: u32, attempt: &Attempt, is_answered: bool) -> Vec<Question> {
    match &attempt.course {
        Course::FailedAtOnce(failure) => about_failure(failure),
        Course::Connection(connection) if connection.first_byte.is_none() || is_answered => {
            debug_assert_eq!(connection.worker, worker);
            about_connection(connection)
        }
        Course::Connection(_) | Course::Succeeded | Course::Logged => Vec::new(),
    }
}

impl HostMemory {
    /// The question, unless it was asked just now. A log is read for each case: its lines belong to
    /// one request.
    pub(super) fn ask(&mut self, question: Question, now: Time) -> Option<Question> {
        let fresh = if matches!(question, Question::Log { .. }) {
            0
        } else {
            FRESH
        };
        if let Some(&at) = self.asked.get(&question)
            && now.since(at) < fresh
        {
            return None;
        }
        if matches!(question, Question::PeerSocket { .. }) {
            while self
                .single
                .front()
                .is_some_and(|at| now.since(*at) >= FRESH)
            {
                self.single.pop_front();
            }
            if self.single.len() >= SINGLE {
                return None;
            }
            self.single.push_back(now);
        }
        if self.asked.len() >= FACTS {
            self.asked.retain(|_, at| now.since(*at) < FRESH);
            if self.asked.len() >= FACTS {
                self.asked.clear();
            }
        }
        self.asked.insert(question.clone(), now);
        Some(question)
    }

    pub(super) fn learn(&mut self, fact: Fact) {
        // A worker that has ended meanwhile: what was seen just before stands.
        if fact.finding.is_err()
            && self
                .facts
                .last(&fact.question)
                .is_some_and(|known| known.finding.is_ok() && known.at.plus(FRESH) >= fact.at)
        {
            return;
        }
        if let Ok(Finding::Listener(view)) = &fact.finding {
            let seen = Seen {
                at: fact.at,
                view: view.clone(),
            };
            self.listeners.push(fact.question.clone(), seen);
        }
        self.facts.push(fact.question.clone(), fact);
    }

    pub(super) fn icmp(&mut self, icmp: Icmp) {
        if self.icmps.len() == ICMPS {
            self.icmps.pop_front();
        }
        self.icmps.push_back(icmp);
    }

    /// Was it answered at or after `time`?
    pub(super) fn knows(&self, question: &Question, time: Time) -> bool {
        self.facts
            .last(question)
            .is_some_and(|fact| fact.at >= time)
    }

    /// Was it answered after `time`, or so shortly before that it was not asked again?
    pub(super) fn knows_nearly(&self, question: &Question, time: Time) -> bool {
        self.facts
            .last(question)
            .is_some_and(|fact| fact.at.plus(FRESH) >= time)
    }

    /// What is known of an attempt.
    pub(super) fn facts(
        &self,
        worker: u32,
        attempt: &Attempt,
        is_answered: bool,
        workers: &Workers,
    ) -> Facts {
        let mut facts = Facts::default();
        for question in about(worker, attempt, is_answered) {
            let Some(fact) = self
                .facts
                .last(&question)
                .filter(|fact| fact.at.plus(FRESH) >= attempt.end)
            else {
                facts
                    .unanswered
                    .push("the host was not asked in time".to_owned());
                continue;
            };
            match &fact.finding {
                Ok(Finding::Listener(view)) => facts.listener = Some(view.clone()),
                Ok(Finding::UnixPath(view)) => facts.unix_path = Some(view.clone()),
                Ok(Finding::PeerSocket(view)) => facts.peer_socket = Some(view.clone()),
                Ok(Finding::Ports(view)) => facts.ports = Some(view.clone()),
                Ok(Finding::Descriptors(view)) => facts.descriptors = Some(view.clone()),
                Ok(Finding::Confinement(view)) => facts.confinement = Some(view.clone()),
                Ok(
                    Finding::Log
                    | Finding::Folder(_)
                    | Finding::Returns(_)
                    | Finding::Block(_)
                    | Finding::Names(_),
                ) => {}
                Err(why) => match self.seen_by_sibling(&question, attempt.end, workers) {
                    Some(view) => facts.unix_path = Some(view),
                    None => facts.unanswered.push(beginning(why).to_owned()),
                },
            }
        }
        if let Course::Connection(connection) = &attempt.course
            && let Upstream::Inet(remote) = connection.remote
        {
            facts.queue_at_retransmit = self
                .fullest(&listener(worker, remote), attempt.start, attempt.end)
                .map(Box::new);
            facts.icmp = self
                .icmps
                .iter()
                .rfind(|icmp| {
                    icmp.destination == remote
                        // Each namespace may have the same addresses.
                        && (icmp.netns == connection.netns || icmp.netns == 0 || connection.netns == 0)
                        && connection.local.is_none_or(|local| local == icmp.source)
                        && icmp.at >= attempt.start
                })
                .cloned();
        }
        facts
    }

    /// What is known of a request itself.
    pub(super) fn request_facts(&self, questions: &[Question], since: Time) -> RequestFacts {
        let mut facts = RequestFacts::default();
        let known = questions.iter().filter_map(|question| {
            let fact = self.facts.last(question)?;
            Some(fact).filter(|fact| fact.at.plus(FRESH) >= since)
        });
        for fact in known {
            match &fact.finding {
                Ok(Finding::Folder(view)) => facts.folder = Some((**view).clone()),
                Ok(Finding::Returns(view)) => facts.returns = Some(view.clone()),
                Ok(Finding::Block(view)) => facts.block = Some(view.clone()),
                Ok(Finding::Names(view)) => facts.names = Some(view.clone()),
                _ => {}
            }
        }
        facts
    }

    /// A path as another worker of the same master saw it: for a worker that ended before it could
    /// be asked about.
    fn seen_by_sibling(
        &self,
        question: &Question,
        end: Time,
        workers: &Workers,
    ) -> Option<Box<UnixPathView>> {
        let Question::UnixPath { worker, path } = question else {
            return None;
        };
        let master = workers.get(*worker)?.master;
        let is_sibling = |other: u32| {
            let other = workers.get(other);
            other.is_some_and(|other| other.master == master)
        };
        let seen = self
            .facts
            .lasts()
            .filter_map(|(other, fact)| match (other, &fact.finding) {
                (Question::UnixPath { worker, path: same }, Ok(Finding::UnixPath(view)))
                    if same == path && fact.at.plus(FRESH) >= end && is_sibling(*worker) =>
                {
                    Some((fact.at, *worker, view))
                }
                _ => None,
            });
        // The last one's: whichever the map gives first would be another in a replay.
        seen.max_by_key(|&(at, worker, _)| (at, worker))
            .map(|(.., view)| view.clone())
    }

    /// The view with the fullest queue between two times.
    fn fullest(&self, question: &Question, from: Time, to: Time) -> Option<ListenerView> {
        let load = |view: &ListenerView| {
            view.exact
                .iter()
                .map(|listener| i64::from(listener.queue) - i64::from(listener.limit))
                .max()
        };
        self.listeners
            .get(question)?
            .iter()
            .filter(|seen| (from..=to).contains(&seen.at))
            .map(|seen| &seen.view)
            .max_by_key(|view| load(view))
            .cloned()
    }

    pub(super) fn forget(&mut self, now: Time) {
        self.asked.retain(|_, at| now.since(*at) < MEMORY);
        self.facts.forget(now, MEMORY);
        self.listeners.forget(now, MEMORY);
        while self
            .icmps
            .front()
            .is_some_and(|icmp| now.since(icmp.at) >= MEMORY)
        {
            self.icmps.pop_front();
        }
    }
}

/// As much of the words as is shown.
fn beginning(words: &str) -> &str {
    &words[..words.floor_char_boundary(WHY)]
}
