//! nginx whose own functions cannot be hooked: what the kernel and its log say alone makes a case.
//!
//! A connection that failed takes the log's line about it, by worker, upstream and order. A line
//! about a failure that is left over makes a case of its own: a request that never had a connection
//! leaves nothing else.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
};

use super::{Attempt, Course, lines::bytes, open::OpenCase, request::Request, workers::Workers};
use crate::event::{
    Connection, Failure, LogCall, LogLine, RequestId, RouteLookup, Said, Time, Upstream,
};

/// How often such logs are read without a reason (nanoseconds), and how old a line is that nothing
/// took.
const LOOK: u64 = 500_000_000;
const LEFT_OVER: u64 = 1_000_000_000;
/// Masters whose logs are read at once: anyone may run a program that shows nothing but nginx's
/// version.
const MASTERS: usize = 32;
/// Bytes of lines kept; beyond, they are left over at once.
const BYTES: usize = 4 << 20;

/// Which nginx, and the lines of theirs that tell of a failure and were not taken yet.
#[derive(Debug, Default)]
pub(super) struct Alone {
    masters: BTreeSet<u32>,
    looked: Time,
    /// The master whose log was read last.
    last: u32,
    /// By worker and upstream.
    lines: BTreeMap<(u32, Option<String>), VecDeque<LogLine>>,
    bytes: usize,
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

    /// Keeps a line that is one of theirs for certain; gives others back.
    pub(super) fn line(&mut self, line: LogLine, workers: &Workers) -> Option<LogLine> {
        let writer = match line.workers.as_deref() {
            Some(&[worker]) if self.has(worker, workers) => worker,
            _ => return Some(line),
        };
        if is_failure(&line.message) {
            let upstream = line.upstream.as_deref().and_then(named);
            let key = (writer, upstream.map(|upstream| upstream.to_string()));
            self.bytes += bytes(&line);
            self.lines.entry(key).or_default().push_back(line);
        }
        None
    }

    /// The oldest line about a connection to this upstream.
    pub(super) fn take(&mut self, worker: u32, upstream: &Upstream) -> Option<LogLine> {
        let key = (worker, Some(upstream.to_string()));
        let lines = self.lines.get_mut(&key)?;
        let line = lines.pop_front()?;
        if lines.is_empty() {
            self.lines.remove(&key);
        }
        self.bytes -= bytes(&line);
        Some(line)
    }

    /// Completes a case with its lines and the log calls behind them; `None` if nothing says that
    /// it failed.
    pub(super) fn complete(
        &mut self,
        case: &mut OpenCase,
        mut lines: Vec<LogLine>,
    ) -> Option<Vec<LogLine>> {
        let connection = case
            .request
            .attempts
            .iter()
            .find_map(|one| match &one.course {
                Course::Connection(connection) => Some(connection),
                _ => None,
            });
        // One that a connection led to: nginx wrote its line before it closed that.
        let mut at = None;
        if let Some(connection) = connection {
            let has_failed = has_failed(connection);
            at = Some(case.time);
            lines.extend(self.take(case.worker, &connection.remote));
            if lines.is_empty() && !has_failed {
                return None;
            }
        }
        for line in &lines {
            case.request
                .log(call(case.worker, line, at.unwrap_or(line.at)));
        }
        Some(lines)
    }

    /// Workers whose logs are to be read now, one of each master: they share them.
    pub(super) fn look(&mut self, workers: &Workers, now: Time) -> Vec<u32> {
        if self.masters.is_empty() || now.since(self.looked) < LOOK {
            return Vec::new();
        }
        self.looked = now;
        let after = self.masters.range(self.last.saturating_add(1)..);
        let next: Vec<u32> = after
            .chain(self.masters.range(..=self.last))
            .take(MASTERS)
            .copied()
            .collect();
        self.last = next.last().copied().unwrap_or(0);
        workers.one_of_each(&next)
    }

    /// Cases of lines that nothing took.
    pub(super) fn left_over(&mut self, now: Time) -> Vec<OpenCase> {
        let is_too_much = self.bytes > BYTES;
        let mut each: BTreeMap<(u32, u64, Option<String>), Vec<LogLine>> = BTreeMap::new();
        self.lines.retain(|(worker, _), lines| {
            while let Some(line) =
                lines.pop_front_if(|line| is_too_much || now.since(line.at) >= LEFT_OVER)
            {
                self.bytes -= bytes(&line);
                // Several attempts of one request.
                let key = (*worker, line.connection, line.request.clone());
                each.entry(key).or_default().push(line);
            }
            !lines.is_empty()
        });
        let cases = each.into_iter().map(|((worker, ..), mut lines)| {
            lines.sort_by_key(|line| line.at);
            let mut request = Request::default();
            for line in &lines {
                match failure(worker, line) {
                    Some(failure) => request.add(Attempt::failed_at_once(failure)),
                    None => {
                        if let Some(upstream) = line.upstream.as_deref().and_then(named) {
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
fn has_failed(connection: &Connection) -> bool {
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

/// What nginx said, as its call says it.
fn call(worker: u32, line: &LogLine, at: Time) -> LogCall {
    LogCall {
        at,
        worker,
        level: 4,
        errno: errno(&line.message),
        connection: line.connection,
        request: None,
        stream: false,
        format: line.message.as_str().into(),
        unread: None,
        text: None,
        number: error_code(&line.message),
        resolved: resolved(&line.message),
    }
}

/// The code in `upstream sent goaway with error 0 while …`.
fn error_code(message: &str) -> Option<u32> {
    let (_, after) = message.split_once(" with error ")?;
    after.split(' ').next()?.parse().ok()
}

/// Does it report a failed attempt?
fn is_failure(message: &str) -> bool {
    match Said::of(message) {
        Said::Unresolved => true,
        said => said.is_failed_attempt() && message.contains("upstream"),
    }
}

/// A connect() that failed at once, or for want of a peer; connections are reported by the kernel.
fn failure(worker: u32, line: &LogLine) -> Option<Failure> {
    let code = match Said::of(&line.message) {
        Said::ConnectFailedAtOnce => Failure::CONNECT_FAILED,
        Said::NoLiveUpstreams => Failure::NO_PEER,
        _ => return None,
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
            .filter(|_| code == Failure::CONNECT_FAILED),
        source: None,
        block: None,
        code,
        errno: errno(&line.message),
        syn_sent: false,
        routes: RouteLookup {
            unseen: true,
            ..RouteLookup::default()
        },
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

/// The address in `http://127.0.0.1:9001/path`, `fastcgi://unix:/run/php.sock:`, or
/// `127.0.0.1:9001`.
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
