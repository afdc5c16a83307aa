//! Lines of nginx's log on their way to their requests, by worker and connection number.
//!
//! One client connection can carry many requests; each takes as many lines as nginx made log calls for it, in order.

use std::collections::{HashMap, VecDeque};

use super::open::OpenCase;
use crate::event::{LogLine, Time, fact::Worker};

/// Lines unclaimed for so long (nanoseconds) belong to nothing that fails.
const UNCLAIMED: u64 = 5_000_000_000;
/// Lines kept in all; beyond, new ones are not taken.
const LINES: usize = 16_384;

/// Lines not claimed yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// By pid as nginx printed it, and connection number.
    by_connection: HashMap<(u32, u64), VecDeque<LogLine>>,
    count: usize,
}

impl Lines {
    pub(super) fn add(&mut self, line: LogLine) {
        if self.count >= LINES {
            return;
        }
        self.count += 1;
        self.by_connection
            .entry((line.pid, line.connection))
            .or_default()
            .push_back(line);
    }

    /// The lines of a case: as many as it made calls, if those are seen.
    pub(super) fn take(
        &mut self,
        identity: Option<&Worker>,
        case: &OpenCase,
        is_call_seen: bool,
    ) -> Vec<LogLine> {
        let pid = identity.map_or(case.worker, |worker| worker.own_pid);
        let Some(connection) = case.connection() else {
            return Vec::new();
        };
        let Some(lines) = self.by_connection.get_mut(&(pid, connection)) else {
            return Vec::new();
        };
        let calls = case
            .request
            .log_calls
            .iter()
            .filter(|call| call.connection == connection)
            .count();
        // A masked request takes its lines later than the next on its connection does.
        let (mut mine, mut rest): (VecDeque<_>, VecDeque<_>) =
            lines.drain(..).partition(|line| is_of(line, case));
        if case.head().is_none() {
            mine.append(&mut rest);
        }
        let wanted = if is_call_seen { calls } else { mine.len() };
        let taken: Vec<LogLine> = mine.drain(..wanted.min(mine.len())).collect();
        mine.append(&mut rest);
        *lines = mine;
        self.count -= taken.len();
        if lines.is_empty() {
            self.by_connection.remove(&(pid, connection));
        }
        taken
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_connection.values().map(VecDeque::len).sum()
    }

    pub(super) fn forget(&mut self, now: Time) {
        self.by_connection.retain(|_, lines| {
            lines.retain(|line| now.since(line.at) < UNCLAIMED);
            !lines.is_empty()
        });
        self.count = self.by_connection.values().map(VecDeque::len).sum();
    }
}

/// Does it look like the case's: its request line where that is known (of a long one the beginning), else one of its
/// upstreams? Only names depend on it, where a client's connection carried several failures at once.
fn is_of(line: &LogLine, case: &OpenCase) -> bool {
    if let Some(head) = case.head() {
        let request = line.request.as_deref();
        return request.is_some_and(|request| request.starts_with(&head.line));
    }
    let Some(logged) = line.upstream.as_deref() else {
        return false;
    };
    let mut upstreams = case
        .request
        .attempts
        .iter()
        .filter_map(|attempt| attempt.upstream.as_ref());
    upstreams.any(|upstream| logged.contains(&upstream.to_string()))
}
