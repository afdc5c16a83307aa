//! Resources of nginx that are near their limits: polled once a second, reported when that begins
//! and ends.
//!
//! A worker or listener that cannot be read is skipped.

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::SocketAddr,
};

use anyhow::Result;

use super::{
    descriptors,
    gauge::{Change, Gauge},
    sock_diag::{self, Query, TcpSocket},
};
use crate::{
    event::{
        Time,
        notice::{Notice, Strain},
    },
    nginx::{self, Binaries},
    process::{self, Netns},
};

/// Listening sockets looked at a namespace.
const LISTENERS: usize = 4096;
/// Workers looked at in a second: questions wait meanwhile, and where some do already fewer are
/// looked at.
const AT_ONCE: usize = 32;
const AT_ONCE_BUSY: usize = 8;
/// Descriptors of a master looked at: its listeners are among the first.
const DESCRIPTORS: usize = 4096;

/// What is known of the workers and listeners so far.
#[derive(Debug, Default)]
pub(super) struct Strains {
    binaries: Binaries,
    workers: HashMap<u32, Worker>,
    /// The worker that was looked at last.
    last: u32,
    listeners: HashMap<(u32, SocketAddr, u32), Listener>,
}

#[derive(Debug)]
struct Worker {
    master: u32,
    /// See [`nginx::cycle_at`]; `None` until it is looked at.
    cycle_at: Option<Option<u64>>,
    descriptors: Gauge,
    connections: Gauge,
}

#[derive(Debug)]
struct Listener {
    gauge: Gauge,
    dropped: u32,
    /// `ListenOverflows` of its namespace.
    overflows: u64,
}

/// A listener of nginx's as it is now.
struct Seen {
    socket: TcpSocket,
    somaxconn: Option<u32>,
    overflows: u64,
}

impl Strains {
    pub(super) fn follow(&mut self, worker: u32, master: u32) {
        self.workers.entry(worker).or_insert_with(|| Worker {
            master,
            cycle_at: None,
            descriptors: Gauge::default(),
            connections: Gauge::default(),
        });
    }

    pub(super) fn forget(&mut self, worker: u32) {
        self.workers.remove(&worker);
    }

    /// Looks at all of them.
    pub(super) fn look(&mut self, now: Time, is_busy: bool) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut masters = HashMap::new();
        for pid in self.due(if is_busy { AT_ONCE_BUSY } else { AT_ONCE }) {
            if let Some(worker) = self.workers.get_mut(&pid) {
                notices.extend(worker.look(pid, &mut self.binaries, now));
                masters.insert(worker.master, pid);
            }
        }
        let looked: HashSet<u32> = masters.keys().copied().collect();
        let mut present = HashSet::new();
        for (master, worker) in masters {
            // The listeners are the master's; of workers without one they are their own.
            let holder = if sockets(master).is_empty() {
                worker
            } else {
                master
            };
            for seen in listeners(holder, worker).unwrap_or_default() {
                let key = (master, seen.socket.local, seen.socket.inode);
                present.insert(key);
                notices.extend(self.listener(key, &seen, now));
            }
        }
        let followed: HashSet<u32> = self.workers.values().map(|worker| worker.master).collect();
        self.listeners.retain(|key, _| {
            present.contains(key) || (followed.contains(&key.0) && !looked.contains(&key.0))
        });
        notices
    }

    /// The workers to look at this time: all, or the next of very many.
    fn due(&mut self, most: usize) -> Vec<u32> {
        let mut pids: Vec<u32> = self.workers.keys().copied().collect();
        pids.sort_unstable();
        let next = pids.partition_point(|pid| *pid <= self.last);
        pids.rotate_left(next);
        pids.truncate(most);
        self.last = pids.last().copied().unwrap_or(0);
        pids
    }

    fn listener(&mut self, key: (u32, SocketAddr, u32), seen: &Seen, now: Time) -> Option<Notice> {
        let socket = &seen.socket;
        let listener = self.listeners.entry(key).or_insert(Listener {
            gauge: Gauge::default(),
            dropped: socket.drops,
            overflows: seen.overflows,
        });
        let dropped = socket.drops.wrapping_sub(listener.dropped);
        let overflowed = seen.overflows > listener.overflows;
        (listener.dropped, listener.overflows) = (socket.drops, seen.overflows);
        let is_full = socket.receive_queue > socket.send_queue;
        let change = listener.gauge.sample(
            now,
            dropped > 0 && (overflowed || is_full),
            dropped == 0 && !is_full,
        )?;
        Some(Notice {
            at: now,
            pid: key.0,
            strain: Strain::ListenQueue {
                address: socket.local,
                queue: socket.receive_queue,
                limit: socket.send_queue,
                somaxconn: seen.somaxconn,
                dropped,
            },
            is_over: change == Change::Ends,
        })
    }
}

