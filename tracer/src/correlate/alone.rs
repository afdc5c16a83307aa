//! nginx whose own functions cannot be hooked: what the kernel and its log say alone makes a case.
//!
//! A connection that failed takes the log's line about it, by worker, upstream and order. A line that tells of a failure and is
//! left over makes a case of its own: what never had a connection leaves nothing else.

use std::{collections::HashSet, net::SocketAddr};

use super::{Attempt, lines::Lines, open::OpenCase, request::Request, workers::Workers};
use crate::event::{Connection, Failure, LogCall, LogLine, RequestId, RouteLookup, Time, Upstream};

/// How often such logs are read without a reason (nanoseconds), and how old a line is that nothing took.
pub(super) const LOOK: u64 = 500_000_000;
const LEFT_OVER: u64 = 1_000_000_000;
/// `NGX_DECLINED`: connect() failed at once.
const DECLINED: i32 = -5;
/// `NGX_BUSY`: no peer was left.
const BUSY: i32 = -3;

/// Which nginx.
#[derive(Debug, Default)]
pub(super) struct Alone {
    masters: HashSet<u32>,
    looked: Time,
}

impl Alone {
    /// All that this master's workers show is what the kernel and their log say.
    pub(super) fn add(&mut self, master: u32) {
        self.masters.insert(master);
    }

    pub(super) fn ended(&mut self, pid: u32) {
        self.masters.remove(&pid);
    }

    pub(super) fn has(&self, worker: u32, workers: &Workers) -> bool {
        !self.masters.is_empty()
            && (self.masters.contains(&worker)
                || workers
                    .get(worker)
                    .is_some_and(|known| self.masters.contains(&known.master)))
    }

    /// The workers whose logs are to be read now.
    pub(super) fn look(&mut self, workers: &Workers, now: Time) -> Vec<u32> {
        if self.masters.is_empty() || now.since(self.looked) < LOOK {
            return Vec::new();
        }
        self.looked = now;
        workers.of(&self.masters)
    }

    /// Cases of lines that nothing took.
    pub(super) fn left_over(worker: u32, lines: &mut Lines, now: Time) -> Vec<OpenCase> {
        let is_left =
            |line: &LogLine| now.since(line.at) >= LEFT_OVER && tells_of_failure(&line.message);
        let mut each: Vec<Vec<LogLine>> = Vec::new();
        for line in lines.take_of(worker, usize::MAX, is_left) {
            // Several attempts of one request follow each other.
            let same = each.iter_mut().find(|same| {
                same.last().is_some_and(|last| {
                    (last.connection, &last.request) == (line.connection, &line.request)
                })
            });
            match same {
                Some(same) => same.push(line),
                None => each.push(vec![line]),
            }
        }
        let cases = each.into_iter().map(|lines| {
            let mut request = Request::default();
            for line in &lines {
                match failure(worker, line) {
                    Some(failure) => request.add(Attempt::failed_at_once(failure)),
                    None => {
                        let upstream = line.upstream.as_deref().and_then(named);
                        if let Some(upstream) = upstream {
                            request.add(Attempt::logged(upstream, line.at));
                        }
                    }
                }
            }
            OpenCase::alone(worker, request, lines, now)
        });
        cases.collect()
    }
}

/// Did it fail, as far as the connection itself shows? nginx closes one whose client left, too.
pub(super) fn has_failed(connection: &Connection) -> bool {
    has_failing_status(connection)
        || connection.first_byte.is_none()
            && (connection.established.is_none()
                || connection.error.is_some()
                || connection.rst_received.is_some()
                || connection.end_read.is_some())
}

/// Is the upstream's own answer a failure?
pub(super) fn has_failing_status(connection: &Connection) -> bool {
    matches!(connection.status, Some(502 | 504))
}

/// Is it about a connection to this upstream?
pub(super) fn is_about(line: &LogLine, upstream: &Upstream) -> bool {
    tells_of_failure(&line.message)
        && line.upstream.as_deref().and_then(named).as_ref() == Some(upstream)
}

