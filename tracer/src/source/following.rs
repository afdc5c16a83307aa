//! Which nginx processes are followed: those there are, and those that come.
//!
//! The kernel side follows whoever executes a program that is known to be nginx, and all that it
//! forks, from their first instruction on. Here it is found out which programs are, and what the
//! processes turn out to be.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use tracer_ebpf::abi::{Layout, Members, OTHERS, ProgramKey};

use super::{
    clock,
    scope::Scope,
    scout::{Candidate, Described, Found, Scout},
};
use crate::{
    event::{Coverage, Event, Life, LifeKind, Process, ProcessKind, Time, coverage::Change},
    nginx::{self, ExeId, Master},
    probe::{Moved, Probes},
    process,
};

/// What a process is shows only some time after it executed a program: it is looked at at these
/// intervals (nanoseconds), the first time at once if its name is nginx's.
const LOOKS: [u64; 8] = [
    0,
    5_000_000,
    20_000_000,
    100_000_000,
    500_000_000,
    2_000_000_000,
    10_000_000_000,
    60_000_000_000,
];
/// The first and the last look at what has another name.
const UNNAMED: [usize; 2] = [2, 5];
/// Processes of which it is remembered when they executed a program.
const EXECUTED: usize = 65_536;
/// Processes waiting for another look; beyond, new ones are not looked at again.
const WAITING: usize = 4096;
/// A new worker takes its own user only after the fork: it is asked again after this (nanoseconds).
const SETTLED: u64 = 100_000_000;
/// How long a program may have no process before its hooks are taken away: a restart takes less
/// (nanoseconds).
const LINGER: u64 = 700_000_000;
/// The same of programs on the host's own root, whose mount nobody wants back, and of how many of
/// them at most.
const LINGER_AT_ROOT: u64 = 60_000_000_000;
const LINGERING: usize = 4;
/// How often it is checked that who is followed is still there, should the word of an end have been
/// lost, and whether there is a place now for who found none (nanoseconds).
const CHECK: u64 = 5_000_000_000;

/// The followed processes.
#[derive(Debug)]
pub(crate) struct Following {
    scope: Scope,
    assumed: Option<Members>,
    scout: Scout,
    masters: HashMap<u32, Described>,
    /// All followed processes: workers, their masters, and such as are to become either.
    processes: HashMap<u32, Followed>,
    programs: HashMap<ExeId, Program>,
    waiting: Vec<(Candidate, Time)>,
    /// What was found out and not taken yet.
    kept: Option<Found>,
    /// When processes executed a program last, those that were looked at.
    executed: HashMap<u32, Time>,
    /// Processes forked of late: pid, when to ask again who they are.
    forked: Vec<(u32, Time)>,
    /// Masters that forked since the last look, and when first: the configuration may be another.
    reloaded: HashMap<u32, Time>,
    /// A failure that only the closing of connections reports was met: no configuration is trusted
    /// from then on.
    has_met_closings: bool,
    /// Masters whose failures can not be seen, why, and whether another user than root runs them.
    blind: HashMap<u32, (String, bool)>,
    /// Programs whose objects are not laid out as expected, and whether their layout was found:
    /// what was reported.
    surprising: HashSet<(Option<ExeId>, bool)>,
    /// Masters that exited, and what they called themselves: not reported yet.
    ended: Vec<(u32, String)>,
    /// Who forked processes that found no place, and of how many that was said.
    refused: HashMap<u32, u64>,
    /// `false` until it was said whether anything is followed.
    has_said: bool,
    covers: bool,
    checked: Time,
}

/// A followed process.
#[derive(Debug, Clone, Copy)]
struct Followed {
    program: Option<ExeId>,
    /// Since when.
    since: Time,
}

/// A program that is nginx.
#[derive(Debug)]
struct Program {
    described: Described,
    keys: Vec<ProgramKey>,
    /// Who runs it.
    pids: HashSet<u32>,
    /// Since when nobody does.
    unused: Option<Time>,
}

