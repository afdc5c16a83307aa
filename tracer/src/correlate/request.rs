//! A request under way: its attempts so far.

use super::{Attempt, Course};
use crate::event::{FirstByte, LogCall, Time};

/// Log calls kept a request.
const LOG_CALLS: usize = 32;
/// Attempts kept a request; `proxy_next_upstream_tries` is rarely above a handful.
const ATTEMPTS: usize = 64;
/// `NGX_BUSY`: nginx chose no peer, which uses up no try.
const BUSY: i32 = -3;

/// What is known of a request before it is over.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub(super) attempts: Vec<Attempt>,
    pub(super) log_calls: Vec<LogCall>,
    /// The attempt that serves it, until its connection's record comes (a kept-alive one may stay open for long), and
    /// the status it got.
    serving: Option<(Attempt, Option<u16>)>,
    pub(super) heard: Time,
    /// `pc->tries` at the last attempt.
    tries: Option<u32>,
}

impl Request {
    /// Does what happens with so many tries left belong to another request, which in the same millisecond uses the
    /// same recycled peer object? Within one request the tries fall, or stay after a stale kept-alive connection.
    pub(super) fn is_over(&self, tries: u32) -> bool {
        let Some(last) = self.tries else { return false };
        let stale = self.attempts.last().is_some_and(|attempt| attempt.reused);
        tries > last || (tries == last && !stale && self.serving.is_none())
    }

    pub(super) fn add(&mut self, attempt: Attempt, tries: u32) {
        let busy = matches!(&attempt.course, Course::FailedAtOnce(failure) if failure.code == BUSY);
        if !busy {
            self.tries = Some(tries);
        }
        self.serving = None;
        // A record written while the connection was open, and the one at its end, are one attempt.
        if let Some(last) = self.attempts.last_mut()
            && last.socket() == attempt.socket()
            && last.socket().is_some()
        {
            *last = attempt;
        } else if self.attempts.len() < ATTEMPTS {
            self.attempts.push(attempt);
        }
    }

    /// A response begins.
    pub(super) fn serve(&mut self, first: &FirstByte) {
        self.serving = Some((Attempt::succeeded(first), first.status));
    }

    pub(super) fn log(&mut self, call: LogCall) {
        if self.log_calls.len() < LOG_CALLS {
            self.log_calls.push(call);
        }
    }

    /// Is its last attempt over, or serving it? (One that is still connecting or waiting is told of at its end.)
    pub(super) fn is_settled(&self) -> bool {
        self.serving.is_some() || !self.attempts.is_empty()
    }

    /// Belongs it to a `stream {}` proxy, which makes no error answers?
    pub(super) fn is_stream(&self) -> bool {
        self.log_calls.iter().any(|call| call.stream)
    }

    /// Did the response break off that the last attempt began? A RST or a failed read says so, or nginx itself: a FIN
    /// alone may be the response's proper end.
    pub(super) fn broke_off(&self) -> bool {
        let by_socket = match self.attempts.last().map(|attempt| &attempt.course) {
            Some(Course::Connection(connection)) => {
                connection
                    .first_byte
                    .is_some_and(|first| connection.rst_received.is_some_and(|rst| rst > first))
                    || connection.transfer_error.is_some()
            }
            _ => false,
        };
        let since = self
            .attempts
            .last()
            .map_or(Time(0), |attempt| attempt.start);
        by_socket
            || self
                .log_calls
                .iter()
                .any(|call| call.at >= since && tells_of_upstream(&call.format))
    }

    /// All attempts, with the status that the last got; `serving` joins them.
    pub(super) fn take_serving(&mut self) -> Option<u16> {
        match self.serving.take() {
            Some((attempt, status)) => {
                self.attempts.push(attempt);
                status
            }
            None => match &self.attempts.last()?.course {
                Course::Connection(connection) => connection.status,
                _ => None,
            },
        }
    }
}

/// nginx's words at level `error` for a response that broke off (src/http/ngx_http_upstream.c, ngx_event_pipe.c).
fn tells_of_upstream(format: &str) -> bool {
    format.starts_with("upstream prematurely closed")
        || format.starts_with("upstream timed out")
        || format.starts_with("recv() failed")
        || format.starts_with("readv() failed")
}

impl Attempt {
    /// Its socket and when that was made.
    fn socket(&self) -> Option<(u64, Time, Time)> {
        match &self.course {
            Course::Connection(connection) => {
                Some((connection.socket, connection.start, self.start))
            }
            _ => None,
        }
    }

    /// Did a response begin?
    pub(super) fn has_response(&self) -> bool {
        match &self.course {
            Course::FailedAtOnce(_) => false,
            Course::Connection(connection) => connection.first_byte.is_some(),
            Course::Succeeded => true,
        }
    }
}
