//! The running system as a source of events.

use std::{
    collections::{HashSet, VecDeque},
    path::PathBuf,
    time::Duration,
};

use aya::maps::{MapData, RingBuf};
use thiserror::Error;
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Interval, MissedTickBehavior, interval},
};
use tracer_ebpf::abi::Members;

use super::{
    clock,
    descriptors::Descriptors,
    following::Following,
    host::{IcmpListener, Observer},
    memory,
    pace::{Ceilings, Pace},
    presence::Presence,
    privileges::{self, Lacking},
    questions::Questions,
    scope::Scope,
    seccomp::Filters,
    skips::Skips,
    unread::Unread,
};
use crate::{
    event::{Death, Event, Hooks, Life, Lost, Process, ProcessKind, Question, Time, decode},
    probe::{Counters, ICMP_RECEIVE, LoadError, Probes, SIGHTS, Sizes, State, Tally},
    process,
};

/// How long after the request another sample takes effect (nanoseconds): longer than an update of
/// the map takes.
const SHED_AFTER: u64 = 1_000_000;
/// How often the ring is looked at when nothing wakes us: healthy connections wake nobody.
const LOOK: Duration = Duration::from_millis(20);
/// How soon it polls again after it found a failure. In a flood polling costs more than what it
/// finds.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Records taken from the ring at once, before what else there is to do has its turn; more events
/// than these that wait are too many.
const BATCH: usize = 4096;
/// Events given at once. To take a record from the ring is a thirtieth of the work that it makes,
/// so the ring is emptied before the next are given: what waits does so where there is more room.
const PIECE: usize = 1024;

/// What to trace and how.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Which nginx.
    pub scope: Scope,
    /// The kernel's BTF.
    pub btf: PathBuf,
    /// Kinds of places and BPF programs to do without.
    pub without: Vec<String>,
    /// Where every nginx is taken to have the members that move, whatever its version says.
    pub layout: Option<Members>,
    /// Processes of the scope may become nginx later.
    pub awaits_nginx: bool,
    /// Error logs to read besides those that the workers hold open.
    pub error_logs: Vec<PathBuf>,
    /// Bytes of the ring buffer; `None`: by this host's size.
    pub ring: Option<u64>,
    /// What to keep to.
    pub ceilings: Ceilings,
    /// Whether healthy connections are reported. No verdict rests on them; a capture does.
    pub healthy: bool,
    /// aya-log's level for the BPF side: 0 none, 4 debug.
    pub log_level: u8,
}

/// Why tracing could not begin.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    /// Not root, and without the capabilities.
    #[error(
        "not permitted: tracer needs root (CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN); try: sudo tracer live"
    )]
    NotPermitted,
    /// In a container's pid namespace.
    #[error(
        "tracer is in a pid namespace of its own (a container) and would take one process for another: run it on the host, or in a container with the host's (docker: --pid=host, Kubernetes: hostPID: true)"
    )]
    Contained,
    /// What is to be followed is no nginx.
    #[error("{0}")]
    NoNginx(String),
    /// The kernel can not, or does not let us.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Something of this process's own.
    #[error("starting to read events")]
    Io(#[from] std::io::Error),
}

/// The running system.
pub(crate) struct Live {
    probes: Probes,
    ring: AsyncFd<RingBuf<MapData>>,
    following: Following,
    questions: Questions,
    icmp: IcmpListener,
    presence: Presence,
    descriptors: Descriptors,
    ticks: Interval,
    pace: Pace,
    skips: Skips,
    counters: Counters,
    unread: Unread,
    received: u64,
    undecoded: u64,
    ready: VecDeque<Event>,
    /// The last look found a failure.
    has_failed: bool,
    /// Hooks that are not attached, as last reported.
    absent: Option<Vec<String>>,
    /// See [`Self::blindness`].
    blindness: Option<String>,
    lacking: Vec<Lacking>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live")
            .field("probes", &self.probes)
            .field("following", &self.following)
            .finish_non_exhaustive()
    }
}