impl Following {
    /// Follows what `scope` allows. `assumed`: what every nginx is taken to have where, whatever
    /// its version says.
    ///
    /// # Errors
    /// A thread can not be started.
    pub(crate) fn new(scope: Scope, assumed: Option<Members>) -> std::io::Result<Self> {
        Ok(Self {
            scout: Scout::start(scope.clone(), assumed)?,
            assumed,
            scope,
            masters: HashMap::new(),
            processes: HashMap::new(),
            programs: HashMap::new(),
            waiting: Vec::new(),
            kept: None,
            executed: HashMap::new(),
            forked: Vec::new(),
            reloaded: HashMap::new(),
            has_met_closings: false,
            blind: HashMap::new(),
            surprising: HashSet::new(),
            ended: Vec::new(),
            refused: HashMap::new(),
            has_said: false,
            covers: false,
            checked: Time(0),
        })
    }

    /// Follows every nginx that runs now. Returns who their workers are, and calls `meet` for each
    /// at once.
    pub(crate) fn scan(
        &mut self,
        probes: &mut Probes,
        at: Time,
        mut meet: impl FnMut(u32),
    ) -> Vec<Event> {
        let mut events = Vec::new();
        for described in self.scout.scan() {
            let known = events.len();
            self.follow_master(probes, described, None, at, &mut events);
            for event in &events[known..] {
                if let Event::Worker(worker) = event {
                    meet(worker.pid);
                }
            }
        }
        self.cover(at, &mut events);
        events
    }

    /// Takes what happened to a process; new workers and masters are followed.
    pub(crate) fn process(&mut self, life: &Life) -> Vec<Event> {
        let mut events = Vec::new();
        let Life { pid, at, kind } = *life;
        match kind {
            // The kernel side follows the child since its fork.
            LifeKind::Forked { parent } => {
                let program = self.program_of(parent);
                self.enter(pid, program, at);
                if let Some(known) = self.masters.get_mut(&parent) {
                    known.master.workers.push(pid);
                    self.reloaded.entry(parent).or_insert(at);
                } else {
                    // What forks without being a master leaves one behind.
                    self.wait(candidate(pid, ProgramKey::NONE, at, true), 0);
                }
                self.meet(pid, at, &mut events);
            }
            LifeKind::Executed {
                program,
                is_followed,
                was_followed,
            } => {
                let since = self.processes.get(&pid).map(|followed| followed.since);
                if since.is_some_and(|since| since >= at) {
                    // It was found to execute nginx before the word of that came.
                    return events;
                }
                if since.is_some() {
                    self.leave(pid, at);
                    events.push(gone(pid, at));
                }
                if is_followed {
                    let known = self.programs.iter();
                    let known = known
                        .filter(|(_, one)| one.keys.contains(&program))
                        .map(|(&id, _)| id);
                    let known = known.last();
                    self.enter(pid, known, at);
                    self.meet(pid, at, &mut events);
                }
                let is_wanted = is_followed || was_followed;
                if self.executed.len() >= EXECUTED {
                    self.executed.clear();
                }
                self.executed.insert(pid, at);
                // What was to be looked at was another program.
                self.waiting.retain(|(waiting, _)| waiting.pid != pid);
                if is_wanted || self.scope.is_everything() || self.scope.masters.contains(&pid) {
                    let first = match is_wanted || nginx::named_nginx(pid) {
                        true => 0,
                        false => UNNAMED[0],
                    };
                    let mut candidate = candidate(pid, program, at, is_followed);
                    candidate.is_wanted = is_wanted;
                    self.wait(candidate, first);
                }
            }
            LifeKind::YoungForked { .. } => {
                let mut candidate = candidate(pid, ProgramKey::NONE, at, false);
                candidate.is_wanted = true;
                self.wait(candidate, UNNAMED[0]);
            }
            LifeKind::Exited { .. } => {
                self.leave(pid, at);
                self.cover(at, &mut events);
            }
            LifeKind::Layout { expected, shown } => {
                let program = self.program_of(pid);
                // What was never expected is no surprise. Each program is reported once.
                if (expected.peer_log != 0 || shown.peer_log == 0)
                    && self.surprising.insert((program, shown.peer_log != 0))
                {
                    let known = program.and_then(|id| self.programs.get(&id));
                    let program =
                        known.map_or("nginx".to_owned(), |known| program_name(&known.described));
                    events.push(Event::Coverage(Coverage {
                        at,
                        change: Change::Layout {
                            pid,
                            program,
                            is_found: shown.peer_log != 0,
                        },
                    }));
                }
            }
            LifeKind::Refused { parent } => {
                self.refused.entry(parent).or_default();
                if parent == pid {
                    let mut candidate = candidate(pid, ProgramKey::NONE, at, false);
                    candidate.is_wanted = true;
                    self.wait(candidate, UNNAMED[0]);
                }
            }
        }
        events
    }

