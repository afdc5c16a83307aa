//! What happened around the requests: backends that died or reset connections, name lookups,
//! earlier failures of the same worker. Remembered briefly, joined by socket, process or worker.

use std::{
    collections::{HashSet, VecDeque},
    net::SocketAddr,
};

use super::{
    Attempt, Case, Course,
    remembered::{Limits, Remembered},
};
use crate::event::{Connection, Death, Dns, PeerClosed, Time, Upstream};

/// Deaths remembered, each of some KB at most.
const DEATHS: usize = 1024;
/// Ends of nginx's whose upstreams' ends went away, and how many of each: ports are used again, and
/// by other namespaces. A case waits for an exit meanwhile, so a flood needs many.
const ENDS: usize = 16_384;
const SAME_END: usize = 8192;
const ENDINGS_FOR: u64 = 5_000_000_000;
const ENDINGS_BYTES: usize = 8 << 20;
/// Deaths given to an attempt, the last ones.
const DEATHS_REPORTED: usize = 16;
/// Workers of which steps and failures are remembered, and bytes of each kind.
const WORKERS: usize = 4096;
const BYTES: usize = 16 << 20;
/// Earlier failed requests remembered a worker, and for how long (nanoseconds).
const EARLIER: usize = 32;
const EARLIER_FOR: u64 = 60_000_000_000;
/// Resolver steps remembered a worker, and for how long.
const STEPS: usize = 512;
const STEPS_FOR: u64 = 60_000_000_000;
/// Resolver steps given to a case.
const STEPS_REPORTED: usize = 32;
/// A death this near (nanoseconds) to the end of a unix connection is its upstream's.
const NEAR: u64 = 500_000_000;

/// A process that exits with an error this soon (nanoseconds) after it closed a connection closed
/// it for that. A case waits as long to see it: an interpreter that exits on a busy host takes a
/// quarter of a second.
pub(crate) const EXITS_WITHIN: u64 = 500_000_000;
/// An exit this long (nanoseconds) after a process closed a connection belongs to that. A case
/// waits as long to see that of a process that was asked to stop.
pub(super) const EXIT: u64 = 2_000_000_000;

/// The memory.
#[derive(Debug)]
pub(super) struct Around {
    /// By nginx's end; boxed, as a queue has room for more than is in it.
    endings: Remembered<SocketAddr, Box<PeerClosed>>,
    deaths: VecDeque<Death>,
    /// By worker.
    dns: Remembered<u32, Dns>,
    earlier: Remembered<u32, Case>,
}

impl Default for Around {
    fn default() -> Self {
        Self {
            endings: Remembered::new(Limits {
                at: |closed| closed.at,
                most: SAME_END,
                keys: ENDS,
                fresh: ENDINGS_FOR,
                budget: ENDINGS_BYTES,
            }),
            deaths: VecDeque::new(),
            dns: Remembered::new(Limits {
                at: |step| step.at,
                most: STEPS,
                keys: WORKERS,
                fresh: STEPS_FOR,
                budget: BYTES,
            }),
            earlier: Remembered::new(Limits {
                at: |case| case.time,
                most: EARLIER,
                keys: WORKERS,
                fresh: EARLIER_FOR,
                budget: BYTES,
            }),
        }
    }
}

fn push<T>(queue: &mut VecDeque<T>, value: T, limit: usize) {
    if queue.len() == limit {
        queue.pop_front();
    }
    queue.push_back(value);
}

/// The last steps about a name. A failure names nothing: it is of a server that was asked for the
/// name.
fn about<'a>(name: Option<&str>, steps: impl Iterator<Item = &'a Dns>) -> Vec<Dns> {
    let mut servers = HashSet::new();
    let matters = |step: &&Dns| match name {
        Some(name) if step.is_about(name) => {
            servers.insert(step.server);
            true
        }
        Some(_) => step.name.is_empty() && servers.contains(&step.server),
        None => true,
    };
    let steps: Vec<&Dns> = steps.filter(matters).collect();
    let last = &steps[steps.len().saturating_sub(STEPS_REPORTED)..];
    last.iter().map(|step| (*step).clone()).collect()
}

