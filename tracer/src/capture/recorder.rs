//! Recording during a live run: events are gathered here, and written by a thread that may wait for
//! the disk.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use thiserror::Error;

use super::{
    header::Header,
    sink::{self, Plan, Sink, Stop},
    writer::{Numbered, Pages},
};
use crate::event::{Event, Time};

/// What was gathered is handed on after this long (nanoseconds).
const FLUSH: u64 = 1_000_000_000;
/// Mere ticks may wait for so long.
const FLUSH_TICKS: u64 = 60_000_000_000;
/// Bytes that may wait for a slow disk; beyond, pages are left out, and the reader says so.
const QUEUE: usize = 16 << 20;

/// Why recording could not begin.
#[derive(Debug, Error)]
pub(crate) enum CreateError {
    /// There is something of that name.
    #[error("{0} exists: captures are not overwritten, choose another name or remove it")]
    Exists(PathBuf),
    /// It can not be created.
    #[error("{path} can not be created")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The writing thread can not be started.
    #[error("starting to record")]
    Thread(#[source] io::Error),
}

/// How recording ended before its time. The words are one line.
#[derive(Debug, Error)]
pub(crate) enum Stopped {
    /// The file is full, as was asked.
    #[error("{0} is full (--max-size): recording ends, verdicts go on")]
    Full(PathBuf),
    /// It could not be written.
    #[error("{path}: {error}: recording ends, what was written before is readable, verdicts go on")]
    Failed {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

enum Job {
    Begin(Box<Header>),
    Page(Numbered),
    Dump,
    End(Time),
}

/// What the two threads know of each other.
#[derive(Debug, Default)]
struct Waiting {
    /// Bytes handed on and not written.
    bytes: AtomicUsize,
    /// Nothing is written any more.
    is_over: AtomicBool,
}

/// A recording in progress.
#[derive(Debug)]
pub(crate) struct Recorder {
    path: PathBuf,
    pages: Pages,
    jobs: Option<mpsc::Sender<Job>>,
    stopped: mpsc::Receiver<Stopped>,
    thread: Option<thread::JoinHandle<()>>,
    waiting: Arc<Waiting>,
    flushed: Time,
    left_out: u64,
}

impl Recorder {
    /// Creates the file, readable by its owner alone, and the thread that writes to it. The thread
    /// first calls `confine`, which may drop the privileges that writing does not need.
    ///
    /// # Errors
    /// The file exists, or can not be created.
    pub(crate) fn create(
        plan: Plan,
        confine: impl FnOnce() + Send + 'static,
    ) -> Result<Self, CreateError> {
        for age in 1..plan.files {
            let older = sink::older(&plan.path, age);
            if older.exists() {
                return Err(CreateError::Exists(older));
            }
        }
        let file = sink::create(&plan.path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => CreateError::Exists(plan.path.clone()),
            _ => CreateError::Io {
                path: plan.path.clone(),
                source,
            },
        })?;
        let path = plan.path.clone();
        let (jobs, todo) = mpsc::channel();
        let (say, stopped) = mpsc::channel();
        let waiting = Arc::new(Waiting::default());
        let shared = Arc::clone(&waiting);
        let thread = thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || {
                confine();
                write(plan, file, &todo, &say, &shared);
            })
            .map_err(CreateError::Thread)?;
        Ok(Self {
            path,
            pages: Pages::default(),
            jobs: Some(jobs),
            stopped,
            thread: Some(thread),
            waiting,
            flushed: Time(0),
            left_out: 0,
        })
    }

    /// Recording begins.
    pub(crate) fn begin(&mut self, header: Header) {
        self.flushed = Time(header.clock.boot);
        self.send(Job::Begin(Box::new(header)));
    }

    /// Adds the next event of the stream.
    pub(crate) fn add(&mut self, event: &Event) {
        if self.waiting.is_over.load(Ordering::Relaxed) {
            return;
        }
        self.pages.add(event);
        let due = match event {
            Event::Tick(now) => {
                let wait = if self.pages.has_substance() {
                    FLUSH
                } else {
                    FLUSH_TICKS
                };
                self.pages.is_full() || now.since(self.flushed) >= wait
            }
            _ => self.pages.is_overfull(),
        };
        if due {
            self.flush(event.at());
        }
    }

    fn flush(&mut self, now: Time) {
        self.flushed = self.flushed.max(now);
        let Some(one) = self.pages.take() else { return };
        let size = one.page.payload.len();
        // What is not written as it is over has its reason, which was said.
        if self.waiting.is_over.load(Ordering::Relaxed) {
            return;
        }
        if self.waiting.bytes.load(Ordering::Relaxed) + size > QUEUE {
            self.left_out += u64::from(one.page.events);
            return;
        }
        self.waiting.bytes.fetch_add(size, Ordering::Relaxed);
        self.send(Job::Page(one));
    }

