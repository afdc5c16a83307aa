//! Which nginx a run is about, as the command line says.

use std::fs;

use crate::nginx::{self, Binaries, Master};

/// nginx that are listed where a process is none.
const LISTED: usize = 5;
/// Workers of each of them.
const WORKERS: usize = 4;

/// Which nginx to follow.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    /// Only these masters (and what they fork).
    pub masters: Vec<u32>,
    /// Only these workers.
    pub workers: Vec<u32>,
}

impl Scope {
    /// Every nginx of the host?
    #[must_use]
    pub(crate) fn is_everything(&self) -> bool {
        self.masters.is_empty() && self.workers.is_empty()
    }

    /// Does it hold this master, or one of these workers of its?
    pub(super) fn has(&self, master: u32, workers: &[u32]) -> bool {
        self.is_everything()
            || self.masters.contains(&master)
            || workers.iter().any(|worker| self.workers.contains(worker))
    }

    pub(super) fn has_all_of(&self, master: u32) -> bool {
        self.is_everything() || self.masters.contains(&master)
    }

    /// Returns what is wrong with it, and what it could be: a process that is not among these,
    /// which are followed.
    pub(super) fn stranger(&self, followed: &[&Master]) -> Option<String> {
        let is_master = |pid: &&u32| followed.iter().any(|master| master.pid == **pid);
        let is_worker = |pid: &&u32| followed.iter().any(|one| one.workers.contains(pid));
        let master = self.masters.iter().find(|pid| !is_master(pid));
        let worker = || self.workers.iter().find(|pid| !is_worker(pid));
        let (pid, what) = match master {
            Some(pid) => (pid, "master"),
            None => (worker()?, "worker"),
        };
        let who = match fs::read_to_string(format!("/proc/{pid}/comm")) {
            Ok(name) => format!("process {pid} ({}) is not an nginx {what}", name.trim_end()),
            Err(_) => format!("process {pid} does not exist"),
        };
        let running = nginx::scan(|_, _| true, &mut Binaries::default());
        Some(format!("{who}; {}", list(&running)))
    }
}

fn list(running: &[Master]) -> String {
    if running.is_empty() {
        return "no nginx is running".to_owned();
    }
    let mut masters: Vec<String> = running.iter().take(LISTED).map(shown).collect();
    if running.len() > LISTED {
        masters.push(format!("{} more", running.len() - LISTED));
    }
    format!("running: {}", masters.join(", "))
}

fn shown(master: &Master) -> String {
    let version = master
        .version
        .as_deref()
        .unwrap_or("nginx")
        .replacen('/', " ", 1);
    let mut workers: Vec<String> = master
        .workers
        .iter()
        .take(WORKERS)
        .map(u32::to_string)
        .collect();
    if master.workers.len() > WORKERS {
        workers.push("…".to_owned());
    }
    format!(
        "master {} ({version}, workers {})",
        master.pid,
        workers.join(" ")
    )
}
