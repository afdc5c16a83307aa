//! What happens to a running nginx: it ends, is started again, hands over to another binary.

use anyhow::{Context, Result};

use super::{Nginx, launched, pid_file};
use crate::process;
use crate::wait::{PATIENCE, until};

impl Nginx {
    /// Sends the master `signal` (QUIT or TERM) and waits until none of its processes is left.
    pub fn stop(&mut self, signal: i32) -> Result<()> {
        let mut processes = self.worker_pids();
        processes.push(self.master);
        process::signal(self.master, signal);
        self.gone(&processes)?;
        self.is_running = false;
        Ok(())
    }

    /// Starts it again, with the same configuration, and waits until it answers.
    pub fn start_again(&mut self) -> Result<()> {
        // That of a killed master is still there.
        drop(std::fs::remove_file(self.folder.join("nginx.pid")));
        let (child, master) = launched(&self.netns, &self.folder, &self.config, |_| Ok(()))?;
        self.child = child;
        self.master = master;
        self.is_running = true;
        self.answers()
    }

    /// Hands over to a new master of the same binary (USR2), has `between` done while both serve,
    /// and ends the old one (QUIT).
    pub fn upgrade(&mut self, between: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        let old = self.master;
        let mut retired = self.worker_pids();
        retired.push(old);
        process::signal(old, libc::SIGUSR2);
        let new = until("the master of the new binary", PATIENCE, || {
            let new = pid_file(&self.folder).filter(|pid| *pid != old);
            Ok(new.filter(|pid| process::children(*pid).len() >= self.workers()))
        })
        .with_context(|| self.logged())?;
        self.master = new;
        let done = between(self);
        process::signal(old, libc::SIGQUIT);
        self.gone(&retired)?;
        done
    }

    /// Kills a worker and waits for its successor.
    pub fn kill_worker(&self) -> Result<()> {
        let before = self.worker_pids();
        let dying = *before.first().context("no worker")?;
        process::signal(dying, libc::SIGKILL);
        until("the next worker", PATIENCE, || {
            let workers = self.worker_pids();
            Ok((workers.len() == before.len() && !workers.contains(&dying)).then_some(()))
        })
    }

    /// Waits until none of these processes is left.
    fn gone(&mut self, processes: &[u32]) -> Result<()> {
        until("the end of nginx", PATIENCE, || {
            if let Some(child) = &mut self.child
                && child.try_wait()?.is_some()
            {
                self.child = None;
            }
            let left = processes.iter().any(|pid| process::alive(*pid));
            Ok((!left).then_some(()))
        })
    }
}
