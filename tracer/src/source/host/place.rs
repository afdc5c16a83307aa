//! In which network namespace of this host an address lives: a container's, the host's own, or none
//! of them.
//!
//! Two containers may have the same address, and a container's root may give itself any. So it is
//! not enough to own the address: the way there is followed from the worker's namespace, as its
//! packets go. The route names the next hop, the neighbour table its link address, and the
//! namespace that has an interface with that is the next one; until the address is local there. A
//! physical interface or a tunnel leads off this host.
//!
//! Bounded: at most [`HOPS`] namespaces on the way; [`NAMESPACES`] are known by their link
//! addresses, collected again within [`SEARCH`] and for at most a tenth of the time.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::{
    conntrack::{self, Led},
    link, neighbor, owner, route, sock_diag,
};
use crate::{
    event::{Time, fact::Owner},
    process::{self, Netns},
};

const HOPS: usize = 4;
const NAMESPACES: usize = 1024;
const SEARCH: Duration = Duration::from_millis(200);
/// Link addresses remembered.
const ADDRESSES: usize = 16_384;

/// Searches for single connections, at most so many in [`SINGLE_IN`] nanoseconds, each this long at
/// most: every one lists sockets in each namespace.
const SINGLE: usize = 20;
const SINGLE_IN: u64 = 1_000_000_000;
const SINGLE_SEARCH: Duration = Duration::from_millis(50);
/// Translated addresses remembered.
const TRANSLATIONS: usize = 256;

/// When it was asked, and when it is answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) at: Time,
    pub(super) now: Time,
}

/// Where an address lives.
#[derive(Debug)]
pub(super) enum Place {
    /// In the namespace that was asked about.
    Here,
    /// In another one of this host, and who is in there (its process with the lowest pid).
    There(Netns, Owner),
    /// On no network namespace of this host.
    Remote,
    /// Another namespace of this host may be it, but the way there was not found, or not all could
    /// be looked at.
    Unclear,
}

/// What is known of this host's network namespaces, each by a process in it.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    at: Time,
    took: Duration,
    /// When it was collected by the clock.
    since: Option<Instant>,
    /// Number, and the lowest pid in it.
    all: Vec<(u32, u32)>,
    /// Which of them have an interface with this address.
    by_link: HashMap<link::Address, Vec<usize>>,
    is_whole: bool,
    /// What addresses were found to be translated to of late, by the namespace that asks.
    translations: HashMap<(u32, SocketAddr), (SocketAddr, Time)>,
    /// When single connections were searched for of late.
    searched: VecDeque<Time>,
    /// Processes of the namespaces on the way that was followed last, behind the first.
    passed: Vec<u32>,
}

impl Namespaces {
    /// Follows the way of a packet to `address` from a namespace. What the host was like before
    /// `asked` is not enough to say that an address is nowhere on it.
    pub(super) fn find(&mut self, from: &Netns, address: IpAddr, asked: Time, now: Time) -> Place {
        if address.is_loopback() {
            return Place::Here;
        }
        let mut on_the_way: Option<(Netns, Owner)> = None;
        self.passed.clear();
        for hop in 0..HOPS {
            let at = on_the_way.as_ref().map_or(from, |(netns, _)| netns);
            let Ok(way) = route::way(at, address) else {
                return Place::Unclear;
            };
            if way.is_local {
                return match on_the_way {
                    None => Place::Here,
                    Some((netns, _)) if netns.id() == from.id() => Place::Here,
                    Some((netns, owner)) => Place::There(netns, owner),
                };
            }
            let Some((next, interface)) = way.next_hop else {
                return Place::Remote;
            };
            match link::leads_to_neighbors(at, interface) {
                Ok(true) => {}
                Ok(false) => return Place::Remote,
                Err(_) => return Place::Unclear,
            }
            let Ok(neighbor) = neighbor::entry(at, next, interface) else {
                return Place::Unclear;
            };
            let at = at.id();
            let Some(link) = neighbor.link else {
                // Nobody there, or a link without addresses.
                return match neighbor.is_silent {
                    true => Place::Remote,
                    false if hop == 0 => self.somewhere(from, address, asked, now),
                    false => Place::Unclear,
                };
            };
            match self.with_link(link, (next, at), asked, now) {
                Next::One(netns, owner) => {
                    self.passed.push(owner.pid);
                    on_the_way = Some((netns, owner));
                }
                Next::None => return Place::Remote,
                Next::Unclear => return Place::Unclear,
            }
        }
        Place::Unclear
    }

    /// The upstream's end of a connection in whichever other namespace has it, and that namespace:
    /// found by nginx's end, as an address translation (DNAT) leaves that as it is.
    pub(super) fn by_nginxs_end(
        &mut self,
        from: &Netns,
        (local, remote): (SocketAddr, SocketAddr),
        asked: Asked,
    ) -> Option<(Netns, SocketAddr)> {
        let now = asked.now;
        // What the address led to before: the connection itself shows whether it does again.
        if let Some(&(end, _)) = self.translations.get(&(from.id(), remote))
            && let Place::There(netns, _) = self.find(from, end.ip(), asked.at, now)
            && let Ok(Some(_)) = sock_diag::connection(&netns, end, local)
        {
            return Some((netns, end));
        }
        self.searched.retain(|at| now.since(*at) < SINGLE_IN);
        if self.searched.len() >= SINGLE || local.ip().is_loopback() {
            return None;
        }
        self.searched.push_back(now);
        self.collect(asked.at, now);
        let until = Instant::now() + SINGLE_SEARCH;
        let mut found = None;
        for &(id, pid) in self.all.iter().filter(|(id, _)| *id != from.id()) {
            if Instant::now() > until {
                break;
            }
            let Some(netns) = open(id, pid) else {
                continue;
            };
            for end in sock_diag::of_remote(&netns, local).unwrap_or_default() {
                // Two with the same: either may be it.
                if found.replace((id, pid, end)).is_some() {
                    return None;
                }
            }
        }
        let (id, pid, end) = found?;
        self.remember((from.id(), remote), end, now);
        Some((open(id, pid)?, end))
    }

