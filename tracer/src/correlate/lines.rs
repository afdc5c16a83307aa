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
        if let Some(mut older) = self.old.lines.remove(&key) {
            let lines = self.young.lines.entry(key).or_default();
            older.append(lines);
            *lines = older;
        }
        let Some(lines) = self.young.lines.get_mut(&key) else {
            return Vec::new();
        };
        let calls = case
            .request
            .log_calls
            .iter()
            .filter(|call| call.connection == connection)
            .count();
        let wanted = if is_call_seen { calls } else { usize::MAX };
        // Behind them later requests' may wait, many in a flood. A masked request takes its own later than the next one does.
        let attempts = case.request.attempts.iter();
        let upstreams: Vec<String> = attempts
            .filter_map(|attempt| attempt.upstream.as_ref().map(ToString::to_string))
            .collect();
        let mut taken = take(lines, wanted, |line| is_of(line, case, &upstreams));
        if case.head().is_none() {
            let more = wanted.saturating_sub(taken.len());
            taken.extend(take(lines, more, |_| true));
        }
        if lines.is_empty() {
            self.young.lines.remove(&key);
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

/// Takes the first `wanted` that are meant.
fn take(
    lines: &mut VecDeque<LogLine>,
    wanted: usize,
    is_meant: impl Fn(&LogLine) -> bool,
) -> Vec<LogLine> {
    let mut taken = Vec::new();
    let mut at = 0;
    while taken.len() < wanted
        && let Some(line) = lines.get(at)
    {
        if is_meant(line) {
            taken.extend(lines.remove(at));
        } else {
            at += 1;
        }
    }
    taken
}

/// Does it look like the case's: its request line where that is known (of a long one the beginning), else one of its
/// upstreams? Only names depend on it, where a client's connection carried several failures at once.
fn is_of(line: &LogLine, case: &OpenCase, upstreams: &[String]) -> bool {
    if let Some(head) = case.head() {
        let request = line.request.as_deref();
        return request.is_some_and(|request| request.starts_with(&head.line));
    }
    let logged = line.upstream.as_deref().unwrap_or_default();
    upstreams.iter().any(|upstream| logged.contains(upstream))
}