/// Of how one end went away what says most about an attempt that was over at `end`.
fn telling<'a>(
    same: impl DoubleEndedIterator<Item = &'a PeerClosed> + Clone,
    end: Time,
) -> Option<&'a PeerClosed> {
    // What follows the first one after its end may be of the next connection from that port.
    let mut during = same.clone().filter(|closed| closed.at <= end);
    // A reset and the close that makes it are reported one after the other.
    let says_how = |closed: &&PeerClosed| closed.reset.is_some() || closed.death.is_some();
    let said = during.clone().rfind(says_how);
    said.or_else(|| during.next_back())
        .or_else(|| same.clone().next())
}

impl Around {
    pub(super) fn peer_closed(&mut self, closed: PeerClosed) {
        self.endings.push(closed.local, Box::new(closed));
    }

    pub(super) fn death(&mut self, death: Death) {
        push(&mut self.deaths, death, DEATHS);
    }

    pub(super) fn dns(&mut self, dns: Dns) {
        self.dns.push(dns.worker, dns);
    }

    /// The worker ended.
    pub(super) fn ended(&mut self, worker: u32) {
        self.dns.remove(&worker);
        self.earlier.remove(&worker);
    }

    /// Remembers a request of which attempts failed, with all that is known of them.
    pub(super) fn failed(&mut self, case: &Case) {
        let is_failed = |attempt: &Attempt| attempt.upstream.is_some() && !attempt.has_response();
        if case.attempts.iter().any(is_failed) {
            let case = Case {
                earlier: Vec::new(),
                dns: Vec::new(),
                log_lines: Vec::new(),
                ..case.clone()
            };
            self.earlier.push(case.worker, case);
        }
    }

    /// How the upstream's end of an attempt went away.
    pub(super) fn complete(&self, attempt: &mut Attempt) {
        let Course::Connection(connection) = &attempt.course else {
            return;
        };
        match (&connection.remote, connection.local) {
            (Upstream::Inet(_), Some(_)) => {
                let closed = self.closed(attempt).cloned();
                let is_its_own = |death: &&Death| {
                    closed.as_ref().is_some_and(|closed| {
                        death.pid == closed.pid
                            && death.at >= closed.at
                            && death.at <= closed.at.plus(EXIT)
                    })
                };
                let deaths = self.deaths.iter().filter(is_its_own).take(1);
                attempt.deaths = deaths.cloned().collect();
                if let Course::Connection(connection) = &mut attempt.course
                    && let Some(closed) = &closed
                    && closed.translated
                {
                    connection.translated.get_or_insert(closed.remote);
                }
                attempt.peer_closed = closed.map(Box::new);
            }
            (Upstream::Unix(_), _) => {
                let holder = connection.holder.as_ref().map(|holder| holder.pid);
                let listener = connection.listener_pid;
                let is_its_own = |death: &&Death| match (holder, listener) {
                    (Some(holder), _) => death.pid == holder,
                    (None, Some(listener)) => death.pid == listener || death.parent == listener,
                    (None, None) => false,
                };
                let deaths = self.deaths.iter().rev().filter(is_its_own);
                let near = if holder.is_some() { EXIT } else { NEAR };
                attempt.deaths = deaths
                    .filter(|death| death.at >= attempt.start && death.at <= attempt.end.plus(near))
                    .take(DEATHS_REPORTED)
                    .cloned()
                    .collect();
                attempt.deaths.reverse();
            }
            _ => {}
        }
    }

    /// What the address of a connection that is over is translated to, by how the upstream's end
    /// went away.
    pub(super) fn translation(&self, connection: &Connection) -> Option<SocketAddr> {
        let local = connection.local?;
        let mut endings = self.endings.get(&local)?.iter().rev();
        let closed = endings.find(|closed| {
            closed.translated
                && (closed.netns == 0 || closed.netns == connection.netns)
                && closed.at >= connection.start
        })?;
        Some(closed.remote)
    }