    fn wait(&mut self, mut candidate: Candidate, look: usize) {
        candidate.looks = look;
        let is_taken = LOOKS[look] == 0 && self.scout.look(candidate);
        // What is followed already, or of nginx's name, is not what is left out.
        let is_known = candidate.is_followed || look < UNNAMED[0];
        if !is_taken && (is_known || self.waiting.len() < WAITING) {
            self.waiting
                .push((candidate, candidate.since.plus(LOOKS[look])));
        }
    }

    fn program_of(&self, pid: u32) -> Option<ExeId> {
        self.processes.get(&pid)?.program
    }

    /// It is not what it is to become yet.
    fn wait_again(&mut self, candidate: Candidate) {
        let last = match candidate.is_followed || nginx::named_nginx(candidate.pid) {
            true => LOOKS.len() - 1,
            false => UNNAMED[1],
        };
        if candidate.looks < last {
            self.wait(candidate, candidate.looks + 1);
        }
    }

    /// A process is followed.
    fn enter(&mut self, pid: u32, program: Option<ExeId>, since: Time) {
        self.processes.insert(pid, Followed { program, since });
        if let Some(program) = program.and_then(|id| self.programs.get_mut(&id)) {
            program.pids.insert(pid);
            program.unused = None;
        }
    }

    /// The same of one that was found, not heard of: of one that ended before it was followed no
    /// end is heard either.
    fn enter_found(&mut self, pid: u32, program: Option<ExeId>, since: Time) {
        if program_file(pid).is_some() {
            self.enter(pid, program, since);
        }
    }

    /// It is not, any more.
    fn leave(&mut self, pid: u32, at: Time) {
        if let Some(master) = self.masters.remove(&pid) {
            self.ended.push((pid, program_name(&master)));
        }
        self.blind.remove(&pid);
        self.refused.remove(&pid);
        for described in self.masters.values_mut() {
            described.master.workers.retain(|&worker| worker != pid);
        }
        // Workers whose master is gone are held by none.
        self.masters
            .retain(|&master, described| master != 0 || !described.master.workers.is_empty());
        let program = self.processes.remove(&pid).and_then(|one| one.program);
        if let Some(program) = program.and_then(|id| self.programs.get_mut(&id)) {
            program.pids.remove(&pid);
            if program.pids.is_empty() {
                program.unused = Some(at);
            }
        }
    }

    /// Who a process is, which may be a worker.
    fn meet(&mut self, pid: u32, at: Time, events: &mut Vec<Event>) {
        events.extend(self.identity(pid, at));
        if self.forked.len() < WAITING {
            self.forked.push((pid, at.plus(SETTLED)));
        }
    }

    fn identity(&self, pid: u32, at: Time) -> Option<Event> {
        let program = self.program_of(pid);
        let known = program.and_then(|id| self.programs.get(&id));
        let version = known.and_then(|known| known.described.master.version.clone());
        let mut worker = nginx::identity(pid, at, version).ok()?;
        // A master is known by its program before it is one of those that are followed.
        let by_program = known.map(|known| &known.described);
        worker.conf = [worker.master, pid]
            .into_iter()
            .filter_map(|pid| self.masters.get(&pid))
            .chain(by_program.filter(|known| known.master.pid == worker.master))
            .find_map(|described| described.master.configuration());
        Some(Event::Worker(worker))
    }

    /// Polls the processes that are due, and returns what was found.
    pub(crate) fn look(&mut self, probes: &mut Probes, now: Time) -> Vec<Event> {
        let mut events = Vec::new();
        for (master, at) in std::mem::take(&mut self.reloaded) {
            if let Some(described) = self.masters.get(&master)
                && !self.scout.read_configuration(described.master.clone(), at)
            {
                self.reloaded.insert(master, at);
            }
        }
        let settled = self.forked.iter().filter(|(_, at)| *at <= now);
        events.extend(settled.filter_map(|&(pid, _)| self.identity(pid, now)));
        self.forked.retain(|(_, at)| *at > now);
        let due = |(_, at): &(Candidate, Time)| *at <= now;
        // One that finds the scout busy waits for the next time.
        self.waiting
            .retain(|one| !due(one) || !self.scout.look(one.0));
        while let Some(found) = self.kept.take().or_else(|| self.scout.take()) {
            self.found(probes, found, now, &mut events);
        }
        if now.since(self.checked) >= CHECK {
            self.checked = now;
            self.check(probes, now, &mut events);
        }
        self.release(probes, now);
        events
    }

