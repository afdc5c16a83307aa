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
    folder::Folder,
    header::Header,
    ring::{Dumped, Ring, RingPlan, Why},
    sink::{self, Rotation, Sink, Stop},
    writer::{Numbered, Pages},
};
use crate::event::{Event, Time};

/// How a run is kept.
#[derive(Debug, Clone)]
pub(crate) enum Plan {
    /// Every event, in a file or several in rotation.
    Files(Rotation),
    /// The newest events in memory, written to a file for each incident.
    Ring(RingPlan),
}

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
    /// Its folder has a recorder already.
    #[error("another tracer records to {0}: choose another folder")]
    Taken(PathBuf),
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

/// What became of what was recorded. The words are one line.
#[derive(Debug, Error)]
pub(crate) enum News {
    /// The file is full, as was asked.
    #[error("tracer: {0} is full (--max-size): recording ends, verdicts go on")]
    Full(PathBuf),
    /// It could not be written.
    #[error(
        "tracer: {path}: {error}: recording ends, what was written before is readable, verdicts go on"
    )]
    Failed {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The ring was written to a file.
    #[error("{0}")]
    Dumped(Dumped),
    /// The ring could not be written.
    #[error("tracer: {folder}: {error}: the ring was not written; recording goes on")]
    NotDumped {
        /// Where to.
        folder: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl News {
    /// Is something missing that should be in a file?
    pub(crate) fn is_failure(&self) -> bool {
        match self {
            Self::Full(_) => false,
            Self::Failed { .. } | Self::NotDumped { .. } => true,
            Self::Dumped(dumped) => dumped.is_cut(),
        }
    }
}

/// Gets the file that was asked for, or why there is none.
pub(crate) type Reply = Box<dyn FnOnce(Result<PathBuf, String>) + Send>;

enum Job {
    Begin(Box<Header>),
    Page(Numbered),
    Burst(Time),
    Quiet(Time),
    Dump(Why, Time, Option<Reply>),
    End { at: Time, is_wanted: bool },
}

/// Where the thread writes.
enum Target {
    File(Rotation, fs::File),
    Folder(RingPlan, Folder),
}

/// What the two threads know of each other.
#[derive(Debug, Default)]
struct Waiting {
    /// Bytes handed on and not written.
    bytes: AtomicUsize,
    /// Nothing is written any more.
    is_over: AtomicBool,
}

impl Waiting {
    /// A page is written now.
    fn taken(&self, one: &Numbered) {
        self.bytes
            .fetch_sub(one.page.payload.len(), Ordering::Relaxed);
    }
}

/// A recording in progress.
#[derive(Debug)]
pub(crate) struct Recorder {
    path: PathBuf,
    pages: Pages,
    jobs: Option<mpsc::Sender<Job>>,
    news: mpsc::Receiver<News>,
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
        let (path, target) = match plan {
            Plan::Files(plan) => (plan.path.clone(), file(plan)?),
            Plan::Ring(plan) => (plan.folder.clone(), folder(plan)?),
        };
        let (jobs, todo) = mpsc::channel();
        let (say, news) = mpsc::channel();
        let waiting = Arc::new(Waiting::default());
        let shared = Arc::clone(&waiting);
        let thread = thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || {
                confine();
                match target {
                    Target::File(plan, file) => write(plan, file, &todo, &say, &shared),
                    Target::Folder(plan, folder) => {
                        write_ring(&plan, folder, &todo, &say, &shared);
                    }
                }
            })
            .map_err(CreateError::Thread)?;
        Ok(Self {
            path,
            pages: Pages::default(),
            jobs: Some(jobs),
            news,
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

    /// A burst of failures began: the ring is written, and what follows goes there too.
    pub(crate) fn burst(&mut self, now: Time) {
        self.flush(now);
        self.send(Job::Burst(now));
    }

    /// The burst ended, and its file with it.
    pub(crate) fn quiet(&mut self, now: Time) {
        self.flush(now);
        self.send(Job::Quiet(now));
    }

    /// Writes what the ring keeps, or ends the file of a burst; of other recordings, what was
    /// gathered.
    pub(crate) fn dump(&mut self, why: Why, now: Time, reply: Option<Reply>) {
        self.flush(now);
        self.send(Job::Dump(why, now, reply));
    }

    /// What happened since; each is reported once.
    pub(crate) fn news(&self) -> Option<News> {
        self.news.try_recv().ok()
    }

    /// Events left out because the disk was too slow.
    #[must_use]
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Ends the stream: waits until all is written; of a ring, only if that `is_wanted` or a burst
    /// is open. Returns what was not reported yet.
    pub(crate) fn finish(mut self, at: Time, is_wanted: bool) -> Vec<News> {
        self.flush(at);
        self.send(Job::End { at, is_wanted });
        let is_whole = self.join();
        let mut news: Vec<News> = self.news.try_iter().collect();
        if !is_whole && news.is_empty() {
            let error = io::Error::other("a fault of tracer's own");
            news.push(failed(&self.path, error));
        }
        news
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
            self.dump(Why::End, self.flushed, None);
            self.join();
        }
    }
}

/// Creates the file.
fn file(plan: Rotation) -> Result<Target, CreateError> {
    for age in 1..plan.files {
        let older = sink::older(&plan.path, age);
        if older.exists() {
            return Err(CreateError::Exists(older));
        }
    }
    match sink::create(&plan.path) {
        Ok(file) => Ok(Target::File(plan, file)),
        Err(source) => Err(match source.kind() {
            io::ErrorKind::AlreadyExists => CreateError::Exists(plan.path),
            _ => CreateError::Io {
                path: plan.path,
                source,
            },
        }),
    }
}

/// Opens the folder, in which this recorder is alone.
fn folder(plan: RingPlan) -> Result<Target, CreateError> {
    match Folder::open(&plan.folder) {
        Ok(folder) => Ok(Target::Folder(plan, folder)),
        Err(source) => Err(match source.kind() {
            io::ErrorKind::WouldBlock => CreateError::Taken(plan.folder),
            _ => CreateError::Io {
                path: plan.folder,
                source,
            },
        }),
    }
}

/// The thread that writes files.
fn write(
    plan: Rotation,
    file: fs::File,
    todo: &mpsc::Receiver<Job>,
    say: &mpsc::Sender<News>,
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
                waiting.taken(&one);
                sink.take(&one)
            }
            Job::Dump(..) => sink.sync(),
            Job::End { at, .. } => sink.end(at),
            Job::Begin(_) | Job::Burst(_) | Job::Quiet(_) => Ok(()),
        };
        if let Err(stop) = done {
            waiting.is_over.store(true, Ordering::Relaxed);
            sink.give_up(now);
            let _ = say.send(match stop {
                Stop::Full => News::Full(path),
                Stop::Failed(error) => failed(&path, error),
            });
            return;
        }
    }
    // The run ended without a word: so does the file.
}