    /// Who closed the upstream's end of a TCP attempt.
    fn closed(&self, attempt: &Attempt) -> Option<&PeerClosed> {
        let Course::Connection(connection) = &attempt.course else {
            return None;
        };
        let (Upstream::Inet(remote), Some(local)) = (&connection.remote, connection.local) else {
            return None;
        };
        let all = self.endings.get(&local)?.iter().map(|closed| &**closed);
        let same = all.filter(|closed| {
            (closed.netns == 0 || closed.netns == connection.netns)
                && closed.at >= connection.start
                && closed.at <= attempt.end.plus(NEAR)
        });
        // Another program may have the same local end towards elsewhere.
        let exact = same.clone().filter(|closed| closed.remote == *remote);
        let translated = same.filter(|closed| closed.translated);
        telling(exact, attempt.end).or_else(|| telling(translated, attempt.end))
    }

    /// Did a living process end the attempt's connection that may be on its way out? Its exit
    /// decides.
    pub(super) fn awaits_exit(&self, attempt: &Attempt, now: Time) -> bool {
        let Course::Connection(connection) = &attempt.course else {
            return false;
        };
        let ended = connection
            .fin_received
            .or(connection.rst_received)
            .or(connection.end_read);
        let Some(ended) = ended else {
            return false;
        };
        let (pid, signal, at) = match &connection.remote {
            Upstream::Inet(_) => match self.closed(attempt) {
                Some(closed) if closed.death.is_none() => {
                    (closed.pid, closed.signal.as_ref(), closed.at)
                }
                _ => return false,
            },
            Upstream::Unix(_) => match &connection.holder {
                Some(holder) => (holder.pid, holder.signal.as_ref(), ended),
                None => return false,
            },
        };
        let is_expected =
            signal.is_some_and(|signal| signal.asks_to_stop() && signal.is_of_late(at));
        let is_near = now.since(at) <= EXITS_WITHIN;
        let is_seen = || {
            self.deaths
                .iter()
                .any(|death| death.pid == pid && death.at >= attempt.start)
        };
        (is_expected || is_near) && !is_seen()
    }

    /// Where nginx tried no peer: what may have led to it.
    pub(super) fn add(&self, case: &mut Case) {
        if case
            .attempts
            .iter()
            .any(|attempt| attempt.upstream.is_some())
        {
            return;
        }
        let young = |at: Time, span: u64| at <= case.time && case.time.since(at) < span;
        if let Some(earlier) = self.earlier.get(&case.worker) {
            case.earlier = earlier
                .iter()
                .filter(|before| young(before.time, EARLIER_FOR))
                .cloned()
                .collect();
        }
        if let Some(steps) = self.dns.get(&case.worker) {
            let calls = case.log_calls.iter();
            let name = calls.filter_map(|call| call.resolved.as_ref()).next();
            let name = name.map(|(name, _)| name.as_str());
            case.dns = about(name, steps.iter().filter(|step| young(step.at, STEPS_FOR)));
        }
    }

    pub(super) fn forget(&mut self, now: Time) {
        self.endings.forget_each(now, EARLIER_FOR);
        self.deaths
            .retain(|death| now.since(death.at) < EARLIER_FOR);
        self.dns.forget_each(now, STEPS_FOR);
        self.earlier.forget_each(now, EARLIER_FOR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that ended at this ms, of a RST or not.
    fn closed(remote: &str, at: u64, reset: Option<&str>, translated: bool) -> PeerClosed {
        PeerClosed {
            at: Time(at * 1_000_000),
            local: "10.0.0.1:40000".parse().unwrap(),
            remote: remote.parse().unwrap(),
            netns: 1,
            translated,
            unread: 0,
            pid: 7,
            name: "app".to_owned(),
            parent: 6,
            signal: None,
            reset: reset.map(str::to_owned),
            death: None,
        }
    }

    #[test]
    fn a_reset_says_more_than_the_close_that_makes_it() {
        let all = [
            closed("10.0.0.5:80", 1, Some("RST"), false),
            closed("10.0.0.5:80", 2, None, false),
            closed("10.0.0.5:80", 9, Some("LATER"), false),
        ];
        let at = |end: u64| telling(all.iter(), Time(end * 1_000_000)).unwrap().at.0 / 1_000_000;
        assert_eq!((at(5), at(9), at(0)), (1, 9, 1));
        let plain = [&all[1]];
        let one = telling(plain.into_iter(), Time(5_000_000)).unwrap();
        assert_eq!(one.reset, None);
    }
}