    /// The next thing that was found out, to be kept for the next [`Self::look`]. Never ends.
    pub(super) async fn next(&mut self) -> Found {
        match self.scout.next().await {
            Some(found) => found,
            None => std::future::pending().await,
        }
    }

    /// See [`Self::next`].
    pub(super) fn keep(&mut self, found: Option<Found>) {
        self.kept = found;
    }

    /// Takes what was found out.
    fn found(&mut self, probes: &mut Probes, found: Found, now: Time, events: &mut Vec<Event>) {
        match found {
            Found::Master(described, candidate) => {
                self.follow_master(probes, *described, Some(candidate), now, events);
            }
            Found::Program(described, candidate) => {
                self.follow_program(probes, *described, candidate, now, events);
            }
            Found::Nothing(candidate) => {
                self.wait_again(candidate);
            }
            Found::Gone => {}
            Found::Outspoken {
                master,
                is_outspoken,
            } => {
                if let Some(described) = self.masters.get_mut(&master) {
                    described.is_outspoken = is_outspoken;
                    let described = described.clone();
                    self.attach(probes, &described);
                }
            }
        }
    }

    /// A process executes nginx and is not ready yet.
    fn follow_program(
        &mut self,
        probes: &mut Probes,
        described: Described,
        candidate: Candidate,
        now: Time,
        events: &mut Vec<Event>,
    ) {
        let pid = candidate.pid;
        if self.processes.contains_key(&pid) {
            // Its libraries are there by now.
            let _ = probes.set_layout(pid, described.layout);
            self.wait_again(candidate);
            return;
        }
        // It has ended meanwhile, and was followed until then.
        if candidate.is_followed {
            return;
        }
        if self.is_to_be_read_again(probes, &described) {
            self.wait_again(candidate);
            return;
        }
        // First those to come: what it forks, and who else executes the program. Then those that
        // are there, or one forked in between would be missed.
        let key = self.key(candidate);
        let id = self.learn(probes, &described, described.layout, key);
        let family = family(pid);
        let mut followers = vec![pid];
        if self.scope.is_everything() {
            followers.extend(&described.others);
        }
        let mut next = 0;
        while let Some(&follower) = followers.get(next) {
            next += 1;
            if self.processes.contains_key(&follower) {
                continue;
            }
            if !self.follow(probes, follower, family, described.layout) {
                self.refused.entry(pid).or_default();
                continue;
            }
            self.enter_found(follower, Some(id), now);
            self.meet(follower, now, events);
            let mut followed = candidate;
            (followed.pid, followed.is_followed, followed.is_wanted) = (follower, true, true);
            self.wait(followed, 1);
            followers.extend(process::children(follower));
        }
        // A daemon's first process ends once it has left its master behind.
        let mut layout = described.layout;
        for &follower in &followers {
            layout = described.attach(probes, follower, !self.has_met_closings);
            if probes.blindness(id).is_none() || program_file(follower).is_some() {
                break;
            }
        }
        if probes.blindness(id).is_some()
            && followers.iter().all(|&pid| program_file(pid).is_none())
        {
            // What they left behind is attached to as it turns out to be a master.
            return;
        }
        if layout != described.layout {
            self.learn(probes, &described, layout, key);
            for follower in followers {
                let _ = probes.set_layout(follower, layout);
            }
        }
        self.late(&described, candidate, events);
    }

    /// Has the kernel side follow a process; `false` if there is no place. A process that has ended
    /// by then, perhaps already reported, keeps none.
    fn follow(&self, probes: &mut Probes, pid: u32, family: u32, layout: Layout) -> bool {
        let has_place = probes.follow(pid, family, layout).is_ok();
        if program_file(pid).is_none() {
            let _ = probes.unfollow(pid);
            return true;
        }
        has_place
    }

