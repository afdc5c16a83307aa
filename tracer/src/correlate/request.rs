//! A request under way: its attempts so far.

use super::replies::Ticket;
use super::{Attempt, Course};
use crate::event::{FirstByte, LogCall, Time, Upstream};

/// Log calls kept a request.
const LOG_CALLS: usize = 32;
/// Attempts kept a request; `proxy_next_upstream_tries` is rarely above a handful.
const ATTEMPTS: usize = 64;
/// Statuses that `proxy_next_upstream` can name.
const RETRIED: [u16; 7] = [403, 404, 429, 500, 502, 503, 504];
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
    /// The latest first byte: it names the client.
    pub(super) first_byte: Option<FirstByte>,
    pub(super) heard: Time,
    /// A further attempt has begun, and its record has not come.
    pub(super) is_trying: bool,
    /// What its client got, and when that began: after a failure.
    pub(super) reply: Option<(u16, Time)>,
    /// Of its client's request, which is told once its client was answered.
    pub(super) ticket: Option<Ticket>,
    /// `pc->tries` at the last attempt.
    tries: Option<u32>,
}

impl Request {
    /// Does what happens with so many tries left belong to another request, which in the same millisecond uses the
    /// same recycled peer object? Within one request the tries fall, or stay after a stale kept-alive connection; and
    /// while a connection serves it no other attempt begins.
    pub(super) fn is_over(&self, tries: u32, attempt: Option<&Attempt>) -> bool {
        let Some(last) = self.tries else { return false };
        if let Some((serving, _)) = &self.serving {
            let is_later = attempt.is_some_and(|attempt| attempt.start > serving.end);
            return tries > last || is_later;
        }
        let last_attempt = self.attempts.last();
        if last_attempt
            .is_some_and(|last| last.is_final() && !(attempt.is_none() && last.is_unix()))
            && !self.is_same(attempt)
        {
            return true;
        }
        let is_stale = last_attempt.is_some_and(|attempt| attempt.reused);
        let is_another = match attempt {
            Some(_) => !self.is_same(attempt),
            // nginx logs before it closes the socket, which is when a record is written; a unix socket's is written
            // when its end is read.
            None => !self.attempts.last().is_some_and(Attempt::is_unix),
        };
        tries > last || (tries == last && !is_stale && is_another)
    }

    /// A record written while a connection was open, and the one at its end, are of one attempt.
    fn is_same(&self, attempt: Option<&Attempt>) -> bool {
        let last = self.attempts.last().and_then(Attempt::socket);
        last.is_some() && attempt.and_then(Attempt::socket) == last
    }

    /// Did another client's connection log for it? 0 is no connection number.
    pub(super) fn is_of_another(&self, connection: u64) -> bool {
        let served = self.first_byte.as_ref().and_then(|first| first.connection);
        let mut known = self
            .log_calls
            .iter()
            .map(|call| call.connection)
            .chain(served);
        connection != 0
            && known
                .find(|&number| number != 0)
                .is_some_and(|number| number != connection)
    }

    pub(super) fn add(&mut self, attempt: Attempt, tries: u32) {
        let busy = matches!(&attempt.course, Course::FailedAtOnce(failure) if failure.code == BUSY);
        if !busy {
            self.tries = Some(tries);
        }
        self.serving = None;
        self.is_trying = false;
        if self.is_same(Some(&attempt)) {
            self.attempts.pop();
        }
        if self.attempts.len() < ATTEMPTS {
            self.attempts.push(attempt);
        }
    }

    /// A response begins.
    pub(super) fn serve(&mut self, attempt: Attempt, first: &FirstByte) {
        self.tries = Some(first.tries);
        self.is_trying = false;
        self.serving = Some((attempt, first.status));
        self.first_byte = Some(first.clone());
    }

    pub(super) fn log(&mut self, call: LogCall) {
        if self.log_calls.len() < LOG_CALLS {
            self.log_calls.push(call);
        }
    }

    /// Did its last attempt serve it, or something else although that failed, or is it a session that no further attempt
    /// followed? (After a failure of an HTTP request an error answer comes, or another attempt; or its client is gone.)
    pub(super) fn is_settled(&self) -> bool {
        let is_served = self.attempts.last().is_some_and(Attempt::has_response);
        !self.is_trying
            && (self.serving.is_some() || is_served || self.reply.is_some() || self.is_stream())
    }

    /// Did its last attempt fail, with neither another after it nor an error answer? Its client left, or got a reply from
    /// elsewhere.
    pub(super) fn is_given_up(&self) -> bool {
        let failed = self
            .attempts
            .last()
            .is_some_and(|attempt| !attempt.has_response());
        failed && self.serving.is_none() && !self.is_trying && !self.is_stream()
    }

    /// Belongs it to a `stream {}` proxy, which makes no error answers?
    pub(super) fn is_stream(&self) -> bool {
        self.log_calls.iter().any(|call| call.stream)
    }

    /// When the response broke off that the last attempt began. A RST or a failed read says so, or nginx itself: a FIN
    /// alone may be the response's proper end.
    pub(super) fn broke_off(&self) -> Option<Time> {
        let by_socket = match self.attempts.last().map(|attempt| &attempt.course) {
            Some(Course::Connection(connection)) => {
                let reset = connection
                    .rst_received
                    .filter(|rst| connection.first_byte.is_some_and(|first| *rst > first));
                reset.or(connection.transfer_error.map(|(_, at)| at))
            }
            _ => None,
        };
        by_socket.or_else(|| self.logged(tells_of_upstream))
    }

    /// Did something else take the place of what the last attempt gave: a cache?
    pub(super) fn is_replaced(&self) -> bool {
        let Some((_, replied)) = self.reply else {
            return false;
        };
        let failed = !self.attempts.last().is_some_and(Attempt::has_response);
        let ends = [self.broke_off(), self.logged(tells_of_refusal)];
        self.serving.is_none() && (failed || ends.into_iter().flatten().any(|end| end < replied))
    }

    /// When nginx first logged such words in the last attempt.
    fn logged(&self, words: fn(&str) -> bool) -> Option<Time> {
        let since = self
            .attempts
            .last()
            .map_or(Time(0), |attempt| attempt.start);
        let mut calls = self.log_calls.iter();
        let call = calls.find(|call| call.at >= since && words(&call.format))?;
        Some(call.at)
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

/// nginx's words at level `error` for a response that it does not take; HTTP/0.9 it does.
fn tells_of_refusal(format: &str) -> bool {
    format.starts_with("upstream sent") && !format.contains("no valid HTTP/1.0 header")
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

    /// Did it get a response that no `proxy_next_upstream` takes for a failure? Then no other attempt follows.
    fn is_final(&self) -> bool {
        match &self.course {
            Course::Connection(connection) if !connection.open => {
                connection.first_byte.is_some()
                    && connection
                        .status
                        .is_some_and(|status| !RETRIED.contains(&status))
            }
            _ => false,
        }
    }

    fn is_unix(&self) -> bool {
        matches!(&self.course, Course::Connection(connection) if matches!(connection.remote, Upstream::Unix(_)))
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