    fn send(&self, job: Job) {
        // Without a thread recording has ended, which was said.
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(job));
    }

    /// Writes out what the ring keeps.
    pub(crate) fn dump(&mut self, now: Time) {
        self.flush(now);
        self.send(Job::Dump);
    }

    /// Whether recording ended; reported once.
    pub(crate) fn stopped(&self) -> Option<Stopped> {
        self.stopped.try_recv().ok()
    }

    /// Events left out because the disk was too slow.
    #[must_use]
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Ends the stream: waits until all is written. Returns what was not reported yet.
    pub(crate) fn finish(mut self, at: Time) -> Option<Stopped> {
        self.flush(at);
        self.send(Job::End(at));
        let is_whole = self.join();
        let stopped = self.stopped.try_recv().ok();
        stopped.or_else(|| {
            (!is_whole).then(|| {
                let error = io::Error::other("a fault of tracer's own");
                failed(&self.path, error)
            })
        })
    }

    /// Waits for the thread; `false` if it panicked.
    fn join(&mut self) -> bool {
        self.jobs = None;
        self.thread
            .take()
            .is_none_or(|thread| thread.join().is_ok())
    }
}

impl Drop for Recorder {
    /// The run ended otherwise than by [`finish`](Self::finish), by a panic or an error: what there
    /// is is written, and the file shows no end.
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.dump(self.flushed);
            self.join();
        }
    }
}

/// The thread.
fn write(
    plan: Plan,
    file: fs::File,
    todo: &mpsc::Receiver<Job>,
    say: &mpsc::Sender<Stopped>,
    waiting: &Waiting,
) {
    let path = plan.path.clone();
    let Ok(Job::Begin(header)) = todo.recv() else {
        // Tracing never began: nothing is left behind.
        let _ = fs::remove_file(&path);
        return;
    };
    let mut sink = match Sink::begin(plan, *header, file) {
        Ok(sink) => sink,
        Err(error) => {
            waiting.is_over.store(true, Ordering::Relaxed);
            let _ = say.send(failed(&path, error));
            return;
        }
    };
    let mut now = Time(0);
    while let Ok(job) = todo.recv() {
        let done = match job {
            Job::Page(one) => {
                now = one.page.times.1;
                waiting
                    .bytes
                    .fetch_sub(one.page.payload.len(), Ordering::Relaxed);
                sink.take(one)
            }
            Job::Dump => sink.dump(),
            Job::End(at) => sink.end(at),
            Job::Begin(_) => Ok(()),
        };
        if let Err(stop) = done {
            waiting.is_over.store(true, Ordering::Relaxed);
            sink.give_up(now);
            let _ = say.send(match stop {
                Stop::Full => Stopped::Full(path),
                Stop::Failed(error) => failed(&path, error),
            });
            return;
        }
    }
    // The run ended without a word: so does the file.
}

fn failed(path: &Path, error: io::Error) -> Stopped {
    Stopped::Failed {
        path: path.to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::LogLine;

    #[test]
    fn what_comes_after_the_end_was_not_left_out_for_a_slow_disk() {
        let name = format!("tracer-recorder-{}.trc", std::process::id());
        let path = std::env::temp_dir().join(name);
        let plan = Plan {
            path: path.clone(),
            max_size: Some(4096),
            files: 1,
            ring: None,
        };
        let mut recorder = Recorder::create(plan, || {}).expect("a file");
        recorder.begin(crate::capture::tests::header());
        let mut at = 1_000_000_000;
        let mut second = |recorder: &mut Recorder| {
            at += 1_000_000_000;
            for _ in 0..8 {
                recorder.add(&Event::LogLine(LogLine {
                    at: Time(at),
                    // No two are alike: they do not get smaller.
                    message: format!("{at:x}").repeat(8192),
                    ..LogLine::default()
                }));
            }
            recorder.add(&Event::Tick(Time(at)));
        };
        let stopped = loop {
            second(&mut recorder);
            if let Some(stopped) = recorder.stopped() {
                break stopped;
            }
        };
        assert!(matches!(stopped, Stopped::Full(_)), "{stopped}");
        // Several times what may wait.
        (0..100).for_each(|_| second(&mut recorder));
        assert_eq!(recorder.left_out(), 0);
        assert!(recorder.finish(Time(at)).is_none());
        fs::remove_file(path).expect("removed");
    }
}