    /// Was it described before hooks were attached to what may be the same file, by another mount?
    /// Whether it is shows in its memory.
    fn is_to_be_read_again(&self, probes: &Probes, described: &Described) -> bool {
        probes
            .attached_to_like(described.binary())
            .is_some_and(|at| at >= described.at)
    }

    /// Did it end before hooks were attached to what it runs?
    fn is_gone(&self, probes: &mut Probes, described: &Described) -> bool {
        let id = described.binary().id;
        // Of one that is not reaped yet there is a name still, and no program.
        let is_gone =
            probes.blindness(id).is_some() && program_file(described.master.shown()).is_none();
        let is_used = |id| {
            self.programs
                .get(id)
                .is_some_and(|one| !one.pids.is_empty())
        };
        if is_gone && !is_used(&id) {
            probes.release(id, |_| None);
        }
        is_gone
    }

    /// Failures of before are not seen.
    fn late(&self, described: &Described, candidate: Candidate, events: &mut Vec<Event>) {
        let exe = described.master.exe.display();
        events.push(Event::Coverage(Coverage {
            at: clock::now(),
            change: Change::Late {
                pid: candidate.pid,
                program: format!("{} ({exe})", program_name(described)),
                since: candidate.since,
            },
        }));
    }

    fn follow_master(
        &mut self,
        probes: &mut Probes,
        mut described: Described,
        candidate: Option<Candidate>,
        at: Time,
        events: &mut Vec<Event>,
    ) {
        let pid = described.master.pid;
        if pid != 0 && self.masters.contains_key(&pid) {
            return;
        }
        if self.is_to_be_read_again(probes, &described) {
            match candidate {
                Some(candidate) => return self.wait_again(candidate),
                // Nothing waits yet.
                None => described = Described::of(described.master, self.assumed),
            }
        }
        let family = family(described.master.shown());
        let was_followed = self.processes.contains_key(&pid);
        let was_attached = probes.is_attached(described.binary().id);
        let layout = self.attach(probes, &described);
        if self.is_gone(probes, &described) {
            return;
        }
        let key = candidate.and_then(|candidate| self.key(candidate));
        let id = self.learn(probes, &described, layout, key);
        if !self.scope.has_all_of(pid) && candidate.is_none_or(|candidate| !candidate.is_wanted) {
            let workers = &self.scope.workers;
            described
                .master
                .workers
                .retain(|worker| workers.contains(worker));
        } else if pid != 0 {
            // First the master: a worker that it forks from now on is followed by the kernel side.
            // Then its workers as they are now, or one forked in between would be missed.
            if !self.follow(probes, pid, family, layout) {
                self.refused.entry(pid).or_default();
            }
            // A master serves nothing, and what follows forks from it.
            if described.master.workers.first() != Some(&pid) {
                let _ = probes.set_layout(pid, layout);
            }
            self.enter_found(pid, Some(id), at);
            let known = described.master.workers.clone();
            let mut children = process::children(pid);
            children.retain(|child| !known.contains(child) && run_the_same(pid, *child));
            described.master.workers.extend(children);
        }
        if let Some(candidate) = candidate
            && !(was_followed && was_attached)
        {
            self.late(&described, candidate, events);
        }
        for &worker in &described.master.workers {
            let is_known = worker != pid && self.processes.contains_key(&worker);
            if !self.follow(probes, worker, family, layout) {
                self.refused.entry(pid).or_default();
            } else if !is_known {
                self.enter_found(worker, Some(id), at);
                events.extend(self.identity(worker, at));
            }
        }
        // Another user's decides nothing about this run, unless it is asked for.
        let is_foreign =
            self.scope.is_everything() && (family == OTHERS || described.forbidden.is_some());
        if !described.binary().shows_answers() {
            events.push(Event::Coverage(Coverage {
                at,
                change: Change::Alone {
                    pid,
                    program: program_name(&described),
                    why: "its binary does not show where its functions are".to_owned(),
                },
            }));
        } else if let Some(why) = probes.blindness(id)
            && self.blind.insert(pid, (why.clone(), is_foreign)).is_none()
        {
            events.push(Event::Coverage(Coverage {
                at,
                change: Change::Blind {
                    pid,
                    program: program_name(&described),
                    why,
                    is_foreign,
                },
            }));
        }
        // At the beginning it is said of all at once.
        if let Some(candidate) = candidate {
            self.covers = true;
            events.push(Event::Coverage(Coverage {
                at,
                change: Change::Follows {
                    pid,
                    program: program_name(&described),
                    workers: described.master.workers.len(),
                    since: match was_followed && was_attached {
                        true => candidate.since,
                        false => clock::now(),
                    },
                },
            }));
        }
        self.masters.insert(pid, described);
    }

