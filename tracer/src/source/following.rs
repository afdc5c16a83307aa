//! Which nginx processes are followed: those there are, and those that come.

use std::collections::{HashMap, HashSet};

use tracer_ebpf::abi::Layout;

use crate::{
    event::{Event, Process, ProcessKind, Time},
    nginx::{self, Binaries, Kind, Master},
    probe::{self, Executable, Probes},
};

/// Which nginx to follow.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Only these masters (and what they fork).
    pub masters: Vec<u32>,
    /// Only these workers.
    pub workers: Vec<u32>,
}

impl Scope {
    fn is_everything(&self) -> bool {
        self.masters.is_empty() && self.workers.is_empty()
    }
}

/// A program that was executed shows what it is only some time later: look again at these intervals (nanoseconds).
const LOOKS: [u64; 4] = [20_000_000, 100_000_000, 500_000_000, 2_000_000_000];
/// Executions waiting for another look; beyond, new ones are not looked at again.
const WAITING: usize = 4096;

/// A new worker takes its own user only after the fork: it is asked again after this (nanoseconds).
const SETTLED: u64 = 100_000_000;

/// The followed processes.
#[derive(Debug, Default)]
pub struct Following {
    scope: Scope,
    binaries: Binaries,
    masters: HashMap<u32, Master>,
    workers: HashSet<u32>,
    /// Executed programs: pid, when to look again, which look.
    waiting: Vec<(u32, Time, usize)>,
    /// Workers forked of late: pid, when to ask again who they are.
    forked: Vec<(u32, Time)>,
    /// Masters that forked since the last look, and when first: the configuration may be another.
    reloaded: HashMap<u32, Time>,
    /// What only the closing of connections tells was met, wherever: no configuration is believed any more.
    has_met_closings: bool,
}

