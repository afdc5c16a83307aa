//! Which process holds a socket: the kernel does not say, so `/proc/*/fd` is searched.
//!
//! Bounded: one search looks for all the sockets of a question at once, for at most 50 ms of CPU
//! and 500 ms by the clock (a host in an incident gives little CPU), first among the processes of
//! the network namespace in question, and not among workers of a followed nginx where a listener is
//! looked for, which their master holds. What it found is remembered and verified before it is used
//! again; what it did not find is not searched again for ten seconds (a kernel's own listener has
//! no holder at all), or for one if it could not look everywhere.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs,
    os::unix::ffi::OsStrExt as _,
    time::{Duration, Instant},
};

use super::descriptors;
use crate::{
    event::{
        Time,
        fact::{Listener, Owner},
    },
    process,
    source::clock,
};

const SEARCH: Duration = Duration::from_millis(500);
/// Nanoseconds, as the next two.
const SEARCH_CPU: u64 = 50_000_000;
const MISSED_FOR: u64 = 10_000_000_000;
const UNSEARCHED_FOR: u64 = 1_000_000_000;
const REMEMBERED: usize = 4096;
/// Searches for the holders of single connections, at most so many in [`SINGLE_IN`] nanoseconds:
/// each reads every descriptor of a backend that is at work.
const SINGLE: usize = 10;
const SINGLE_IN: u64 = 1_000_000_000;

/// Children of a listener's holder that are looked at, and that are named.
const CHILDREN: usize = 64;
const OTHERS: usize = 8;

/// Remembers who holds which socket.
#[derive(Debug, Default)]
pub(super) struct Owners {
    known: HashMap<u32, Entry>,
    /// Followed workers, and the master of each.
    workers: HashMap<u32, u32>,
    /// Who processes are, and the descriptors and inodes of the sockets of some: for questions that
    /// came before this was looked up.
    described: HashMap<u32, Option<Owner>>,
    sockets: HashMap<u32, Vec<(u32, u32)>>,
    /// When the holders of single connections were searched for of late.
    single: VecDeque<Time>,
}

#[derive(Debug, Clone, Copy)]
enum Entry {
    Held { pid: u32, fd: u32 },
    Missed { until: Time },
}

/// How long a search may take.
#[derive(Debug, Clone, Copy)]
struct Budget {
    until: Instant,
    cpu: u64,
}

impl Budget {
    fn new() -> Self {
        Self {
            until: Instant::now() + SEARCH,
            cpu: clock::thread_cpu() + SEARCH_CPU,
        }
    }

    fn is_spent(&self) -> bool {
        clock::thread_cpu() > self.cpu || Instant::now() > self.until
    }
}

impl Owners {
    /// A worker, and the master that it was forked from.
    pub(super) fn follow(&mut self, worker: u32, master: u32) {
        self.workers.insert(worker, master);
    }

    pub(super) fn forget(&mut self, worker: u32) {
        self.workers.remove(&worker);
    }

    /// Starts another poll: who processes are, and what they hold, is read again.
    pub(super) fn refresh(&mut self) {
        self.described.clear();
        self.sockets.clear();
    }

    /// Finds the holders of these listeners (inode numbers; 0 is none), the lowest pid of each, but
    /// systemd's last. Those of `others` are remembered where the search meets them.
    pub(super) fn find(
        &mut self,
        inodes: &[u32],
        others: &[u32],
        netns: u32,
        now: Time,
    ) -> HashMap<u32, Owner> {
        let wanted = self.unknown(inodes, now);
        if !wanted.is_empty() {
            let mut pids = process::pids().unwrap_or_default();
            let all = pids.clone();
            pids.retain(|pid| match self.workers.get(pid) {
                Some(master) => all.binary_search(master).is_err(),
                None => true,
            });
            self.search(&pids, &wanted, others, netns, now);
        }
        let holders = inodes.iter().map(|&inode| (inode, self.holder(inode)));
        let holders = holders.filter_map(|(inode, pid)| Some((inode, pid?)));
        self.describe_each(holders.collect())
    }

    /// Which of these sockets these processes hold, and no others: without a search.
    pub(super) fn among(&mut self, pids: &[u32], inodes: &[u32]) -> HashMap<u32, Owner> {
        let budget = Budget::new();
        let mut wanted: HashSet<u32> = inodes.iter().copied().collect();
        let mut held = HashMap::new();
        for &pid in pids {
            if wanted.is_empty() {
                break;
            }
            let own = self
                .sockets
                .entry(pid)
                .or_insert_with(|| sockets(pid, budget).collect());
            for &(fd, inode) in &*own {
                if wanted.remove(&inode) {
                    held.insert(inode, pid);
                    self.known.insert(inode, Entry::Held { pid, fd });
                }
            }
        }
        self.describe_each(held)
    }

    /// Of a listener whose connections wait: which children of its holder hold it too, and which of
    /// all these has no descriptor left for another connection.
    pub(super) fn crowd(&mut self, listener: &mut Listener, inode: u32) {
        let Some(owner) = listener.owner.as_mut() else {
            return;
        };
        let budget = Budget::new();
        let mut children = process::children(owner.pid);
        children.truncate(CHILDREN);
        for pid in children {
            if listener.others.len() == OTHERS || budget.is_spent() {
                break;
            }
            let own = self
                .sockets
                .entry(pid)
                .or_insert_with(|| sockets(pid, budget).collect());
            if own.iter().any(|&(_, held)| held == inode) {
                listener.others.extend(describe(pid));
            }
        }
        owner.descriptors = descriptors::exhausted(owner.pid);
        owner.is_left = process::has_lost_its_leader(owner.pid).unwrap_or(false);
        for other in &mut listener.others {
            other.descriptors = descriptors::exhausted(other.pid);
        }
    }

