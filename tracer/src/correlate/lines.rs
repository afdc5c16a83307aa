//! Lines of nginx's log on their way to their requests, by worker and connection number.
//!
//! A worker is known by whose log it is that the line was read from. Where that leaves several, or
//! none, the line must agree with what was seen of the request itself, or it is nobody's. One
//! client connection can carry many requests; each takes as many lines as nginx made log calls for
//! it, in order.

use std::collections::{HashMap, VecDeque};

use super::open::OpenCase;
use crate::event::{LogCall, LogLine, Time, fact::Worker};

/// Lines unclaimed for so long (nanoseconds) belong to nothing that fails.
const UNCLAIMED: u64 = 5_000_000_000;
/// Bytes of lines kept in each of two generations; when the younger is full the older goes. nginx
/// writes 2 KB a line at most.
const GENERATION: usize = 3 << 20;

/// By writer and connection number.
type Key = (Writer, u64);

/// Who wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Writer {
    /// This worker, by pid on the host.
    Worker(u32),
    /// Whoever has this pid in its own pid namespace.
    Printed(u32),
}

impl Writer {
    fn of(line: &LogLine) -> Self {
        match line.workers.as_deref() {
            Some(&[worker]) => Self::Worker(worker),
            _ => Self::Printed(line.pid),
        }
    }
}

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
        let key = (Writer::of(&line), line.connection);
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
        let calls = case.request.log_calls.iter();
        let calls: Vec<&LogCall> = calls.filter(|call| call.connection == connection).collect();
        let wanted = if is_call_seen {
            calls.len()
        } else {
            usize::MAX
        };
        let attempts = case.request.attempts.iter();
        let upstreams: Vec<String> = attempts
            .filter_map(|attempt| attempt.upstream.as_ref().map(ToString::to_string))
            .collect();
        let own = (Writer::Worker(case.worker), connection);
        let printed = (Writer::Printed(pid), connection);
        let is_old = |line: &LogLine| line.workers.is_none();
        // Behind them later requests' may wait, many in a flood. A masked request takes its own
        // later than the next one does.
        let mut taken = self.claim(own, wanted, |line| is_of(line, case, &upstreams));
        if case.head().is_none() {
            let more = wanted.saturating_sub(taken.len());
            taken.extend(self.claim(own, more, |_| true));
        }
        let more = wanted.saturating_sub(taken.len());
        taken.extend(self.claim(printed, more, |line| {
            is_old(line) && is_of(line, case, &upstreams)
        }));
        if case.head().is_none() {
            let more = wanted.saturating_sub(taken.len());
            taken.extend(self.claim(printed, more, is_old));
        }
        let more = wanted.saturating_sub(taken.len());
        let is_possible = |line: &LogLine| {
            let workers = line.workers.as_deref().unwrap_or(&[]);
            !is_old(line) && (workers.is_empty() || workers.contains(&case.worker))
        };
        taken.extend(self.claim(printed, more, |line| {
            is_possible(line) && agrees(line, case, &upstreams, &calls)
        }));
        taken
    }

    /// Takes the first `wanted` of these that are meant.
    fn claim(
        &mut self,
        key: Key,
        wanted: usize,
        is_meant: impl Fn(&LogLine) -> bool,
    ) -> Vec<LogLine> {
        // The older ones stay where they are, or a connection that is claimed often keeps them for
        // good.
        let mut taken = Vec::new();
        for generation in [&mut self.old, &mut self.young] {
            let Some(lines) = generation.lines.get_mut(&key) else {
                continue;
            };
            taken.extend(take(lines, wanted - taken.len(), &is_meant));
            if lines.is_empty() {
                generation.lines.remove(&key);
            }
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
pub(super) fn bytes(line: &LogLine) -> usize {
    let texts = [&line.client, &line.host, &line.request, &line.upstream];
    let texts = texts.into_iter().flatten().map(String::len);
    let workers = line.workers.as_ref().map_or(0, |all| size_of_val(&all[..]));
    size_of::<LogLine>() + line.message.len() + texts.sum::<usize>() + workers
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

/// Does it look like the case's: its request line where that is known (of a long one the
/// beginning), else one of its upstreams? Only names depend on it, where a client's connection
/// carried several failures at once.
fn is_of(line: &LogLine, case: &OpenCase, upstreams: &[String]) -> bool {
    if let Some(head) = case.head() {
        let request = line.request.as_deref();
        return request.is_some_and(|request| request.starts_with(&head.line));
    }
    let logged = line.upstream.as_deref().unwrap_or_default();
    upstreams.iter().any(|upstream| logged.contains(upstream))
}

/// Does all that was seen of the case say that a line of doubtful origin is its own? Its request
/// line, where that is known; else all of its client, one of its upstreams and one of nginx's
/// calls.
fn agrees(line: &LogLine, case: &OpenCase, upstreams: &[String], calls: &[&LogCall]) -> bool {
    let client = case
        .client()
        .map(|client| client.ip().to_canonical().to_string());
    if let (Some(seen), Some(logged)) = (&client, &line.client)
        && seen != logged
    {
        return false;
    }
    if let Some(head) = case.head() {
        let is_host = match (&head.host, &line.host) {
            (Some(seen), Some(logged)) => seen == logged,
            _ => true,
        };
        return is_host && is_of(line, case, upstreams);
    }
    client.is_some()
        && line.client.is_some()
        && is_of(line, case, upstreams)
        && calls.iter().any(|call| is_written_by(line, call))
}

/// Did this call write it? As far as its format is fixed, and by the errno.
fn is_written_by(line: &LogLine, call: &LogCall) -> bool {
    let fixed = call.format.split('%').next().unwrap_or_default();
    let errno = format!(" ({}: ", call.errno);
    line.message.starts_with(fixed) && (call.errno == 0 || line.message.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a flood over one connection some requests claim their line, and most do not.
    #[test]
    fn a_connection_that_is_claimed_often_keeps_no_more_than_two_generations() {
        let mut lines = Lines::default();
        let key = (Writer::Worker(7), 1);
        for number in 0..20_000 {
            lines.add(LogLine {
                connection: 1,
                message: "x".repeat(1000),
                request: Some(number.to_string()),
                workers: Some(vec![7]),
                ..LogLine::default()
            });
            if number % 100 == 99 {
                let wanted = number.to_string();
                let is_meant = |line: &LogLine| line.request.as_ref() == Some(&wanted);
                assert_eq!(lines.claim(key, 1, is_meant).len(), 1);
            }
        }
        let kept = lines.len() * 1000;
        assert!(kept <= 2 * GENERATION, "{kept}");
    }
}
