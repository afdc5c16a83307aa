//! The scout's thread: it finds out what processes are. Whoever owns one chooses what it shows, so
//! it may take its time, while the ring is still drained.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, mpsc},
    thread,
    time::Instant,
};

use tokio::sync::mpsc as asynchronous;
use tracer_ebpf::abi::{self, Layout, Members, ProgramKey};

use super::{clock, privileges, scope::Scope};
use crate::{
    event::Time,
    nginx::{self, Binaries, Binary, ExeId, Kind, Master},
    probe::{Executable, Probes},
    process::{self, foreign},
};

/// A process that may be nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) pid: u32,
    /// What it executes, where it was seen to.
    pub(super) program: ProgramKey,
    /// When it executed that, or was forked.
    pub(super) since: Time,
    /// It is followed already, by what it executes or who forked it.
    pub(super) is_followed: bool,
    /// It is to be followed if it is nginx, whatever the scope says of it.
    pub(super) is_wanted: bool,
    /// How often it was looked at.
    pub(super) looks: usize,
}

/// What was found out.
#[derive(Debug)]
pub(super) enum Found {
    /// An nginx.
    Master(Box<Described>, Candidate),
    /// It executes nginx, and is not ready yet.
    Program(Box<Described>, Candidate),
    /// Neither, so far.
    Nothing(Candidate),
    /// It has ended.
    Gone,
    /// Whether a master's workers log what fails, and have no unix upstreams.
    Outspoken { master: u32, is_outspoken: bool },
}

/// An nginx, and what is to be known to follow it.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    /// The nginx.
    pub master: Master,
    pub(super) layout: Layout,
    pub(super) is_outspoken: bool,
    /// See [`nginx::breakpoints`].
    pub(super) breakpoints: BTreeSet<String>,
    /// Its program is reached by the mount of this process's root.
    pub(super) is_at_root: bool,
    /// When it was described.
    pub(super) at: Instant,
    /// What the kernel side knows its program by, where that is what `stat()` shows.
    pub(super) key: Option<ProgramKey>,
    /// Why nothing may be attached to it.
    pub(super) forbidden: Option<&'static str>,
    /// All that run the same program already.
    pub(super) others: Vec<u32>,
}

impl Described {
    /// Finds out about a master; it may take its time. `assumed`: see
    /// [`Following::new`](super::following::Following::new).
    #[must_use]
    pub(crate) fn of(master: Master, assumed: Option<Members>) -> Self {
        let shown = master.shown();
        let layout = master.layout();
        Self {
            at: Instant::now(),
            is_at_root: foreign::is_exe_at_root(shown),
            layout: Layout {
                members: assumed.unwrap_or(layout.members),
                ..layout
            },
            is_outspoken: master.is_outspoken(None, clock::now()),
            breakpoints: nginx::breakpoints(shown, &master.binary),
            key: key(shown, master.binary.id),
            forbidden: forbidden(shown),
            others: Vec::new(),
            master,
        }
    }

    /// Hooks what it runs, through a process that runs it; gives the layout that the kernel side is
    /// to follow its processes by. `is_believed`: what its configuration says of its logs holds.
    pub(crate) fn attach(&self, probes: &mut Probes, pid: u32, is_believed: bool) -> Layout {
        let executable = Executable {
            pid,
            binary: self.binary(),
            is_outspoken: is_believed && self.is_outspoken,
            breakpoints: &self.breakpoints,
            forbidden: self.forbidden,
        };
        probes.attach_nginx(&executable, self.layout)
    }

    pub(super) fn binary(&self) -> &Arc<Binary> {
        &self.master.binary
    }

    /// What the kernel side needs to follow whoever executes the program.
    pub(super) fn program(&self) -> abi::Program {
        let connect = match (self.layout.connect, self.binary().connect) {
            (0, _) | (_, None) => 0,
            (_, Some((address, _))) => address,
        };
        abi::Program {
            layout: Layout {
                connect,
                ..self.layout
            },
            code: match process::starts_at_code() {
                true => self.binary().code,
                false => self.binary().first,
            },
        }
    }
}

enum Job {
    Scan(mpsc::Sender<Described>),
    Look(Candidate),
    Outspoken(Box<Master>, Time),
}

/// A handle on the thread; it ends when the handle is dropped.
#[derive(Debug)]
pub(super) struct Scout {
    jobs: mpsc::SyncSender<Job>,
    found: asynchronous::UnboundedReceiver<Found>,
}

impl Scout {
    /// Starts it; the first that it does is to find all that runs.
    ///
    /// # Errors
    /// A thread can not be started.
    pub(super) fn start(scope: Scope, assumed: Option<Members>) -> std::io::Result<Self> {
        let (jobs, todo) = mpsc::sync_channel(JOBS);
        let (give, found) = asynchronous::unbounded_channel();
        let mut own = Own {
            scope,
            assumed,
            binaries: Binaries::default(),
        };
        thread::Builder::new()
            .name("scout".to_owned())
            .spawn(move || {
                privileges::observer();
                let mut queue = Queue::default();
                while let Some(job) = queue.next(&todo) {
                    for found in own.work(job) {
                        if give.send(found).is_err() {
                            return;
                        }
                    }
                }
            })?;
        Ok(Self { jobs, found })
    }

    /// All that runs now, as it is found.
    pub(super) fn scan(&self) -> mpsc::IntoIter<Described> {
        let (give, found) = mpsc::channel();
        let _ = self.jobs.send(Job::Scan(give));
        found.into_iter()
    }

    /// Queues a process for inspection; `false` if too much is queued.
    #[must_use]
    pub(super) fn look(&self, candidate: Candidate) -> bool {
        self.jobs.try_send(Job::Look(candidate)).is_ok()
    }

