//! Requests that nginx passes to itself: the local address of its own connection to an upstream is
//! the address of another request's client. Hop by hop they are one client's request.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
};

use super::{Course, case::Looped, open::OpenCase};
use crate::event::{FirstByte, Time, Upstream};

/// Hops remembered.
const HOPS: usize = 16_384;
/// How long (nanoseconds): a chain fails hop by hop, within milliseconds, and its ports may then be
/// others'.
const WITHIN: u64 = 1_000_000_000;
/// A case waits so long for further hops of its chain.
const GATHERED: u64 = 200_000_000;
/// A request that is passed to the same address so often is in a loop.
const LOOP: usize = 3;

/// A client's end as the workers of a master meet it, and the port that it connected to.
type Key = (u32, SocketAddr, u16);

/// A request that came from `client` and was passed from `local` to `remote`.
#[derive(Debug, Clone, Copy)]
struct Hop {
    /// When it was passed on, and when that failed.
    start: Time,
    at: Time,
    client: SocketAddr,
    /// The port that the client connected to.
    port: u16,
    local: Option<SocketAddr>,
    remote: SocketAddr,
    /// It has a case of its own.
    is_case: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Passes {
    /// Those with the same ends in the order of their failure: ends are used again.
    by_client: HashMap<Key, VecDeque<Hop>>,
    by_local: HashMap<Key, VecDeque<Hop>>,
    order: VecDeque<(Time, Key, Option<Key>)>,
}

/// What a case is in a chain of hops.
pub(super) enum Part {
    /// Its request is not passed in a loop.
    None,
    /// Of a loop, within: another case reports it.
    Inner,
    /// Of a loop: this case reports it.
    Reporter(Looped),
}

impl Hop {
    fn of(case: &OpenCase) -> Option<Self> {
        let last = case.request.attempts.last()?;
        let Some(Upstream::Inet(remote)) = last.upstream else {
            return None;
        };
        let first = case.request.first_byte.as_deref();
        let is_answered = case.is_answered_by_nginx();
        Some(Self {
            start: last.start,
            at: if is_answered { case.time } else { first?.at },
            client: case.client()?,
            port: case.server_port()?,
            local: match &last.course {
                Course::Connection(connection) => connection.local,
                Course::Succeeded => first?.local,
                Course::FailedAtOnce(_) | Course::Logged => None,
            },
            remote,
            is_case: true,
        })
    }

    /// By whom the request came.
    fn from(&self, master: u32) -> Key {
        (master, self.client, self.port)
    }

    /// As whom it was passed on.
    fn towards(&self, master: u32) -> Option<Key> {
        Some((master, self.local?, self.remote.port()))
    }

    /// Whether the request with these ends is its own, passed on: not one that had them before or
    /// after it.
    fn leads_to(&self, inner: &Self) -> bool {
        (self.start..=self.at).contains(&inner.at)
    }
}

/// Forgets the oldest hop of these ends.
fn forget(hops: &mut HashMap<Key, VecDeque<Hop>>, key: Key) {
    if let Some(of_key) = hops.get_mut(&key) {
        of_key.pop_front();
        if of_key.is_empty() {
            hops.remove(&key);
        }
    }
}

impl Passes {
    /// The upstream answered with an error; a 502 or 504 has a case of its own.
    pub(super) fn passed(&mut self, master: u32, first: &FirstByte) {
        if let (Some(client), Some(port), Some(Upstream::Inet(remote)), Some(status)) =
            (first.client, first.server_port, &first.remote, first.status)
        {
            let hop = Hop {
                start: first.start,
                at: first.at,
                client,
                port,
                local: first.local,
                remote: *remote,
                is_case: matches!(status, 502 | 504),
            };
            self.add(master, hop);
        }
    }

    /// nginx answered with an error.
    pub(super) fn answered(&mut self, master: u32, case: &OpenCase) {
        if let Some(hop) = Hop::of(case) {
            self.add(master, hop);
        }
    }

    fn add(&mut self, master: u32, hop: Hop) {
        let (client, local) = (hop.from(master), hop.towards(master));
        self.by_client.entry(client).or_default().push_back(hop);
        if let Some(local) = local {
            self.by_local.entry(local).or_default().push_back(hop);
        }
        self.order.push_back((hop.at, client, local));
        let is_old = |(at, ..): &(Time, Key, Option<Key>)| hop.at.since(*at) > WITHIN;
        while self.order.len() > HOPS || self.order.front().is_some_and(is_old) {
            let Some((_, client, local)) = self.order.pop_front() else {
                break;
            };
            forget(&mut self.by_client, client);
            if let Some(local) = local {
                forget(&mut self.by_local, local);
            }
        }
    }

    /// Does a case wait for further hops, `waited` nanoseconds after it was opened?
    pub(super) fn gathers(&self, master: u32, case: &OpenCase, waited: u64) -> bool {
        let Some(hop) = Hop::of(case).filter(|_| waited < GATHERED) else {
            return false;
        };
        self.outer(master, &hop).is_some()
            || self.inner(master, &hop).is_some()
            || case.is_without_slot()
    }

    /// The first to fail after it.
    fn outer(&self, master: u32, hop: &Hop) -> Option<&Hop> {
        let with_ends = self.by_local.get(&hop.from(master))?;
        let outer = with_ends.get(with_ends.partition_point(|outer| outer.at < hop.at))?;
        outer.leads_to(hop).then_some(outer)
    }

    /// The last to fail before it.
    fn inner(&self, master: u32, hop: &Hop) -> Option<&Hop> {
        let with_ends = self.by_client.get(&hop.towards(master)?)?;
        let before = with_ends.partition_point(|inner| inner.at <= hop.at);
        let inner = with_ends.get(before.checked_sub(1)?)?;
        hop.leads_to(inner).then_some(inner)
    }

    /// Which part a case has.
    pub(super) fn part(&self, master: u32, case: &OpenCase) -> Part {
        let Some(own) = Hop::of(case) else {
            return Part::None;
        };
        let mut remotes = vec![own.remote];
        let mut last = &own;
        while let Some(hop) = self.inner(master, last)
            && remotes.len() < HOPS
        {
            remotes.push(hop.remote);
            last = hop;
        }
        let (mut first, mut is_within) = (&own, false);
        while let Some(hop) = self.outer(master, first)
            && remotes.len() < HOPS
        {
            is_within |= hop.is_case;
            remotes.push(hop.remote);
            first = hop;
        }
        let (end, first) = (last.remote, first.client);
        let passes = remotes.iter().filter(|remote| **remote == end).count();
        if passes < LOOP {
            return Part::None;
        }
        if is_within {
            return Part::Inner;
        }
        Part::Reporter(Looped {
            passes: remotes.len(),
            to: end,
            client: first,
        })
    }
}
