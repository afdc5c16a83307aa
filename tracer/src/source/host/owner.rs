//! Which process holds a socket: the kernel does not say, so `/proc/*/fd` is searched.
//!
//! Bounded: one search looks for all the sockets of a question at once, for at most 50 ms of CPU and 500 ms by the clock
//! (a host in an incident gives little CPU), first among the processes of the network namespace in question. What it
//! found is remembered and verified before it is used again; what it did not find is not searched again for ten seconds
//! (a kernel's own listener has no holder at all), or for one if it could not look everywhere.

use std::{
    collections::{HashMap, VecDeque},
    fs,
    os::unix::ffi::OsStrExt as _,
    time::{Duration, Instant},
};

use crate::{
    event::{Time, fact::Owner},
    process,
    source::clock,
};

const SEARCH: Duration = Duration::from_millis(500);
/// Nanoseconds, as the next two.
const SEARCH_CPU: u64 = 50_000_000;
const MISSED_FOR: u64 = 10_000_000_000;
const UNSEARCHED_FOR: u64 = 1_000_000_000;
const REMEMBERED: usize = 4096;
/// Searches for the holders of single connections, at most so many in [`SINGLE_IN`] nanoseconds: each reads every
/// descriptor of a backend that is at work.
const SINGLE: usize = 10;
const SINGLE_IN: u64 = 1_000_000_000;

/// Remembers who holds which socket.
#[derive(Debug, Default)]
pub(super) struct Owners {
    known: HashMap<u32, Entry>,
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
    /// Finds the holders of these sockets (inode numbers; 0 is none), the lowest pid of each.
    pub(super) fn find(&mut self, inodes: &[u32], netns: u32, now: Time) -> HashMap<u32, Owner> {
        let mut wanted: Vec<u32> = Vec::new();
        for &inode in inodes.iter().filter(|inode| **inode != 0) {
            match self.known.get(&inode) {
                Some(Entry::Held { pid, fd }) if holds(*pid, *fd, inode) => {}
                Some(Entry::Missed { until }) if now < *until => {}
                _ => wanted.push(inode),
            }
        }
        if !wanted.is_empty() {
            self.search(&wanted, netns, now);
        }
        let mut owners = HashMap::new();
        let mut described: HashMap<u32, Option<Owner>> = HashMap::new();
        for &inode in inodes {
            if let Some(Entry::Held { pid, .. }) = self.known.get(&inode)
                && let Some(owner) = described.entry(*pid).or_insert_with(|| describe(*pid))
            {
                owners.insert(inode, owner.clone());
            }
        }
        owners
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
        self.find(&[inode], netns, now).remove(&inode)
    }

    fn search(&mut self, wanted: &[u32], netns: u32, now: Time) {
        if self.known.len() + wanted.len() > REMEMBERED {
            self.known.clear();
        }
        let until = now.plus(UNSEARCHED_FOR);
        for inode in wanted {
            self.known.insert(*inode, Entry::Missed { until });
        }
        let budget = Budget::new();
        let mut missing = wanted.len();
        let (inside, outside): (Vec<u32>, Vec<u32>) = process::pids()
            .unwrap_or_default()
            .into_iter()
            .partition(|pid| !budget.is_spent() && netns_of(*pid) == Some(netns));
        for pid in inside.into_iter().chain(outside) {
            if missing == 0 || budget.is_spent() {
                break;
            }
            missing -= self.take(pid, wanted, budget);
        }
        if missing > 0 && !budget.is_spent() {
            let nowhere = now.plus(MISSED_FOR);
            for inode in wanted {
                if let Some(Entry::Missed { until }) = self.known.get_mut(inode) {
                    *until = nowhere;
                }
            }
        }
    }

    /// Notes which of the wanted sockets a process holds that nobody was found to hold before; gives how many.
    fn take(&mut self, pid: u32, wanted: &[u32], budget: Budget) -> usize {
        let mut taken = 0;
        for (fd, inode) in sockets(pid, budget) {
            if let Some(entry @ Entry::Missed { .. }) = self.known.get_mut(&inode)
                && wanted.contains(&inode)
            {
                *entry = Entry::Held { pid, fd };
                taken += 1;
            }
        }
        taken
    }
}

/// Who a process is, for a verdict; `None` if it is gone.
pub(super) fn describe(pid: u32) -> Option<Owner> {
    Some(Owner {
        pid,
        name: process::name(pid).ok()?,
        since: process::start_time(pid).ok()?,
        unit: process::unit(pid),
    })
}

fn netns_of(pid: u32) -> Option<u32> {
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
        let found = owners.find(&[inode], netns, Time(1));
        assert_eq!(found[&inode].pid, own);
        drop(listener);
        assert!(owners.find(&[inode], netns, Time(2)).is_empty());
        assert!(owners.find(&[inode], netns, Time(3)).is_empty());
    }
}
