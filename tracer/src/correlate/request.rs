//! A request in flight: its attempts so far.

use super::{Attempt, Course, replies::Ticket};
use crate::event::{FirstByte, Heap as _, LogCall, Said, Sent, Time};

/// Log calls kept a request.
const LOG_CALLS: usize = 32;
/// Attempts kept a request; `proxy_next_upstream_tries` is rarely above a handful.
const ATTEMPTS: usize = 64;
/// How an answer in HTTP/2 is kept: a SETTINGS frame is first, and 4 its type.
pub(crate) const HTTP2_SETTINGS: u8 = 4;

/// What is known of a request before it ends. Small: most were served at once, and there are many.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub(super) attempts: Vec<Attempt>,
    pub(super) log_calls: Vec<LogCall>,
    /// The attempt that serves it, until its connection's record comes (a kept-alive one may stay
    /// open for long), and the status it got.
    serving: Option<Box<(Attempt, Option<u16>)>>,
    /// The latest first byte: it names the client.
    pub(super) first_byte: Option<Box<FirstByte>>,
    pub(super) heard: Time,
    /// A further attempt has begun, and its record has not come.
    pub(super) is_trying: bool,
    /// What its client got, and when that began, 0 before the last failure.
    pub(super) reply: Option<(u16, Time)>,
    /// Of its client's request, which is reported once its client was answered.
    pub(super) ticket: Option<Ticket>,
    /// When it was last put among those that may settle.
    pub(super) settles: Option<Time>,
    /// Bytes of its attempts and log calls.
    kept: usize,
}

impl Request {
    /// Bytes that it holds beyond its own size.
    pub(super) fn bytes(&self) -> usize {
        let serving = self.serving.as_ref().map_or(0, |serving| {
            size_of::<(Attempt, Option<u16>)>() + serving.0.heap()
        });
        self.kept + serving + self.first_byte.heap()
    }

    /// A record written while a connection was open, and the one at its end, are of one attempt; so
    /// are those of a socket that connect() opened and of connect() failing at once.
    fn is_same(&self, attempt: &Attempt) -> bool {
        self.attempts.last().is_some_and(|last| {
            let is_socket = last.socket().is_some() && attempt.socket() == last.socket();
            let is_failed_at_once = matches!(attempt.course, Course::FailedAtOnce(_));
            is_socket || is_failed_at_once && attempt.start == last.start
        })
    }

    #[inline]
    pub(super) fn add(&mut self, attempt: Attempt) {
        self.serving = None;
        self.is_trying = false;
        if self.is_same(&attempt)
            && let Some(same) = self.attempts.pop()
        {
            self.kept -= size_of::<Attempt>() + same.heap();
        }
        if self.attempts.len() < ATTEMPTS {
            self.kept += size_of::<Attempt>() + attempt.heap();
            // Most requests have one attempt, and one is large.
            if self.attempts.is_empty() {
                self.attempts.reserve_exact(1);
            }
            self.attempts.push(attempt);
        }
    }

    /// It may settle from then on. `false`: it is among those that may already.
    pub(super) fn settles_at(&mut self, at: Time) -> bool {
        self.settles.replace(at) != Some(at)
    }

    /// A response begins.
    pub(super) fn serve(&mut self, attempt: Attempt, first: &FirstByte) {
        self.is_trying = false;
        self.serving = Some(Box::new((attempt, first.status)));
        self.first_byte = Some(Box::new(first.clone()));
    }

    pub(super) fn log(&mut self, call: LogCall) {
        if self.log_calls.len() < LOG_CALLS {
            self.kept += size_of::<LogCall>() + call.heap();
            self.log_calls.push(call);
        }
    }

    /// Did its last attempt serve it, or something else although that failed, or is it a session
    /// that no further attempt followed? (After a failure of an HTTP request an error answer comes,
    /// or another attempt; or its client is gone.)
    pub(super) fn is_settled(&self) -> bool {
        let is_served = self.attempts.last().is_some_and(Attempt::has_response);
        !self.is_trying
            && (self.serving.is_some() || is_served || self.reply.is_some() || self.is_stream())
    }