    /// What an address is translated to that is on none of this host's namespaces, as far as the
    /// way was just followed from that of a worker.
    pub(super) fn translation(
        &mut self,
        (from, worker): (&Netns, u32),
        remote: SocketAddr,
        now: Time,
    ) -> Led {
        if let Some((end, at)) = self.translations.get(&(from.id(), remote))
            && now.since(*at) < SINGLE_IN
        {
            return Led::To(*end);
        }
        let on_the_way = [worker].into_iter().chain(self.passed.iter().copied());
        let led = on_the_way
            .map(|pid| conntrack::translation(pid, remote))
            .find(|led| *led != Led::Straight)
            .unwrap_or(Led::Straight);
        if let Led::To(end) = led {
            self.remember((from.id(), remote), end, now);
        }
        led
    }

    fn remember(&mut self, asked: (u32, SocketAddr), end: SocketAddr, now: Time) {
        if self.translations.len() >= TRANSLATIONS {
            self.translations.clear();
        }
        self.translations.insert(asked, (end, now));
    }

    /// Whether any other namespace owns the address: then it may be that one.
    fn somewhere(&mut self, from: &Netns, address: IpAddr, asked: Time, now: Time) -> Place {
        self.collect(asked, now);
        let until = Instant::now() + SEARCH;
        let mut others = self.all.iter().filter(|(id, _)| *id != from.id());
        let is_owned = others.any(|&(id, pid)| {
            Instant::now() > until || open(id, pid).is_some_and(|netns| owns(&netns, address))
        });
        match is_owned || !self.is_whole {
            true => Place::Unclear,
            false => Place::Remote,
        }
    }

    /// The namespace with an interface of that address on the link, other than the one that asks.
    fn with_link(
        &mut self,
        link: link::Address,
        (next, at): (IpAddr, u32),
        asked: Time,
        now: Time,
    ) -> Next {
        let mut found = self.known(link, at);
        if found.is_empty() {
            self.collect(asked, now);
            found = self.known(link, at);
        }
        if found.len() > 1 {
            found.retain(|(netns, _)| owns(netns, next));
        }
        match (found.pop(), found.is_empty()) {
            (Some((netns, pid)), true) => match owner::describe(pid) {
                Some(owner) => Next::One(netns, owner),
                None => Next::Unclear,
            },
            (Some(_), false) => Next::Unclear,
            // Those of several that were known may be gone; and a namespace that came since was not
            // looked at.
            (None, _) if self.by_link.contains_key(&link) => Next::Unclear,
            (None, _) if self.is_whole && self.at >= asked => Next::None,
            (None, _) => Next::Unclear,
        }
    }

    fn known(&self, link: link::Address, at: u32) -> Vec<(Netns, u32)> {
        let known = self.by_link.get(&link).into_iter().flatten();
        known
            .map(|&index| self.all[index])
            .filter(|(id, _)| *id != at)
            .filter_map(|(id, pid)| Some((open(id, pid)?, pid)))
            .collect()
    }

    /// Looks at the namespaces of all processes, unless that was done since `asked`, or takes too
    /// much of the time.
    fn collect(&mut self, asked: Time, now: Time) {
        let is_soon = self
            .since
            .is_some_and(|since| since.elapsed() < self.took * 10);
        if is_soon || (self.since.is_some() && self.at >= asked) {
            return;
        }
        let began = Instant::now();
        let until = began + SEARCH;
        *self = Self {
            at: now,
            is_whole: true,
            translations: std::mem::take(&mut self.translations),
            searched: std::mem::take(&mut self.searched),
            passed: std::mem::take(&mut self.passed),
            ..Self::default()
        };
        let mut seen = HashSet::new();
        let mut addresses = 0;
        for pid in process::pids().unwrap_or_default() {
            if Instant::now() > until || self.all.len() >= NAMESPACES || addresses >= ADDRESSES {
                self.is_whole = false;
                break;
            }
            let Some(id) = owner::netns_of(pid).filter(|id| seen.insert(*id)) else {
                continue;
            };
            let Some(links) = open(id, pid).and_then(|netns| link::addresses(&netns).ok()) else {
                // Its process has just ended; another may be in it.
                seen.remove(&id);
                continue;
            };
            let index = self.all.len();
            self.all.push((id, pid));
            addresses += links.len();
            for link in links {
                let having = self.by_link.entry(link).or_default();
                if having.last() != Some(&index) {
                    having.push(index);
                }
            }
        }
        self.took = began.elapsed();
        self.since = Some(Instant::now());
    }
}

/// The next namespace on the way.
enum Next {
    One(Netns, Owner),
    None,
    Unclear,
}

/// The namespace with that number, by a process that was in it.
fn open(id: u32, pid: u32) -> Option<Netns> {
    Netns::of(pid).ok().filter(|netns| netns.id() == id)
}

fn owns(netns: &Netns, address: IpAddr) -> bool {
    route::way(netns, address).is_ok_and(|way| way.is_local)
}
