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
    at: Time,
    client: SocketAddr,
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

impl Passes {
    /// The upstream answered with an error; a 502 or 504 has a case of its own.
    pub(super) fn passed(&mut self, master: u32, first: &FirstByte) {
        if let (Some(client), Some(local), Some(Upstream::Inet(remote)), Some(status)) =
            (first.client, first.local, &first.remote, first.status)
        {
            let hop = Hop {
                at: first.at,
                client,
                local: Some(local),
                remote: *remote,
                is_case: matches!(status, 502 | 504),
            };
            self.add(master, hop);
        }
    }

    /// nginx answered with an error.
    pub(super) fn answered(&mut self, master: u32, case: &OpenCase) {
        if let Some((client, local, remote)) = ends(case) {
            let hop = Hop {
                at: case.time,
                client,
                local,
                remote,
                is_case: true,
            };
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
        let Some((client, local, _)) = ends(case).filter(|_| waited < GATHERED) else {
            return false;
        };
        self.by_local.contains_key(&(master, client))
            || local.is_some_and(|local| self.by_client.contains_key(&(master, local)))
            || case.is_without_slot()
    }

    /// Which part a case has.
    pub(super) fn part(&self, master: u32, case: &OpenCase) -> Part {
        let Some((client, local, remote)) = ends(case) else {
            return Part::None;
        };
        let at = case.time;
        let is_near = |hop: &&Hop| hop.at.since(at).max(at.since(hop.at)) <= WITHIN;
        let outer = |client| self.by_local.get(&(master, client)).filter(is_near);
        let inner = |local| self.by_client.get(&(master, local)).filter(is_near);
        let mut remotes = vec![remote];
        let (mut end, mut from) = (remote, local);
        while let Some(hop) = from.and_then(inner)
            && remotes.len() < HOPS
        {
            remotes.push(hop.remote);
            (end, from) = (hop.remote, hop.local);
        }
        let (mut first, mut is_within) = (client, false);
        while let Some(hop) = outer(first)
            && remotes.len() < HOPS
        {
            is_within |= hop.is_case;
            remotes.push(hop.remote);
            first = hop.client;
        }
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

/// The client of a case's request, and where that was passed from, if a port was chosen, and to.
fn ends(case: &OpenCase) -> Option<(SocketAddr, Option<SocketAddr>, SocketAddr)> {
    let last = case.request.attempts.last()?;
    let Some(Upstream::Inet(remote)) = last.upstream else {
        return None;
    };
    let local = match &last.course {
        // A port that was refused is free at once: the next client may have it.
        Course::Connection(connection) => connection.local.filter(|_| connection.was_established()),
        Course::Succeeded => case.request.first_byte.as_ref()?.local,
        Course::FailedAtOnce(_) | Course::Logged => None,
    };
    Some((case.client()?, local, remote))
}
