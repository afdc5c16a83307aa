//! A request that is over, waiting for what the host has to say of it.

use super::{
    Attempt, Case, Course,
    host::{self, HostMemory},
    request::Request,
};
use crate::event::{Answer, Connection, Failure, FirstByte, LogLine, Question, Time, fact::Worker};

/// A case to be.
#[derive(Debug)]
pub(super) struct OpenCase {
    pub(super) worker: u32,
    /// The case's own time.
    pub(super) time: Time,
    /// Waiting since.
    pub(super) since: Time,
    pub(super) request: Request,
    answer: Option<Answer>,
}

impl OpenCase {
    pub(super) fn answered(answer: &Answer, request: Request) -> Self {
        Self {
            worker: answer.worker,
            time: answer.at,
            since: answer.at,
            request,
            answer: Some(answer.clone()),
        }
    }

    /// The failure is over when the retry got its first byte.
    pub(super) fn masked(worker: u32, mut request: Request, now: Time) -> Self {
        let time = request.settling.unwrap_or(now);
        request.attempts.extend(request.serving.take());
        for attempt in &mut request.attempts {
            if let Course::Connection(connection) = &attempt.course
                && connection.first_byte.is_some()
            {
                attempt.course = Course::Succeeded;
            }
        }
        Self {
            worker,
            time,
            since: now,
            request,
            answer: None,
        }
    }

    /// nginx's connection number.
    pub(super) fn connection(&self) -> Option<u64> {
        let answered = self.answer.as_ref().and_then(|answer| answer.connection);
        answered.or_else(|| {
            self.request
                .log_calls
                .iter()
                .map(|call| call.connection)
                .find(|&number| number != 0)
        })
    }

    /// Did the host answer everything that this case asks?
    pub(super) fn is_answered(&self, host: &HostMemory) -> bool {
        let attempts = &self.request.attempts;
        host.knows(
            &Question::Log {
                worker: self.worker,
            },
            self.since,
        ) && attempts.iter().all(|attempt| {
            host::about(self.worker, attempt)
                .iter()
                .all(|question| host.knows_nearly(question, attempt.end))
        })
    }

    pub(super) fn close(
        self,
        identity: Option<Worker>,
        log_lines: Vec<LogLine>,
        lost_events: u64,
        absent_hooks: &[String],
    ) -> Case {
        let connection = self.connection();
        Case {
            time: self.time,
            worker: self.worker,
            identity,
            connection,
            client: self.answer.as_ref().and_then(|answer| answer.client),
            status: self
                .answer
                .as_ref()
                .map_or(self.request.status, |answer| Some(answer.status)),
            masked: self.answer.is_none(),
            has_upstream: self
                .answer
                .as_ref()
                .is_none_or(|answer| answer.peer.is_some()),
            attempts: self.request.attempts,
            log_calls: self.request.log_calls,
            log_lines,
            lost_events,
            absent_hooks: absent_hooks.to_vec(),
        }
    }
}

impl Attempt {
    pub(super) fn failed_at_once(failure: Failure) -> Self {
        Self {
            upstream: failure.upstream.clone(),
            start: failure.start,
            end: failure.at,
            reused: false,
            course: Course::FailedAtOnce(failure),
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
            facts: super::Facts::default(),
        }
    }

    /// A retry that is answered while its connection stays open. When nginx took a kept-alive one is not known: at its
    /// first byte at the latest.
    pub(super) fn succeeded(first: &FirstByte, before: Option<&Self>) -> Self {
        let is_kept_alive = before.is_some_and(|before| first.start < before.end);
        Self {
            upstream: first.remote.clone(),
            start: if is_kept_alive { first.at } else { first.start },
            end: first.at,
            reused: is_kept_alive,
            course: Course::Succeeded,
            facts: super::Facts::default(),
        }
    }
}
