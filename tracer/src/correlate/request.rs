//! A request under way: its attempts so far.

use super::{Attempt, Course};
use crate::event::{LogCall, Time};

/// Log calls kept a request.
pub(super) const LOG_CALLS: usize = 32;
/// Attempts kept a request; `proxy_next_upstream_tries` is rarely above a handful.
const ATTEMPTS: usize = 64;

/// What is known of a request before it is over.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub(super) attempts: Vec<Attempt>,
    pub(super) log_calls: Vec<LogCall>,
    /// A retry got its first byte then: unless an error answer follows, the failure is masked.
    pub(super) settling: Option<Time>,
    /// The status that retry got.
    pub(super) status: Option<u16>,
    /// The retry itself, until its connection's record comes (a kept-alive one may stay open for long).
    pub(super) serving: Option<Attempt>,
    pub(super) heard: Time,
    /// `pc->tries` at the last attempt.
    pub(super) tries: Option<u32>,
}

impl Request {
    /// Does an attempt with so many tries left belong to another request, in the same millisecond, with the same
    /// recycled peer object? Within one request they fall, or stay after a stale kept-alive connection.
    pub(super) fn is_over(&self, tries: u32, attempt: &Attempt) -> bool {
        let Some(last) = self.tries else { return false };
        let stale = self.attempts.last().is_some_and(|attempt| attempt.reused);
        // While a connection serves the request no other attempt of it begins.
        let is_served = self
            .serving
            .as_ref()
            .is_some_and(|serving| attempt.start > serving.end);
        tries > last || (tries == last && (!stale || is_served))
    }

    /// Did another client's connection log for it? 0 is no connection number.
    pub(super) fn is_of_another(&self, connection: u64) -> bool {
        let mut logged = self.log_calls.iter().map(|call| call.connection);
        connection != 0
            && logged
                .find(|&number| number != 0)
                .is_some_and(|number| number != connection)
    }

    /// What belongs to a request that began its first attempt then: nginx logs an attempt's failure before its record
    /// is written.
    pub(super) fn split_off(&mut self, start: Time) -> Self {
        let mine = self.log_calls.partition_point(|call| call.at < start);
        Self {
            log_calls: self.log_calls.split_off(mine),
            heard: self.heard,
            ..Self::default()
        }
    }

    /// A retry got its first byte; `true` the first time.
    pub(super) fn settles(&mut self, at: Time) -> bool {
        let first = self.settling.is_none();
        self.settling.get_or_insert(at);
        first
    }

    pub(super) fn add(&mut self, attempt: Attempt, tries: u32) {
        self.tries = Some(tries);
        self.serving = None;
        if let Course::Connection(connection) = &attempt.course
            && connection.status.is_some()
        {
            self.status = connection.status;
        }
        if self.attempts.len() < ATTEMPTS {
            self.attempts.push(attempt);
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.attempts.iter().any(|attempt| match &attempt.course {
            Course::FailedAtOnce(_) => true,
            Course::Connection(connection) => connection.first_byte.is_none(),
            Course::Succeeded => false,
        })
    }
}