impl Live {
    /// Attaches all hooks and follows what runs.
    ///
    /// # Errors
    /// Not permitted, or this kernel can not.
    pub(crate) fn start(options: Options) -> Result<Self, StartError> {
        if !privileges::may_trace() {
            return Err(StartError::NotPermitted);
        }
        if !process::is_in_first_pid_namespace() {
            return Err(StartError::Contained);
        }
        let lacking = privileges::lacking();
        memory::keep_together();
        let descriptors = Descriptors::raise_limit();
        process::keeper::start(privileges::keeper)?;
        process::prepare_with(privileges::reader);
        let sizes = Sizes::of_host(options.ring);
        let follows_all = options.scope.is_everything();
        let mut probes = Probes::load(
            &options.btf,
            options.log_level,
            &options.without,
            &sizes,
            follows_all,
        )?;
        if !options.healthy {
            probes.leave_out_unasked()?;
        }
        let ring = probes.take_ring().ok_or(LoadError::Map("EVENTS"))?;
        // SAFETY: the ring owns its descriptor and keeps it for its life; it is only read through
        // `get_mut`.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .map_err(std::io::Error::from)?;
        let mut following = Following::new(options.scope.clone(), options.layout)?;
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let questions = Questions::start(Observer::new(options.error_logs))?;
        let mut icmp = match options.without.iter().any(|word| word == ICMP_RECEIVE.name) {
            true => IcmpListener::left_out("left out by --without icmp_receive"),
            false => IcmpListener::default(),
        };
        let events = following.scan(&mut probes, clock::now(), |worker| {
            questions.meet(worker);
            icmp.follow(worker);
        });
        let blinding = lacking.iter().find(|one| one.is_blinding);
        let blinding = blinding.map(|one| format!("failures are not visible: {}", one.lost));
        if !options.awaits_nginx
            // Nothing is seen to be an nginx then.
            && blinding.is_none()
            && let Some(why) = options.scope.stranger(&following.masters())
        {
            return Err(StartError::NoNginx(why));
        }
        let blindness = match following.masters().is_empty() {
            true if privileges::may_administrate() => None,
            true => probes.may_attach().err(),
            false => following.blindness(),
        };
        probes.begin_tracing();
        let blindness = blindness.or(blinding).map(|why| named(why, &lacking));
        // Before tracer reports that tracing began: what is logged from then on is read.
        questions.settle();
        privileges::main_loop();
        // A kernel that refuses them: less safe, not less right, and `tracer doctor` says so.
        let _ = Filters::new().and_then(|filters| filters.apply());
        let (presence, unwatched) = Presence::begin(clock::now());
        let mut live = Self {
            probes,
            ring,
            following,
            questions,
            icmp,
            presence,
            descriptors,
            ticks,
            pace: Pace::new(options.ceilings, &sizes),
            skips: Skips::new(),
            counters: Counters::default(),
            unread: Unread::default(),
            received: 0,
            undecoded: 0,
            ready: VecDeque::new(),
            has_failed: false,
            absent: None,
            blindness,
            lacking,
        };
        live.ready.extend(events);
        if let Some(hooks) = live.hooks(clock::now()) {
            live.ready.push_front(hooks);
        }
        live.ready.extend(unwatched.into_iter().map(Event::Notice));
        // What loading took: BTF alone is some megabytes.
        memory::give_back();
        Ok(live)
    }

    /// The next events, in order; waits for them. Each batch contains an [`Event::Tick`].
    ///
    /// # Errors
    /// The ring buffer can not be polled.
    pub(crate) async fn next(&mut self) -> std::io::Result<Vec<Event>> {
        let mut events: Vec<Event> = Vec::new();
        if self.ready.is_empty() {
            let mut found = None;
            tokio::select! {
                guard = self.ring.readable_mut() => guard?.clear_ready(),
                // There may be many while much fails: the next look takes them together.
                answer = self.questions.answer(), if !self.has_failed => events.extend(answer),
                one = self.following.next() => found = Some(one),
                _ = self.ticks.tick() => {}
            }
            // It is taken once the ring is empty: what was found rests on what happened before.
            self.following.keep(found);
        } else {
            // Signals have their turn.
            tokio::task::yield_now().await;
        }
        self.look(&mut events);
        let piece = self.ready.len().min(PIECE);
        events.extend(self.ready.drain(..piece));
        if self.ready.is_empty() {
            self.ready.shrink_to(BATCH);
        }
        if self.ready.len() > BATCH {
            self.pace.behind();
        }
        Ok(events)
    }

