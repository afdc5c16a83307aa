//! Through whose eyes the host is looked at: a worker's, or for a worker that has just ended (a
//! reload, a crash) its master's with the worker's own user.

use std::{collections::HashMap, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::process::{self, Status};

/// Workers remembered; beyond, those that ended are forgotten.
const REMEMBERED: usize = 8192;

/// A process that shares the worker's namespaces and root, and the worker's user.
#[derive(Debug)]
pub(super) struct Viewer {
    /// Whose `/proc` entries count.
    pub(super) pid: u32,
    /// The worker's own; `None` where it ended before it was seen at work.
    pub(super) status: Option<Status>,
}

/// What workers were like when last seen.
#[derive(Debug, Default)]
pub(super) struct Viewers {
    seen: HashMap<u32, Seen>,
}

#[derive(Debug)]
struct Seen {
    parent: u32,
    place: Option<Place>,
    /// At work: a worker begins with its master's user (`ngx_worker_process_init`,
    /// src/os/unix/ngx_process_cycle.c).
    at_work: Option<Status>,
}

impl Viewers {
    /// A worker that begins, or is met. Gives its master, if it is still there.
    pub(super) fn meet(&mut self, worker: u32) -> Option<u32> {
        let status = process::status(worker).ok()?;
        let parent = status.parent;
        self.remember(worker, parent, Some(status).filter(is_set_up));
        Some(parent)
    }

    /// Looks at those again that had not their user yet.
    pub(super) fn look(&mut self) {
        for (&worker, seen) in &mut self.seen {
            if seen.at_work.is_none() {
                let status = process::status(worker).ok();
                seen.at_work = status.filter(|now| now.parent == seen.parent && is_set_up(now));
            }
        }
    }

    /// Returns the worker of which something has failed, or who represents it.
    ///
    /// # Errors
    /// It is gone, and so is its master, or it was never seen.
    pub(super) fn of(&mut self, worker: u32) -> Result<Viewer> {
        let status = process::status(worker);
        if let Ok(status) = &status {
            self.remember(worker, status.parent, Some(status.clone()));
        }
        // Of one that ended and is not reaped yet the status can be read, its root and namespaces
        // cannot.
        let stand_in = match has_ended(worker) {
            true => self.stand_in(worker),
            false => None,
        };
        if let Some(stand_in) = stand_in {
            return Ok(stand_in);
        }
        let status = status.with_context(|| format!("status of worker {worker}"))?;
        Ok(Viewer {
            pid: worker,
            status: Some(status),
        })
    }

    fn stand_in(&self, worker: u32) -> Option<Viewer> {
        let seen = self.seen.get(&worker)?;
        // Whoever took in an orphan may live elsewhere.
        let is_there = seen.place.is_some() && place(seen.parent) == seen.place;
        is_there.then(|| Viewer {
            pid: seen.parent,
            status: seen.at_work.clone(),
        })
    }

    fn remember(&mut self, worker: u32, parent: u32, at_work: Option<Status>) {
        if self.seen.len() >= REMEMBERED {
            self.seen.retain(|&pid, _| process::status(pid).is_ok());
        }
        // One that ended and is not reaped yet has none any more.
        let known = self.seen.get(&worker).and_then(|seen| seen.place.clone());
        let seen = Seen {
            parent,
            place: place(worker).or(known),
            at_work,
        };
        self.seen.insert(worker, seen);
    }
}

/// Mount and network namespaces, as their links show them.
type Place = [PathBuf; 2];

fn place(pid: u32) -> Option<Place> {
    let link = |kind: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    Some([link("mnt")?, link("net")?])
}

/// Whether it has ended, perhaps without being reaped yet.
pub(super) fn has_ended(pid: u32) -> bool {
    place(pid).is_none()
}

/// Whether its user is final: only root's children can change theirs.
fn is_set_up(status: &Status) -> bool {
    status.uid != 0 || process::status(status.parent).is_ok_and(|parent| parent.uid != 0)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_worker_that_ended_is_represented_by_its_parent() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .spawn()
            .expect("cat");
        let mut viewers = Viewers::default();
        assert_eq!(viewers.meet(child.id()), Some(std::process::id()));
        assert_eq!(viewers.of(child.id()).expect("alive").pid, child.id());
        drop(child.stdin.take());
        // It is a zombie at first, then nothing.
        while !has_ended(child.id()) {
            std::thread::yield_now();
        }
        let assert_parent = |viewers: &mut Viewers, pid| {
            let viewer = viewers.of(pid).expect("its parent");
            assert_eq!(viewer.pid, std::process::id());
            assert!(viewer.status.is_some());
        };
        assert_parent(&mut viewers, child.id());
        child.wait().expect("it ends with its input");
        assert_parent(&mut viewers, child.id());
        assert!(viewers.of(u32::MAX).is_err());
    }

    #[test]
    fn of_a_worker_that_was_seen_at_its_beginning_only_the_user_is_not_known() {
        if process::status(std::process::id()).expect("ours").uid != 0 {
            println!(
                "SKIPPED: of_a_worker_that_was_seen_at_its_beginning_only_the_user_is_not_known: needs root"
            );
            return;
        }
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .spawn()
            .expect("cat");
        let mut viewers = Viewers::default();
        viewers.meet(child.id());
        drop(child.stdin.take());
        child.wait().expect("it ends with its input");
        assert!(viewers.of(child.id()).expect("a stand-in").status.is_none());
    }
}