/// The thread that keeps a ring.
fn write_ring(
    plan: &RingPlan,
    folder: Folder,
    todo: &mpsc::Receiver<Job>,
    say: &mpsc::Sender<News>,
    waiting: &Waiting,
) {
    let Ok(Job::Begin(header)) = todo.recv() else {
        return;
    };
    let mut ring = Ring::new(plan, folder, *header);
    while let Ok(job) = todo.recv() {
        let mut reply = None;
        let done = match job {
            Job::Page(one) => {
                waiting.taken(&one);
                ring.take(one)
            }
            Job::Burst(at) => ring.burst(at).map(|()| None),
            Job::Quiet(at) => Ok(ring.quiet(at)),
            Job::Dump(why, at, asked) => {
                reply = asked;
                ring.dump(why, at).map(Some)
            }
            Job::End { at, is_wanted } => ring.end(at, is_wanted),
            Job::Begin(_) => Ok(None),
        };
        if let Some(reply) = reply {
            reply(match &done {
                Ok(Some(dumped)) => Ok(dumped.path.clone()),
                Ok(None) => Err("nothing was recorded".to_owned()),
                Err(error) => Err(format!("{}: {error}", ring.folder().path().display())),
            });
        }
        let news = match done {
            Ok(dumped) => dumped.map(News::Dumped),
            Err(error) => Some(News::NotDumped {
                folder: ring.folder().path().to_owned(),
                error,
            }),
        };
        if let Some(news) = news {
            let _ = say.send(news);
        }
    }
}

fn failed(path: &Path, error: io::Error) -> News {
    News::Failed {
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
        let plan = Plan::Files(Rotation {
            path: path.clone(),
            max_size: Some(4096),
            files: 1,
        });
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
        let news = loop {
            second(&mut recorder);
            if let Some(news) = recorder.news() {
                break news;
            }
        };
        assert!(matches!(news, News::Full(_)), "{news}");
        // Several times what may wait.
        (0..100).for_each(|_| second(&mut recorder));
        assert_eq!(recorder.left_out(), 0);
        assert!(recorder.finish(Time(at), false).is_empty());
        fs::remove_file(path).expect("removed");
    }
}