    /// What the kernel side knows the program by that was found in this process; `None` where it
    /// executed another since.
    fn key(&self, candidate: Candidate) -> Option<ProgramKey> {
        let executed = self.executed.get(&candidate.pid);
        let is_last = executed.is_some_and(|at| *at == candidate.since);
        (is_last && candidate.program != ProgramKey::NONE).then_some(candidate.program)
    }

    /// The program is nginx: whoever executes it from now on is followed.
    fn learn(
        &mut self,
        probes: &mut Probes,
        described: &Described,
        layout: Layout,
        key: Option<ProgramKey>,
    ) -> ExeId {
        let id = described.binary().id;
        let key = key.filter(|key| described.key.is_none_or(|own| own == *key));
        let program = self.programs.entry(id).or_insert_with(|| Program {
            described: described.clone(),
            keys: Vec::new(),
            pids: HashSet::new(),
            unused: None,
        });
        program.described.layout = layout;
        if self.scope.is_everything() {
            for key in key.into_iter().chain(described.key) {
                // If there are too many, those who execute it are followed once they are looked at.
                if probes
                    .follow_program(key, program.described.program())
                    .is_ok()
                    && !program.keys.contains(&key)
                {
                    program.keys.push(key);
                }
            }
        }
        id
    }

    /// Takes hooks away from programs that nobody runs any more.
    fn release(&mut self, probes: &mut Probes, now: Time) {
        let unused = |(&id, program): (&ExeId, &Program)| Some((program.unused?, id));
        let mut unused: Vec<(Time, ExeId)> = self.programs.iter().filter_map(unused).collect();
        unused.sort_by_key(|(since, _)| std::cmp::Reverse(since.0));
        let mut lingering = 0;
        for (since, id) in unused {
            let is_at_root = self
                .programs
                .get(&id)
                .is_some_and(|one| one.described.is_at_root);
            lingering += usize::from(is_at_root);
            let most = match is_at_root && lingering <= LINGERING {
                true => LINGER_AT_ROOT,
                false => LINGER,
            };
            if now.since(since) < most {
                continue;
            }
            let Some(program) = self.programs.remove(&id) else {
                continue;
            };
            self.surprising.retain(|(of, _)| *of != Some(id));
            for key in program.keys {
                let _ = probes.unfollow_program(key);
            }
            probes.release(id, |other| {
                let program = self.programs.get(&other)?;
                Some(Moved {
                    pid: *program.pids.iter().next()?,
                    binary: program.described.binary().clone(),
                    is_outspoken: program.described.is_outspoken && !self.has_met_closings,
                    layout: program.described.layout,
                })
            });
        }
    }

    /// Whether anything is followed, if that changed.
    fn cover(&mut self, at: Time, events: &mut Vec<Event>) {
        let covers = !self.masters.is_empty();
        let ended = std::mem::take(&mut self.ended);
        if covers {
            events.extend(ended.into_iter().map(|(pid, program)| {
                let change = Change::Ends { pid, program };
                Event::Coverage(Coverage { at, change })
            }));
        }
        if std::mem::replace(&mut self.has_said, true) && covers == self.covers {
            return;
        }
        self.covers = covers;
        let change = match covers {
            true => Change::Something { since: at },
            false => Change::Nothing,
        };
        events.push(Event::Coverage(Coverage { at, change }));
    }