/// What nginx said, as its calls say it.
pub(super) fn calls(worker: u32, lines: &[LogLine], at: Time) -> Vec<LogCall> {
    let call = |line: &LogLine| LogCall {
        at,
        worker,
        level: 4,
        errno: errno(&line.message),
        connection: line.connection,
        request: None,
        stream: false,
        format: line.message.clone(),
        unread: None,
        text: None,
        resolved: resolved(&line.message),
    };
    lines.iter().map(call).collect()
}

/// nginx's words for a failed attempt (src/http/ngx_http_upstream.c, src/event/ngx_event_connect.c), or for none.
fn tells_of_failure(message: &str) -> bool {
    const BEGINS: [&str; 14] = [
        "connect() ",
        "upstream timed out",
        "upstream prematurely closed",
        "upstream sent ",
        "upstream rejected",
        "recv() failed",
        "readv() failed",
        "send() failed",
        "writev() failed",
        "no live upstreams",
        "SSL_do_handshake() failed",
        "peer closed connection in SSL handshake",
        "upstream SSL certificate",
        "no resolver defined",
    ];
    (message.contains("upstream") && BEGINS.iter().any(|words| message.starts_with(words)))
        || message.contains("could not be resolved")
}

/// A connect() that failed at once, or for want of a peer; of what has a connection the kernel tells.
fn failure(worker: u32, line: &LogLine) -> Option<Failure> {
    let code = if line.message.starts_with("connect() to ") {
        DECLINED
    } else if line.message.starts_with("no live upstreams") {
        BUSY
    } else {
        return None;
    };
    Some(Failure {
        start: line.at,
        at: line.at,
        worker,
        request: RequestId(line.at.0),
        upstream: line
            .upstream
            .as_deref()
            .and_then(named)
            .filter(|_| code == DECLINED),
        source: None,
        code,
        errno: errno(&line.message),
        syn_sent: false,
        routes: RouteLookup::default(),
    })
}

/// The errno in `connect() failed (111: Connection refused)`; 0 if there is none.
fn errno(message: &str) -> u32 {
    let failed = message.split_once(" failed (").map(|(_, rest)| rest);
    let number = failed.and_then(|rest| rest.split(':').next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

/// Name and state in `NAME could not be resolved (3: Host not found)`.
fn resolved(message: &str) -> Option<(String, u32)> {
    let (name, rest) = message.split_once(" could not be resolved (")?;
    Some((name.to_owned(), rest.split(':').next()?.parse().ok()?))
}

/// The address in `http://127.0.0.1:9001/path`, `fastcgi://unix:/run/php.sock:`, or `127.0.0.1:9001`.
fn named(upstream: &str) -> Option<Upstream> {
    let rest = upstream.split_once("://").map_or(upstream, |(_, it)| it);
    if let Some(path) = rest.strip_prefix("unix:") {
        let path = path.split(':').next().unwrap_or_default();
        return Some(Upstream::Unix(path.to_owned()));
    }
    let address = rest.split('/').next().unwrap_or_default();
    address.parse::<SocketAddr>().ok().map(Upstream::Inet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_its_upstream_and_errno() {
        let inet = |text: &str| Some(Upstream::Inet(text.parse().unwrap()));
        assert_eq!(named("http://127.0.0.1:9001/a:b"), inet("127.0.0.1:9001"));
        assert_eq!(named("127.0.0.1:9001"), inet("127.0.0.1:9001"));
        assert_eq!(named("http://[::1]:80/"), inet("[::1]:80"));
        let unix = Some(Upstream::Unix("/run/php.sock".to_owned()));
        assert_eq!(named("fastcgi://unix:/run/php.sock:"), unix);
        assert_eq!(named("http://unix:/run/php.sock:/a"), unix);
        assert_eq!(named("http://backend/"), None);
        assert_eq!(
            errno("connect() failed (111: Connection refused) while"),
            111
        );
        assert_eq!(errno("no live upstreams while connecting to upstream"), 0);
        let state = resolved("a.test could not be resolved (3: Host not found)");
        assert_eq!(state, Some(("a.test".to_owned(), 3)));
    }
}