impl Worker {
    fn look(&mut self, pid: u32, binaries: &mut Binaries, now: Time) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut tell = |change: Option<Change>, strain: Strain| {
            notices.extend(change.map(|change| Notice {
                at: now,
                pid,
                strain,
                is_over: change == Change::Ends,
            }));
        };
        if let Ok(view) = descriptors::view(pid) {
            let (open, limit) = (view.open, view.soft_limit);
            let change = self.descriptors.share(now, open, limit);
            tell(change, Strain::Descriptors { open, limit });
        }
        let cycle_at = *self.cycle_at.get_or_insert_with(|| {
            let binary = binaries.of(pid).ok()?;
            nginx::cycle_at(pid, &binary)
        });
        if let Some(connections) = cycle_at.and_then(|at| nginx::connections(pid, at)) {
            let (used, limit) = (connections.used, connections.limit);
            let change = self.connections.share(now, used, limit);
            tell(change, Strain::Connections { used, limit });
        }
        notices
    }
}

/// The TCP listeners that a process of nginx's holds, in a worker's network namespace.
fn listeners(holder: u32, worker: u32) -> Result<Vec<Seen>> {
    let inodes = sockets(holder);
    let overflows = listen_overflows(worker).unwrap_or(0);
    let netns = Netns::of(worker)?;
    let mut sockets = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let query = Query {
            family,
            states: sock_diag::LISTENING,
            remote_port: 0,
            limit: LISTENERS,
        };
        // A kernel without IPv6 has no v6 listeners.
        let _ = sock_diag::tcp(&netns, query, |socket| sockets.push(socket));
    }
    let somaxconn = netns.number("core/somaxconn");
    let own = sockets
        .into_iter()
        .filter(|socket| inodes.contains(&socket.inode));
    Ok(own
        .map(|socket| Seen {
            socket,
            somaxconn,
            overflows,
        })
        .collect())
}

/// Inodes of a process's sockets.
fn sockets(pid: u32) -> HashSet<u32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return HashSet::new();
    };
    let inode = |entry: std::io::Result<fs::DirEntry>| {
        let target = fs::read_link(entry.ok()?.path()).ok()?;
        let number = target.to_str()?.strip_prefix("socket:[")?;
        number.strip_suffix(']')?.parse().ok()
    };
    entries.take(DESCRIPTORS).filter_map(inode).collect()
}

/// `ListenOverflows` of a process's network namespace.
fn listen_overflows(pid: u32) -> Option<u64> {
    let text = process::read_start(format!("/proc/{pid}/net/netstat"), 64 * 1024).ok()?;
    overflows(&String::from_utf8_lossy(&text))
}

/// A line of names, then one of numbers.
fn overflows(netstat: &str) -> Option<u64> {
    let mut lines = netstat.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let at = names
        .split_ascii_whitespace()
        .position(|name| name == "ListenOverflows")?;
    numbers.split_ascii_whitespace().nth(at)?.parse().ok()
}

/// See [`super::read_proc`].
pub(super) fn read(text: &str) {
    let _ = overflows(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflows_are_found_by_their_name() {
        let text = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 22 333\nIpExt: A\nIpExt: 0\n";
        assert_eq!(overflows(text), Some(22));
        assert_eq!(overflows(""), None);
    }

    #[test]
    fn this_process_s_listener_is_found_and_healthy() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let pid = std::process::id();
        let seen = listeners(pid, pid).unwrap();
        let address = listener.local_addr().unwrap();
        let own: Vec<_> = seen
            .iter()
            .filter(|seen| seen.socket.local == address)
            .collect();
        assert_eq!(own.len(), 1);
        assert_eq!(own[0].socket.drops, 0);
        // A worker with a small binary: reading that of this test takes long in a debug build, and
        // whoever else looks at this process meanwhile gets ETIMEDOUT.
        let mut worker = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("cat");
        let mut strains = Strains::default();
        strains.follow(worker.id(), pid);
        assert_eq!(strains.look(Time(1), false), []);
        drop(worker.stdin.take());
        worker.wait().expect("it ends with its input");
    }
}