impl Following {
    /// Follows what `scope` allows.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Self {
            scope,
            ..Self::default()
        }
    }

    /// Follows every nginx that runs now. Gives who their workers are.
    pub fn scan(&mut self, probes: &mut Probes, at: Time) -> Vec<Event> {
        let mut events = Vec::new();
        for mut master in nginx::scan(&mut self.binaries) {
            if !self.scope.is_everything() && !self.scope.masters.contains(&master.pid) {
                master
                    .workers
                    .retain(|worker| self.scope.workers.contains(worker));
                if master.workers.is_empty() {
                    continue;
                }
                let layout = self.attach(probes, &master, None, at);
                for &worker in &master.workers {
                    self.follow_worker(probes, worker, layout, at, &mut events);
                }
                self.masters.insert(master.pid, master);
                continue;
            }
            self.follow_master(probes, master, at, &mut events);
        }
        events
    }

    /// Takes what happened to a process; new workers and masters are followed.
    pub fn process(&mut self, process: &Process) -> Vec<Event> {
        let mut events = Vec::new();
        match process.kind {
            // The kernel side follows the child since its fork.
            ProcessKind::Forked { master } => {
                if let Some(known) = self.masters.get_mut(&master) {
                    known.workers.push(process.pid);
                    self.reloaded.entry(master).or_insert(process.at);
                }
                self.workers.insert(process.pid);
                if let Ok(worker) = nginx::identity(process.pid, process.at, &mut self.binaries) {
                    events.push(Event::Worker(worker));
                }
                if self.forked.len() < WAITING {
                    self.forked.push((process.pid, process.at.plus(SETTLED)));
                }
            }
            ProcessKind::Executed => {
                self.workers.remove(&process.pid);
                if self.waiting.len() < WAITING && self.scope.workers.is_empty() {
                    self.waiting
                        .push((process.pid, process.at.plus(LOOKS[0]), 0));
                }
            }
            ProcessKind::Exited { .. } => {
                self.workers.remove(&process.pid);
                self.masters.remove(&process.pid);
                for master in self.masters.values_mut() {
                    master.workers.retain(|&worker| worker != process.pid);
                }
            }
        }
        events
    }

    /// Looks again at executed programs whose time has come.
    pub fn look(&mut self, probes: &mut Probes, now: Time) -> Vec<Event> {
        let mut events = Vec::new();
        for (master, at) in std::mem::take(&mut self.reloaded) {
            if let Some(master) = self.masters.get(&master) {
                self.attach(probes, master, Some(at), now);
            }
        }
        let binaries = &mut self.binaries;
        self.forked.retain(|&(pid, at)| {
            if at <= now
                && let Ok(worker) = nginx::identity(pid, now, binaries)
            {
                events.push(Event::Worker(worker));
            }
            at > now
        });
        let due: Vec<(u32, usize)> = self
            .waiting
            .iter()
            .filter(|(_, at, _)| *at <= now)
            .map(|&(pid, _, look)| (pid, look))
            .collect();
        self.waiting.retain(|(_, at, _)| *at > now);
        for (pid, look) in due {
            match nginx::inspect(pid) {
                Some(process) if matches!(process.kind, Kind::Master | Kind::Single) => {
                    let known = self.scope.is_everything()
                        || self.scope.masters.contains(&pid)
                        || self.masters.contains_key(&process.parent);
                    if known && !self.masters.contains_key(&pid) {
                        let found = nginx::scan(&mut self.binaries)
                            .into_iter()
                            .find(|master| master.pid == pid);
                        if let Some(master) = found {
                            self.follow_master(probes, master, now, &mut events);
                        }
                    }
                }
                Some(_) if look + 1 < LOOKS.len() => {
                    self.waiting
                        .push((pid, now.plus(LOOKS[look + 1]), look + 1));
                }
                _ => {}
            }
        }
        events
    }

    fn follow_master(
        &mut self,
        probes: &mut Probes,
        master: Master,
        at: Time,
        events: &mut Vec<Event>,
    ) {
        // First the master: a worker that it forks from now on is followed by the kernel side.
        let layout = self.attach(probes, &master, None, at);
        if master.pid != 0 && probes.follow_master(master.pid, layout).is_err() {
            return;
        }
        // Then its workers as they are now, or one forked in between would be missed.
        let mut master = master;
        if let Some(again) = nginx::scan(&mut self.binaries)
            .into_iter()
            .find(|other| other.pid == master.pid)
        {
            master = again;
        }
        for &worker in &master.workers {
            self.follow_worker(probes, worker, layout, at, events);
        }
        self.masters.insert(master.pid, master);
    }

    /// A worker was forked by its master: what lies where is the same in both.
    fn follow_worker(
        &mut self,
        probes: &mut Probes,
        pid: u32,
        layout: Layout,
        at: Time,
        events: &mut Vec<Event>,
    ) {
        if probes.follow_worker(pid, layout).is_err() || !self.workers.insert(pid) {
            return;
        }
        if let Ok(worker) = nginx::identity(pid, at, &mut self.binaries) {
            events.push(Event::Worker(worker));
        }
    }

    /// Hooks what a master runs; of its workers those that began at `since` and later, or all, tell what is needed.
    fn attach(
        &self,
        probes: &mut Probes,
        master: &Master,
        since: Option<Time>,
        now: Time,
    ) -> Layout {
        let symbols =
            nginx::offsets(&master.exe_access, &probe::nginx_functions()).unwrap_or_default();
        let binary = Executable {
            path: &master.exe_access,
            id: master.exe_id,
            symbols: &symbols,
            is_outspoken: !self.has_met_closings && master.is_outspoken(since, now),
        };
        probes.attach_nginx(&binary, master.layout())
    }

    /// The kernel side met what only the closing of connections tells.
    pub fn met_closings(&mut self, probes: &mut Probes, now: Time) {
        if !std::mem::replace(&mut self.has_met_closings, true) {
            for master in self.masters.values() {
                self.attach(probes, master, None, now);
            }
        }
    }

    /// The followed masters, by pid.
    #[must_use]
    pub fn masters(&self) -> Vec<&Master> {
        let mut masters: Vec<&Master> = self.masters.values().collect();
        masters.sort_by_key(|master| master.pid);
        masters
    }

    /// How many workers are followed.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.len()
    }
}