    /// All that is there now, without waiting.
    #[must_use]
    pub(crate) fn collect(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        self.look(&mut events);
        events.extend(self.ready.drain(..));
        events
    }

    /// Takes what there is from the ring; answers come into `answers`, before all that waits.
    fn look(&mut self, answers: &mut Vec<Event>) {
        self.questions.drain(answers);
        self.probes.print_log();
        let now = clock::now();
        // Before the ring: an ICMP error comes before the failure it causes.
        let errors = self.icmp.read(now);
        self.ready.extend(errors.into_iter().map(Event::Icmp));
        let ring = self.ring.get_mut();
        let mut taken = 0;
        self.has_failed = false;
        while taken < BATCH {
            let Some(record) = ring.next() else { break };
            taken += 1;
            if let Some(life) = decode::life(&record) {
                drop(record);
                for event in lived(&mut self.following, &life) {
                    meet(&self.questions, &mut self.icmp, &event);
                    self.ready.push_back(event);
                }
                continue;
            }
            match decode::record(&record, self.probes.names()) {
                Ok(mut event) => {
                    complete(&mut event, &mut self.unread, now);
                    self.has_failed |= may_be_judged(&event);
                    self.ready.push_back(event);
                }
                Err(_) => self.undecoded += 1,
            }
        }
        self.received += taken as u64;
        if taken == BATCH {
            self.pace.behind();
        }
        let news = self.following.look(&mut self.probes, now);
        self.greet(news);
        let hooks = self.hooks(now);
        self.ready.extend(hooks);
        self.presence.beat(now);
        let short = self.descriptors.look(now);
        self.ready.extend(short.map(Event::Notice));
        let left_out = self.left_out();
        self.ready.extend(left_out);
        if self.has_failed {
            self.ticks.reset_after(LOOK_AGAIN);
        }
        if let Some(shed) = self.pace.look(self.following.workers()) {
            // Without it all is reported, as before. From a moment on that is still to come: no
            // request is judged by one sample and counted by the next.
            let _ = self.probes.shed(shed, clock::now().plus(SHED_AFTER));
        }
        self.ready.push_back(Event::Tick(now.whole_millisecond()));
    }

    /// Returns what was left out since the last call.
    fn left_out(&mut self) -> Option<Event> {
        let mut counters = self.probes.counters().ok()?;
        counters.lost += self.undecoded;
        if counters.closings > self.counters.closings {
            self.following.met_closings(&mut self.probes);
        }
        let before = std::mem::replace(&mut self.counters, counters);
        let skipped = self.skips.look(&self.probes, self.has_failed);
        let lost = Lost {
            // Now that all was counted: it touches what began before.
            at: clock::now(),
            events: counters.lost - before.lost,
            healthy: counters.healthy - before.healthy,
            bare: counters.bare - before.bare,
            unexplained: counters.failed - before.failed,
            skipped,
        };
        let any = lost.events + lost.healthy + lost.bare + lost.unexplained > 0
            || !lost.skipped.is_empty();
        any.then_some(Event::Lost(lost))
    }

    /// How many records the kernel side wrote, how many came, and how many found the ring full.
    #[must_use]
    pub(crate) fn account(&self) -> (u64, u64, u64) {
        (self.counters.written, self.received, self.counters.lost)
    }

    fn greet(&mut self, events: Vec<Event>) {
        for event in events {
            meet(&self.questions, &mut self.icmp, &event);
            self.ready.push_back(event);
        }
    }

    /// The names of the sights that are missing now.
    #[must_use]
    pub(crate) fn absent(&self) -> Vec<String> {
        let hooks = self.probes.absent().into_iter();
        let deaf = self.icmp.deaf().map(|_| ICMP_RECEIVE.name);
        hooks.chain(deaf).map(ToOwned::to_owned).collect()
    }

