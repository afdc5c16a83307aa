//! Through whose eyes the host is looked at: a worker's, or for a worker that has just ended (a reload, a crash) its
//! master's with the worker's own user.

use std::collections::HashMap;

use anyhow::{Context as _, Result};

use crate::process::{self, Status};

/// Workers remembered; beyond, those that ended are forgotten.
const REMEMBERED: usize = 8192;

/// A process that shares the worker's namespaces and root, and the worker's user.
#[derive(Debug)]
pub(super) struct Viewer {
    /// Whose `/proc` entries count.
    pub(super) pid: u32,
    /// The worker's own.
    pub(super) status: Status,
}

/// What workers were like when last seen.
#[derive(Debug, Default)]
pub(super) struct Viewers {
    seen: HashMap<u32, Status>,
}

impl Viewers {
    /// The worker, or who stands in for it.
    ///
    /// # Errors
    /// It is gone, and so is its master, or it was never seen.
    pub(super) fn of(&mut self, worker: u32) -> Result<Viewer> {
        let gone = match process::status(worker) {
            Ok(status) => {
                if self.seen.len() >= REMEMBERED {
                    self.seen.retain(|&pid, _| process::status(pid).is_ok());
                }
                self.seen.insert(worker, status.clone());
                return Ok(Viewer {
                    pid: worker,
                    status,
                });
            }
            Err(error) => error,
        };
        let stand_in = self.seen.get(&worker).cloned().and_then(|status| {
            let pid = status.parent;
            process::status(pid)
                .is_ok()
                .then_some(Viewer { pid, status })
        });
        stand_in
            .ok_or(gone)
            .with_context(|| format!("status of worker {worker}"))
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_worker_that_ended_is_stood_in_for_by_its_parent() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .spawn()
            .expect("cat");
        let mut viewers = Viewers::default();
        assert_eq!(viewers.of(child.id()).expect("alive").pid, child.id());
        drop(child.stdin.take());
        child.wait().expect("it ends with its input");
        assert_eq!(
            viewers.of(child.id()).expect("a stand-in").pid,
            std::process::id()
        );
        assert!(viewers.of(u32::MAX).is_err());
    }
}
