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

/// An address as the workers of a master meet it.
type Key = (u32, SocketAddr);

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
    by_client: HashMap<Key, Hop>,
    by_local: HashMap<Key, Hop>,
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

    /// Whether the other one's request is its own, passed on: not one with the same ports before or
    /// after it.
    fn leads_to(&self, inner: &Self) -> bool {
        self.local == Some(inner.client)
            && self.remote.port() == inner.port
            && (self.start..=self.at).contains(&inner.at)
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
        let (client, local) = ((master, hop.client), hop.local.map(|local| (master, local)));
        self.by_client.insert(client, hop);
        if let Some(local) = local {
            self.by_local.insert(local, hop);
        }
        self.order.push_back((hop.at, client, local));
        while self.order.len() > HOPS
            || self
                .order
                .front()
                .is_some_and(|(at, ..)| hop.at.since(*at) > WITHIN)
        {
            let Some((at, client, local)) = self.order.pop_front() else {
                break;
            };
            let is_it = |known: Option<&Hop>| known.is_some_and(|known| known.at == at);
            if is_it(self.by_client.get(&client)) {
                self.by_client.remove(&client);
            }
            if let Some(local) = local
                && is_it(self.by_local.get(&local))
            {
                self.by_local.remove(&local);
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

    fn outer(&self, master: u32, hop: &Hop) -> Option<&Hop> {
        let outer = self.by_local.get(&(master, hop.client))?;
        outer.leads_to(hop).then_some(outer)
    }

    fn inner(&self, master: u32, hop: &Hop) -> Option<&Hop> {
        let inner = self.by_client.get(&(master, hop.local?))?;
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