    /// Returns which hooks are attached, if that changed.
    fn hooks(&mut self, at: Time) -> Option<Event> {
        let absent = self.absent();
        if self.absent.as_ref() == Some(&absent) {
            return None;
        }
        self.absent = Some(absent.clone());
        Some(Event::Hooks(Hooks { at, absent }))
    }

    /// Asks the host each of these once; the answers come as events.
    pub(crate) fn ask(&self, questions: Vec<Question>) {
        let mut asked = HashSet::new();
        for question in questions {
            if asked.insert(question.clone()) {
                self.questions.ask(question);
            }
        }
    }

    /// Is there an answer of the host's to come?
    #[must_use]
    pub(crate) fn is_asking(&self) -> bool {
        self.questions.are_pending()
    }

    /// How many hooks are in each state.
    #[must_use]
    pub(crate) fn tally(&self) -> Tally {
        let mut tally = self.probes.tally();
        tally.add(match self.icmp.deaf() {
            Some(_) => State::Missing,
            None => State::Attached,
        });
        tally
    }

    /// Each hook, and whether it is attached in some way; nginx's own once there was one.
    #[must_use]
    pub(crate) fn hook_states(&self) -> Vec<(&'static str, bool)> {
        let probes = SIGHTS.iter();
        let probes = probes.filter_map(|sight| Some((sight.name, self.probes.state(sight)?)));
        let mut hooks: Vec<_> = probes
            .map(|(name, state)| (name, state != State::Missing))
            .collect();
        hooks.push((ICMP_RECEIVE.name, self.icmp.deaf().is_none()));
        hooks
    }

    /// The hooks, as they came out.
    #[must_use]
    pub(crate) fn probes(&self) -> &Probes {
        &self.probes
    }

    /// Why no failure can be seen of any nginx that runs, or, where none does, of one to come;
    /// `None` if there can.
    #[must_use]
    pub(crate) fn blindness(&self) -> Option<String> {
        self.blindness.clone()
    }

    /// Capabilities that were not there when it started.
    #[must_use]
    pub(crate) fn lacking(&self) -> &[Lacking] {
        &self.lacking
    }

    /// Who is followed.
    #[must_use]
    pub(crate) fn following(&self) -> &Following {
        &self.following
    }

    /// The time of the stream's end.
    #[must_use]
    pub(crate) fn now(&self) -> Time {
        clock::now()
    }
}

/// The reason with the capabilities that may be the reason for it.
fn named(why: String, lacking: &[Lacking]) -> String {
    let names: Vec<&str> = lacking.iter().map(|one| one.name).collect();
    match names.is_empty() {
        true => why,
        false => format!("{why} (without {})", names.join(", ")),
    }
}

/// What happened to a process, and what follows of it.
fn lived(following: &mut Following, life: &Life) -> Vec<Event> {
    let own = life.event().map(Event::Process);
    let news = following.process(life);
    own.into_iter().chain(news).collect()
}

/// May a verdict come of it?
fn may_be_judged(event: &Event) -> bool {
    !matches!(event, Event::Connection(c) if c.first_byte.is_some())
}

/// What the kernel side cannot tell, or could not read in its moment.
fn complete(event: &mut Event, unread: &mut Unread, now: Time) {
    match event {
        Event::PeerClosed(closed) => {
            if let Some(death) = &mut closed.death {
                name_unit(death);
            }
        }
        Event::Death(death) => name_unit(death),
        Event::LogCall(call) => unread.complete(call, now),
        _ => {}
    }
}

/// Who runs a process that died: it keeps its cgroup until it is reaped; then what the kernel side
/// read of it is left.
fn name_unit(death: &mut Death) {
    death.unit = process::unit(death.pid).or_else(|| process::unit_of(&death.cgroup));
}

/// A worker came: its logs and its namespace's ICMP errors are read from now on.
fn meet(questions: &Questions, icmp: &mut IcmpListener, event: &Event) {
    questions.tell(event);
    match event {
        Event::Worker(worker) => icmp.follow(worker.pid),
        Event::Process(Process {
            pid,
            kind: ProcessKind::Exited { .. } | ProcessKind::Executed,
            ..
        }) => icmp.forget(*pid),
        _ => {}
    }
}