    /// Finds the holder of a connection, unless many were searched for just now.
    pub(super) fn of_connection(&mut self, inode: u32, netns: u32, now: Time) -> Option<Owner> {
        while self
            .single
            .front()
            .is_some_and(|at| now.since(*at) >= SINGLE_IN)
        {
            self.single.pop_front();
        }
        if inode == 0 || self.single.len() >= SINGLE {
            return None;
        }
        self.single.push_back(now);
        let wanted = self.unknown(&[inode], now);
        if !wanted.is_empty() {
            let pids = process::pids().unwrap_or_default();
            self.search(&pids, &wanted, &[], netns, now);
        }
        describe(self.holder(inode)?)
    }

    /// Those of which it has to be searched for the holder.
    fn unknown(&self, inodes: &[u32], now: Time) -> Vec<u32> {
        let is_unknown = |inode: &u32| match self.known.get(inode) {
            Some(Entry::Held { pid, fd }) => !holds(*pid, *fd, *inode),
            Some(Entry::Missed { until }) => now >= *until,
            None => *inode != 0,
        };
        inodes.iter().copied().filter(is_unknown).collect()
    }

    /// Who these are, by inode.
    fn describe_each(&mut self, holders: HashMap<u32, u32>) -> HashMap<u32, Owner> {
        let owners = holders.into_iter().filter_map(|(inode, pid)| {
            let owner = self.described.entry(pid).or_insert_with(|| describe(pid));
            Some((inode, owner.clone()?))
        });
        owners.collect()
    }

    fn holder(&self, inode: u32) -> Option<u32> {
        match self.known.get(&inode)? {
            Entry::Held { pid, .. } => Some(*pid),
            Entry::Missed { .. } => None,
        }
    }

    fn search(&mut self, pids: &[u32], wanted: &[u32], others: &[u32], netns: u32, now: Time) {
        if self.known.len() + wanted.len() + others.len() > REMEMBERED {
            self.known.clear();
        }
        let until = now.plus(UNSEARCHED_FOR);
        for inode in wanted {
            self.known.insert(*inode, Entry::Missed { until });
        }
        let mut missing: HashSet<u32> = wanted.iter().copied().collect();
        let mut noted: HashSet<u32> = others.iter().copied().collect();
        noted.retain(|inode| !self.known.contains_key(inode));
        let budget = Budget::new();
        let (inside, outside): (Vec<u32>, Vec<u32>) = pids
            .iter()
            .partition(|pid| !budget.is_spent() && netns_of(**pid) == Some(netns));
        // What systemd holds to start a service by it, that service holds too.
        let (systemd, rest): (Vec<u32>, Vec<u32>) =
            inside.into_iter().chain(outside).partition(|&pid| pid == 1);
        for pid in rest.into_iter().chain(systemd) {
            if missing.is_empty() || budget.is_spent() {
                break;
            }
            for (fd, inode) in sockets(pid, budget) {
                if missing.remove(&inode) || noted.remove(&inode) {
                    self.known.insert(inode, Entry::Held { pid, fd });
                }
            }
        }
        if !missing.is_empty() && !budget.is_spent() {
            let nowhere = now.plus(MISSED_FOR);
            for inode in missing {
                self.known.insert(inode, Entry::Missed { until: nowhere });
            }
        }
    }
}

/// Who a process is, for a verdict; `None` if it is gone.
pub(super) fn describe(pid: u32) -> Option<Owner> {
    Some(Owner {
        pid,
        name: process::name(pid).ok()?,
        since: process::start_time(pid).ok()?,
        unit: process::unit(pid),
        descriptors: None,
        is_left: false,
    })
}

pub(super) fn netns_of(pid: u32) -> Option<u32> {
    let link = fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
    number_in_brackets(link.as_os_str().as_bytes(), b"net:[")
}

fn holds(pid: u32, fd: u32, inode: u32) -> bool {
    fs::read_link(format!("/proc/{pid}/fd/{fd}"))
        .ok()
        .and_then(|link| number_in_brackets(link.as_os_str().as_bytes(), b"socket:["))
        == Some(inode)
}

fn sockets(pid: u32, budget: Budget) -> impl Iterator<Item = (u32, u32)> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .take_while(move |_| !budget.is_spent())
        .filter_map(|entry| {
            let link = fs::read_link(entry.path()).ok()?;
            let inode = number_in_brackets(link.as_os_str().as_bytes(), b"socket:[")?;
            Some((entry.file_name().to_str()?.parse().ok()?, inode))
        })
}

fn number_in_brackets(link: &[u8], prefix: &[u8]) -> Option<u32> {
    let digits = link.strip_prefix(prefix)?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::fd::AsRawFd as _};

    use super::*;

    #[test]
    fn a_socket_is_found_again_only_while_it_is_held() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = std::process::id();
        let (_, inode) = sockets(own, Budget::new())
            .find(|(fd, _)| i32::try_from(*fd) == Ok(listener.as_raw_fd()))
            .unwrap();
        let netns = netns_of(own).unwrap();
        let mut owners = Owners::default();
        let found = owners.find(&[inode], &[], netns, Time(1));
        assert_eq!(found[&inode].pid, own);
        drop(listener);
        assert!(owners.find(&[inode], &[], netns, Time(2)).is_empty());
        assert!(owners.find(&[inode], &[], netns, Time(3)).is_empty());
    }
}