    /// Did its last attempt fail, with neither another after it nor an error answer? Its client
    /// left, or got a reply from elsewhere.
    pub(super) fn is_given_up(&self) -> bool {
        let failed = self
            .attempts
            .last()
            .is_some_and(|attempt| !attempt.has_response());
        failed && self.serving.is_none() && !self.is_trying && !self.is_stream()
    }

    /// Did an attempt of it fail?
    pub(super) fn has_failed(&self) -> bool {
        self.attempts.iter().any(|attempt| !attempt.has_response())
    }

    /// Whether it belongs to a `stream {}` proxy, which makes no error answers.
    pub(super) fn is_stream(&self) -> bool {
        self.log_calls.iter().any(|call| call.stream)
    }

    /// Did nginx say that the TLS handshake of a session failed? Its bytes alone do not distinguish
    /// it from what follows.
    pub(super) fn has_failed_handshake(&self) -> bool {
        let tells = |call: &LogCall| {
            call.said().is_of_certificate()
                || call.said() == Said::PeerClosedInHandshake
                || call.text_said() == Said::HandshakeFailed
        };
        let since = self.attempts.last().map_or(Time(0), |last| last.start);
        let mut calls = self.log_calls.iter();
        self.is_stream() && calls.any(|call| call.at >= since && tells(call))
    }

    /// When the response broke off that the last attempt began: it fell short of its
    /// `Content-Length`, or nginx says so. A FIN, a RST or a failed write alone may follow a whole
    /// response.
    pub(super) fn broke_off(&self) -> Option<Time> {
        let by_socket = match self.attempts.last().map(|attempt| &attempt.course) {
            Some(Course::Connection(connection)) if connection.broke_off => connection
                .end_read
                .or(connection.transfer_error.map(|(_, at)| at)),
            _ => None,
        };
        let has_begun = || matches!(self.reply, Some((_, Time(0))));
        // nginx reads on before it looks at what it has (src/event/ngx_event_pipe.c).
        let is_whole = self.attempts.last().is_some_and(
            |attempt| matches!(&attempt.course, Course::Connection(connection) if connection.whole),
        );
        by_socket
            .or_else(|| self.logged(Said::breaks_off).filter(|_| !is_whole))
            .or_else(|| self.logged(Said::is_of_storage))
            // Before the client's header was sent, it is the response that nginx refuses.
            .or_else(|| self.logged(Said::is_refusal).filter(|_| has_begun()))
            .or_else(|| self.answered_in_http2())
    }

    /// When nginx took an answer in HTTP/2 for one in HTTP/0.9, which its client can do nothing
    /// with.
    fn answered_in_http2(&self) -> Option<Time> {
        let Some(Course::Connection(c)) = self.attempts.last().map(|attempt| &attempt.course)
        else {
            return None;
        };
        self.logged(|said| said == Said::Sent(Sent::NoHttp1Header))
            .filter(|_| c.first_received == Some(HTTP2_SETTINGS))
    }

    /// Did something else take the place of what the last attempt gave: a cache?
    pub(super) fn is_replaced(&self) -> bool {
        let Some((_, replied)) = self.reply else {
            return false;
        };
        let failed = !self.attempts.last().is_some_and(Attempt::has_response);
        let ends = [self.broke_off(), self.logged(Said::is_refusal)];
        self.serving.is_none() && (failed || ends.into_iter().flatten().any(|end| end < replied))
    }

    /// When nginx first said such a thing in the last attempt.
    fn logged(&self, is_such: fn(Said) -> bool) -> Option<Time> {
        let since = self
            .attempts
            .last()
            .map_or(Time(0), |attempt| attempt.start);
        let mut calls = self.log_calls.iter();
        let call = calls.find(|call| call.at >= since && is_such(call.said()))?;
        Some(call.at)
    }

    /// All attempts, with the status that the last got; `serving` joins them.
    pub(super) fn take_serving(&mut self) -> Option<u16> {
        match self.serving.take() {
            Some(serving) => {
                let (attempt, status) = *serving;
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
    pub(crate) fn has_response(&self) -> bool {
        match &self.course {
            Course::FailedAtOnce(_) | Course::Logged => false,
            Course::Connection(connection) => connection.first_byte.is_some(),
            Course::Succeeded => true,
        }
    }
}
