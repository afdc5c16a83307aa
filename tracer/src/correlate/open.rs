//! A request that has ended, waiting for what the host has to say of it.

use std::net::SocketAddr;

use super::{
    Attempt, Case, Course,
    host::{self, HostMemory},
    losses::Losses,
    request::Request,
};
use crate::event::{
    Answer, Connection, Failure, FirstByte, Heap as _, LogCall, LogLine, Question, RequestHead,
    RequestId, RequestNames, Said, Time, Upstream, fact::Worker,
};

/// A case to be.
#[derive(Debug)]
pub(super) struct OpenCase {
    pub(super) worker: u32,
    /// The case's own time.
    pub(super) time: Time,
    /// Waiting since.
    pub(super) since: Time,
    pub(super) request: Request,
    status: Option<u16>,
    masked: bool,
    cut_short: bool,
    answer: Option<Answer>,
    /// Of an nginx that shows nothing else: the log's lines about it, as far as they are known. See
    /// [`super::alone`].
    pub(super) alone: Option<Vec<LogLine>>,
}

impl OpenCase {
    pub(super) fn answered(answer: &Answer, request: Request) -> Self {
        Self {
            worker: answer.worker,
            time: answer.at,
            since: answer.at,
            status: Some(answer.status),
            masked: false,
            cut_short: false,
            request,
            answer: Some(answer.clone()),
            alone: None,
        }
    }

    /// A failure that the kernel alone, or the log alone, reported.
    pub(super) fn alone(worker: u32, request: Request, lines: Vec<LogLine>, now: Time) -> Self {
        let end = request.attempts.last().map(|attempt| attempt.end);
        let status = request.attempts.last().and_then(|one| match &one.course {
            Course::Connection(connection) => connection.status,
            _ => None,
        });
        let logged = lines.last().map(|line| line.at);
        Self {
            worker,
            time: end.or(logged).unwrap_or(now),
            since: now,
            status,
            masked: false,
            cut_short: false,
            request,
            answer: None,
            alone: Some(lines),
        }
    }

    /// A request that ended without an error answer of nginx's: one that failed first and was
    /// served then, by another attempt or from a cache, one whose response broke off or was the
    /// upstream's own 502 or 504, and one of a `stream {}` proxy that failed. `None`: it was served
    /// and no more, or its client went away.
    pub(super) fn unanswered(worker: u32, mut request: Request, now: Time) -> Option<Self> {
        let is_replaced = request.is_replaced();
        let status = request.take_serving().filter(|_| !is_replaced);
        let (last, before) = request.attempts.split_last()?;
        let (tried_before, end) = (!before.is_empty(), last.end);
        // Of a session's connection the TLS handshake counts as a response.
        let served = last.has_response() && !request.has_failed_handshake();
        let broken = served && request.broke_off().is_some();
        let passed = served && matches!(status, Some(502 | 504));
        let failed_before = tried_before || request.ticket.is_some();
        let is_failure = if served {
            failed_before || broken || passed
        } else {
            request.is_stream()
        };
        if !is_failure && !is_replaced {
            return None;
        }
        if served
            && !is_replaced
            && !broken
            && !passed
            && let Some(last) = request.attempts.last_mut()
        {
            last.course = Course::Succeeded;
        }
        Some(Self {
            worker,
            time: end,
            since: now,
            status,
            masked: served && !is_replaced && !passed && !broken,
            cut_short: served && !is_replaced && !passed && broken,
            request,
            answer: None,
            alone: None,
        })
    }

    /// What nginx logged after it had begun its error answer: of the page that it tried to give, or
    /// of the response that a subrequest's answer is a part of. Returns the bytes that it grew by.
    pub(super) fn log(&mut self, call: LogCall) -> usize {
        let before = self.request.bytes();
        self.request.log(call);
        self.request.bytes() - before
    }

    /// The request that its error answer is to.
    pub(super) fn request_answered(&self) -> Option<RequestId> {
        self.answer.as_ref().and_then(|answer| answer.request)
    }

    /// Whether it is the error answer to this request.
    pub(super) fn answers(&self, worker: u32, request: RequestId) -> bool {
        self.worker == worker && self.request_answered() == Some(request)
    }

    /// The failure is a subrequest's, which its upstream answered so; the answer is that of the
    /// request it belongs to.
    pub(super) fn of_subrequest(mut self, status: Option<u16>) -> Self {
        self.status = status.or(self.status);
        self
    }