    /// Queues a master's configuration, which workers that began at `since` have read; `false`
    /// if too much is queued.
    #[must_use]
    pub(super) fn read_configuration(&self, master: Master, since: Time) -> bool {
        self.jobs
            .try_send(Job::Outspoken(Box::new(master), since))
            .is_ok()
    }

    /// The next thing that was found out; never ends while the handle lives.
    pub(super) async fn next(&mut self) -> Option<Found> {
        self.found.recv().await
    }

    /// What was found out so far.
    pub(super) fn take(&mut self) -> Option<Found> {
        self.found.try_recv().ok()
    }
}

/// What it may have to do at a time: some 50 ms of looks.
const JOBS: usize = 1024;

/// A process's start is known in ticks of 10 ms (nanoseconds).
const TICKS: u64 = 20_000_000;

/// Jobs that wait: what is root's comes before what other users started, who may start any number.
#[derive(Default)]
struct Queue {
    first: VecDeque<Job>,
    then: VecDeque<Job>,
}

impl Queue {
    /// The next job; `None` if there will be no more.
    fn next(&mut self, todo: &mpsc::Receiver<Job>) -> Option<Job> {
        if self.first.is_empty() && self.then.is_empty() {
            self.add(todo.recv().ok()?);
        }
        // What is here stays bounded: what finds the channel full waits where it is.
        while self.first.len() + self.then.len() < 4 * JOBS {
            match todo.try_recv() {
                Ok(job) => self.add(job),
                Err(_) => break,
            }
        }
        self.first.pop_front().or_else(|| self.then.pop_front())
    }

    fn add(&mut self, job: Job) {
        let is_another_user_s = match &job {
            Job::Look(candidate) => {
                process::status(candidate.pid).is_ok_and(|status| status.uid != 0)
            }
            Job::Scan(_) | Job::Outspoken(..) => false,
        };
        match is_another_user_s {
            true => self.then.push_back(job),
            false => self.first.push_back(job),
        }
    }
}

/// What the thread has.
struct Own {
    scope: Scope,
    assumed: Option<Members>,
    binaries: Binaries,
}

impl Own {
    fn work(&mut self, job: Job) -> Vec<Found> {
        match job {
            Job::Scan(give) => {
                let scope = &self.scope;
                let wanted = |master: u32, workers: &[u32]| scope.has(master, workers);
                for master in nginx::scan(wanted, &mut self.binaries) {
                    let _ = give.send(Described::of(master, self.assumed));
                }
                Vec::new()
            }
            Job::Look(candidate) => vec![self.look(candidate)],
            Job::Outspoken(master, since) => vec![Found::Outspoken {
                is_outspoken: master.is_outspoken(Some(since), clock::now()),
                master: master.pid,
            }],
        }
    }

    fn look(&mut self, candidate: Candidate) -> Found {
        // Most programs end soon; to ask so costs little. Another may have its pid by now.
        match process::start_time(candidate.pid) {
            Ok(start) if start.0 <= candidate.since.0.saturating_add(TICKS) => {}
            _ => return Found::Gone,
        }
        let nothing = Found::Nothing(candidate);
        let Some(process) = nginx::inspect(candidate.pid) else {
            return nothing;
        };
        let is_wanted = candidate.is_wanted
            || self.scope.has(candidate.pid, &[])
            || self.scope.has(process.parent, &[]);
        if !is_wanted {
            return nothing;
        }
        let master = match process.kind {
            Kind::Master | Kind::Single | Kind::Starting => {
                nginx::master(candidate.pid, process.kind, &mut self.binaries)
            }
            Kind::Worker | Kind::Other => None,
        };
        let Some(master) = master else {
            return nothing;
        };
        match process.kind {
            // What its libraries tell is known by then.
            Kind::Starting if candidate.is_followed && candidate.looks > 2 => nothing,
            Kind::Starting => {
                let mut described = Described::of(master, self.assumed);
                if !candidate.is_followed {
                    described.others = nginx::runs_the_same(candidate.pid);
                }
                Found::Program(Box::new(described), candidate)
            }
            _ => Found::Master(Box::new(Described::of(master, self.assumed)), candidate),
        }
    }
}

/// What the kernel side knows a program by, of file systems whose inodes are what `stat()` shows:
/// stacked ones and such with subvolumes show others.
fn key(pid: u32, (device, inode): ExeId) -> Option<ProgramKey> {
    // ext2 to ext4, XFS, tmpfs, F2FS (include/uapi/linux/magic.h).
    const PLAIN: [u64; 4] = [0xef53, 0x5846_5342, 0x0102_1994, 0xf2f5_2010];
    let kind = foreign::exe_file_system(pid).ok()?;
    PLAIN.contains(&kind).then(|| ProgramKey {
        inode,
        // As the kernel has it: `MKDEV` (include/linux/kdev_t.h).
        device: libc::major(device) << 20 | libc::minor(device),
        padding: 0,
    })
}

/// `FUSE_SUPER_MAGIC` (include/uapi/linux/magic.h).
const FUSE: u64 = 0x6573_5546;

/// Why nothing may be attached to what a process runs: the kernel reads the file while all forks of
/// the host wait.
fn forbidden(pid: u32) -> Option<&'static str> {
    match foreign::exe_file_system(pid) {
        Ok(FUSE) => {
            Some("its binary lies on a FUSE file system, whose server could stall the kernel")
        }
        Ok(_) => None,
        // It is gone, or stalls.
        Err(_) => process::stalling()
            .contains(&pid)
            .then_some("the file system of its binary does not answer"),
    }
}
