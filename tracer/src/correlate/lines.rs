//! Lines of nginx's log on their way to their requests, by worker and connection number.
//!
//! One client connection can carry many requests; each takes as many lines as nginx made log calls for it, in order.

use std::collections::{HashMap, VecDeque};

use super::open::OpenCase;
use crate::event::{LogLine, Time, fact::Worker};

/// Lines unclaimed for so long (nanoseconds) belong to nothing that fails.
const UNCLAIMED: u64 = 5_000_000_000;
/// Bytes of lines kept in each of two generations; when the younger is full the older goes. nginx writes 2 KB a line at
/// most.
const GENERATION: usize = 3 << 20;

/// By pid as nginx printed it, and connection number.
type Key = (u32, u64);

/// Lines not claimed yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    young: Generation,
    old: Generation,
}

#[derive(Debug, Default)]
struct Generation {
    lines: HashMap<Key, VecDeque<LogLine>>,
    /// Bytes that came into it.
    bytes: usize,
}

impl Lines {
    pub(super) fn add(&mut self, line: LogLine) {
        if self.young.bytes >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.bytes += bytes(&line);
        let key = (line.pid, line.connection);
        self.young.lines.entry(key).or_default().push_back(line);
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
        let key = (pid, connection);
        let mut lines = self.old.lines.remove(&key).unwrap_or_default();
        lines.extend(self.young.lines.remove(&key).into_iter().flatten());
        if lines.is_empty() {
            return Vec::new();
        }
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
        if !mine.is_empty() {
            self.young.lines.insert(key, mine);
        }
        taken
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let generations = [&self.young, &self.old];
        let lines = generations.iter().flat_map(|one| one.lines.values());
        lines.map(VecDeque::len).sum()
    }

    pub(super) fn forget(&mut self, now: Time) {
        for generation in [&mut self.young, &mut self.old] {
            generation.lines.retain(|_, lines| {
                lines.retain(|line| now.since(line.at) < UNCLAIMED);
                !lines.is_empty()
            });
            let lines = generation.lines.values().flatten();
            generation.bytes = lines.map(bytes).sum();
        }
    }
}

/// What a line takes, about.
fn bytes(line: &LogLine) -> usize {
    let texts = [&line.client, &line.host, &line.request, &line.upstream];
    let texts = texts.into_iter().flatten().map(String::len);
    size_of::<LogLine>() + line.message.len() + texts.sum::<usize>()
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