    /// Did its balancer have no peer for it?
    pub(super) fn is_without_peer(&self) -> bool {
        let last = self.request.attempts.last();
        last.is_some_and(|last| {
            matches!(&last.course, Course::FailedAtOnce(failure) if failure.upstream.is_none())
        })
    }

    /// Whether its worker had no connection left for an upstream.
    pub(super) fn is_without_slot(&self) -> bool {
        let mut calls = self.request.log_calls.iter();
        self.status == Some(500) && calls.any(|call| call.said() == Said::NoWorkerConnections)
    }

    /// What the host is asked about the request itself. `conf`: the configuration file of its
    /// nginx.
    pub(super) fn questions(&self, conf: Option<&str>) -> Vec<Question> {
        let worker = self.worker;
        let calls = &self.request.log_calls;
        let folder = calls
            .iter()
            .filter(|call| call.said().is_of_storage_or_folder())
            .find_map(|call| folder_of(call.text.as_deref()?));
        let mut questions: Vec<Question> = folder
            .map(|path| Question::Folder { worker, path })
            .into_iter()
            .collect();
        let Some(conf) = conf else {
            return questions;
        };
        if let Some(answer) = &self.answer
            && answer.request.is_none()
            && (answer.status != 500 || answer.is_returned)
        {
            questions.push(Question::Returns {
                worker,
                conf: conf.to_owned(),
                status: answer.status,
            });
        } else if let Some(Attempt {
            course: Course::FailedAtOnce(Failure { block, .. }),
            ..
        }) = self.request.attempts.last()
            && let Some(name) = block.clone()
        {
            questions.push(Question::Block {
                worker,
                conf: conf.to_owned(),
                name,
            });
        } else if let Some(remote) = self.unreached() {
            questions.push(Question::Names {
                worker,
                conf: conf.to_owned(),
                port: remote.port(),
            });
        }
        questions
    }

    /// The address that the last attempt could not connect to, if that may be looked up from a
    /// name.
    fn unreached(&self) -> Option<SocketAddr> {
        let attempts = self.request.attempts.iter().rev();
        let failed = attempts.filter_map(|attempt| match &attempt.course {
            Course::Connection(c) if !c.was_established() => Some(&c.remote),
            Course::FailedAtOnce(failure) => failure.upstream.as_ref(),
            _ => None,
        });
        let mut remotes = failed.filter_map(|upstream| match upstream {
            Upstream::Inet(remote) => Some(*remote),
            Upstream::Unix(_) => None,
        });
        remotes
            .next()
            .filter(|remote| !remote.ip().to_canonical().is_loopback())
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.request.bytes() + self.answer.heap()
    }

    /// nginx's connection number.
    pub(super) fn connection(&self) -> Option<u64> {
        let answered = self.answer.as_ref().and_then(|answer| answer.connection);
        let served = self
            .request
            .first_byte
            .as_ref()
            .and_then(|first| first.connection);
        answered.or(served).or_else(|| {
            self.request
                .log_calls
                .iter()
                .map(|call| call.connection)
                .find(|&number| number != 0)
        })
    }

    /// What the client asked, as far as nginx's memory showed.
    pub(super) fn head(&self) -> Option<&RequestHead> {
        match (&self.answer, &self.request.first_byte) {
            (Some(answer), _) => answer.head.as_ref(),
            (None, Some(first)) => first.head.as_ref(),
            (None, None) => None,
        }
    }

    /// By what the request is known elsewhere.
    fn names(&self) -> Option<Box<RequestNames>> {
        let answered = self.answer.as_ref().and_then(|answer| answer.names.clone());
        let first = self.request.first_byte.as_ref();
        answered.or_else(|| first.and_then(|first| first.names.clone()))
    }

    /// The client's address, from its socket.
    pub(super) fn client(&self) -> Option<SocketAddr> {
        match (&self.answer, &self.request.first_byte) {
            (Some(answer), _) => answer.client,
            (None, first) => first.as_ref().and_then(|first| first.client),
        }
    }

    /// The port of nginx's own that the client connected to.
    pub(super) fn server_port(&self) -> Option<u16> {
        match (&self.answer, &self.request.first_byte) {
            (Some(answer), _) => answer.server_port,
            (None, first) => first.as_ref()?.server_port,
        }
    }

    /// Did nginx make an error answer?
    pub(super) fn is_answered_by_nginx(&self) -> bool {
        self.answer.is_some()
    }