    /// Those whose end was not heard of are followed no more; those who found no place may find one
    /// now.
    fn check(&mut self, probes: &mut Probes, now: Time, events: &mut Vec<Event>) {
        let gone = self
            .processes
            .keys()
            .copied()
            .filter(|pid| program_file(*pid).is_none());
        for pid in gone.collect::<Vec<_>>() {
            self.leave(pid, now);
            let _ = probes.unfollow(pid);
            events.push(self::gone(pid, now));
        }
        self.cover(now, events);
        let is_over = |at: &Time| now.since(*at) > LOOKS[LOOKS.len() - 1] + CHECK;
        self.executed.retain(|_, at| !is_over(at));
        let refused = std::mem::take(&mut self.refused);
        for parent in refused {
            let Some(Followed { program, .. }) = self.processes.get(&parent.0).copied() else {
                continue;
            };
            let (parent, said) = parent;
            let layout = program
                .and_then(|id| self.programs.get(&id))
                .map_or(Layout::default(), |known| known.described.layout);
            // It may be itself that found none.
            let _ = probes.follow(parent, family(parent), layout);
            let mut left = 0;
            for child in process::children(parent) {
                if self.processes.contains_key(&child) {
                    continue;
                }
                if !self.follow(probes, child, family(parent), layout) {
                    left += 1;
                    continue;
                }
                self.enter_found(child, program, now);
                if let Some(known) = self.masters.get_mut(&parent) {
                    known.master.workers.push(child);
                }
                self.meet(child, now, events);
            }
            if left > 0 {
                self.refused.insert(parent, left);
            }
            if left > said {
                events.push(Event::Coverage(Coverage {
                    at: now,
                    change: Change::Refused {
                        pid: parent,
                        processes: left,
                    },
                }));
            }
        }
    }

    /// Hooks what an nginx runs.
    fn attach(&self, probes: &mut Probes, described: &Described) -> Layout {
        described.attach(probes, described.master.shown(), !self.has_met_closings)
    }

    /// The kernel side met a failure that only the closing of connections reports.
    pub(crate) fn met_closings(&mut self, probes: &mut Probes) {
        if !std::mem::replace(&mut self.has_met_closings, true) {
            for described in self.masters.values() {
                self.attach(probes, described);
            }
        }
    }

    /// The members that every nginx is assumed to have, if the command line says so.
    pub(crate) fn assumed(&self) -> Option<Members> {
        self.assumed
    }

    /// The followed masters, by pid.
    #[must_use]
    pub(crate) fn masters(&self) -> Vec<&Master> {
        let mut masters: Vec<&Master> = self.masters.values().map(|one| &one.master).collect();
        masters.sort_by_key(|master| master.pid);
        masters
    }

    /// How many workers are followed.
    #[must_use]
    pub(crate) fn workers(&self) -> usize {
        self.masters
            .values()
            .map(|one| one.master.workers.len())
            .sum()
    }

    /// Can the failures of some nginx not be seen? Another user's that nobody asked for is none.
    #[must_use]
    pub(crate) fn is_blind_to_some(&self) -> bool {
        self.blind.values().any(|(_, is_foreign)| !is_foreign)
    }

    /// Why no failure can be seen of any of the followed masters; `None` if there can.
    #[must_use]
    pub(crate) fn blindness(&self) -> Option<String> {
        let is_blind = |master: &u32| self.blind.contains_key(master);
        if !self.masters.keys().all(is_blind) {
            return None;
        }
        let own = self.blind.iter().filter(|(_, (_, is_foreign))| !is_foreign);
        let (pid, (why, _)) = own.min()?;
        let program = program_name(self.masters.get(pid)?).replacen('/', " ", 1);
        Some(format!(
            "failures of {program} (master {pid}) are not visible: {why}"
        ))
    }
}

fn candidate(pid: u32, program: ProgramKey, since: Time, is_followed: bool) -> Candidate {
    Candidate {
        pid,
        program,
        since,
        is_followed,
        is_wanted: is_followed,
        looks: 0,
    }
}

/// What an nginx calls itself.
fn program_name(described: &Described) -> String {
    let version = described.master.version.clone();
    version.unwrap_or_else(|| "nginx".to_owned())
}

/// A process is nginx's no more: it executed another program, or its end was not heard of.
fn gone(pid: u32, at: Time) -> Event {
    Event::Process(Process {
        at,
        pid,
        kind: ProcessKind::Executed,
    })
}

/// Do they run the same file? Nobody can stall who asks that.
fn run_the_same(one: u32, other: u32) -> bool {
    program_file(one).is_some_and(|one| program_file(other) == Some(one))
}

/// Which file a process runs; `None` if it has ended.
fn program_file(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// Whose quota the places of a master's processes count to.
fn family(master: u32) -> u32 {
    match process::status(master) {
        Ok(status) if status.uid != 0 => OTHERS,
        _ => master,
    }
}