    /// Did the host answer everything that this case asks?
    pub(super) fn is_answered(&self, host: &HostMemory, conf: Option<&str>) -> bool {
        let attempts = &self.request.attempts;
        let asked = self.questions(conf);
        if !asked
            .iter()
            .all(|question| host.knows_nearly(question, self.since))
        {
            return false;
        }
        host.knows(
            &Question::Log {
                worker: self.worker,
            },
            self.since,
        ) && attempts.iter().all(|attempt| {
            host::about(self.worker, attempt, self.is_answered_by_nginx())
                .iter()
                .all(|question| host.knows_nearly(question, attempt.end))
        })
    }

    pub(super) fn close(
        self,
        identity: Option<Worker>,
        log_lines: Vec<LogLine>,
        losses: &Losses,
        absent_hooks: &[String],
    ) -> Case {
        let connection = self.connection();
        let head = self.head().cloned();
        let names = self.names();
        // Where no attempt was seen, one may have been missed since the beginning.
        let begun = self.request.attempts.iter().map(|one| one.start).min();
        let begun = begun.unwrap_or_default();
        let client = self.client();
        // A slice that fails takes the whole response with it
        // (src/http/modules/ngx_http_slice_filter_module.c).
        let has_begun = self
            .answer
            .as_ref()
            .is_some_and(|answer| answer.client_status.is_some());
        let mut calls = self.request.log_calls.iter();
        let cut_short = self.cut_short || has_begun && calls.any(|call| call.said().is_of_slice());
        Case {
            time: self.time,
            worker: self.worker,
            identity,
            connection,
            client,
            head,
            names,
            status: self.status,
            client_status: self
                .request
                .reply
                .map(|(status, _)| status)
                .or_else(|| self.answer.as_ref().and_then(|answer| answer.client_status)),
            masked: self.masked,
            cut_short,
            has_upstream: self
                .answer
                .as_ref()
                .is_none_or(|answer| answer.request.is_some()),
            is_returned: self
                .answer
                .as_ref()
                .is_some_and(|answer| answer.is_returned),
            attempts: self.request.attempts,
            log_calls: self.request.log_calls,
            earlier: Vec::new(),
            dns: Vec::new(),
            log_lines,
            looped: None,
            host: Box::default(),
            is_alone: self.alone.is_some(),
            lost_events: losses.records(),
            skipped: losses.skipped(begun),
            absent_hooks: absent_hooks.to_vec(),
        }
    }
}

/// The folder of a file that nginx could not write, as far as its path was read.
fn folder_of(path: &str) -> Option<String> {
    let (folder, _) = path.rsplit_once('/')?;
    path.starts_with('/')
        .then(|| if folder.is_empty() { "/" } else { folder }.to_owned())
}

impl Attempt {
    pub(super) fn failed_at_once(failure: Failure) -> Self {
        Self {
            upstream: failure.upstream.clone(),
            start: failure.start,
            end: failure.at,
            reused: false,
            course: Course::FailedAtOnce(failure),
            peer_closed: None,
            deaths: Vec::new(),
            facts: super::Facts::default(),
        }
    }

    /// One that nginx's log alone reports.
    pub(super) fn logged(upstream: Upstream, at: Time) -> Self {
        Self {
            upstream: Some(upstream),
            start: at,
            end: at,
            reused: false,
            course: Course::Logged,
            peer_closed: None,
            deaths: Vec::new(),
            facts: super::Facts::default(),
        }
    }

    pub(super) fn connection(connection: Box<Connection>) -> Self {
        Self {
            upstream: Some(connection.remote.clone()),
            start: connection.reused_at.unwrap_or(connection.start),
            end: connection.closed,
            reused: connection.reuses > 0,
            course: Course::Connection(connection),
            peer_closed: None,
            deaths: Vec::new(),
            facts: super::Facts::default(),
        }
    }

    /// A retry that is answered while its connection stays open. When nginx took a kept-alive one
    /// is not known: at its first byte at the latest.
    pub(super) fn succeeded(first: &FirstByte, before: Option<&Self>) -> Self {
        let is_kept_alive = before.is_some_and(|before| first.start < before.end);
        Self {
            upstream: first.remote.clone(),
            start: if is_kept_alive { first.at } else { first.start },
            end: first.at,
            reused: is_kept_alive,
            course: Course::Succeeded,
            peer_closed: None,
            deaths: Vec::new(),
            facts: super::Facts::default(),
        }
    }
}
