//! The observer's thread: it may block on a slow host while the ring is still drained.

use std::{
    collections::{HashSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc as asynchronous;

use super::{clock, host::Observer, privileges};
use crate::event::{Event, Fact, Process, ProcessKind, Question, Time};

/// What the thread is asked to do.
enum Job {
    Ask(Question),
    Follow(u32),
    Forget(u32),
    /// All that came before are followed: their resources are polled.
    Settle(mpsc::SyncSender<()>),
}

/// A handle on the thread; it ends when the handle is dropped.
#[derive(Debug)]
pub(super) struct Questions {
    jobs: mpsc::SyncSender<Job>,
    answers: asynchronous::UnboundedReceiver<Vec<Event>>,
    /// Asked and not done with.
    pending: Arc<AtomicUsize>,
}

/// Questions in flight at once; the correlator asks the same thing no more than five times a
/// second.
const JOBS: usize = 4096;

/// How often nginx's own limits are looked at.
const LOOK: Duration = Duration::from_secs(1);

impl Questions {
    pub(super) fn start(mut observer: Observer) -> std::io::Result<Self> {
        let (jobs, todo) = mpsc::sync_channel(JOBS);
        let (done, answers) = asynchronous::unbounded_channel();
        let pending = Arc::new(AtomicUsize::new(0));
        let asked = Arc::clone(&pending);
        thread::Builder::new()
            .name("observer".to_owned())
            .spawn(move || {
                privileges::observer();
                let mut looked = Instant::now();
                loop {
                    if looked.elapsed() >= LOOK {
                        looked = Instant::now();
                        let news =
                            caught(|| observer.look(clock::now(), false)).unwrap_or_default();
                        if done.send(news).is_err() {
                            return;
                        }
                    }
                    let next = caught(|| observer.release()).flatten().unwrap_or(LOOK);
                    let wait = next.min(LOOK.saturating_sub(looked.elapsed()));
                    let job = match todo.recv_timeout(wait) {
                        Ok(job) => job,
                        Err(RecvTimeoutError::Timeout) => continue,
                        Err(RecvTimeoutError::Disconnected) => return,
                    };
                    // Whoever asked the same while the host was slow is answered at once.
                    let mut answered = HashSet::new();
                    let mut waiting = VecDeque::new();
                    let mut next = Some(job);
                    loop {
                        // Who came goes first: whose a log's line is, is known of those that are
                        // followed alone.
                        while let Some(job) = next {
                            match job {
                                Job::Ask(question) => {
                                    answered.remove(&question);
                                    waiting.push_back((question, clock::now()));
                                }
                                Job::Follow(worker) => {
                                    caught(|| observer.follow(worker));
                                }
                                Job::Forget(worker) => {
                                    caught(|| observer.forget(worker));
                                }
                                Job::Settle(settled) => {
                                    // What was dropped before is not reported; and what is short
                                    // already is reported at once.
                                    let news = caught(|| observer.look(clock::now(), false));
                                    let _ = done.send(news.unwrap_or_default());
                                    let _ = settled.send(());
                                }
                            }
                            next = match waiting.len() < JOBS {
                                true => todo.try_recv().ok(),
                                false => None,
                            };
                        }
                        let Some((question, at)) = waiting.pop_front() else {
                            break;
                        };
                        if !answered.contains(&question) {
                            let events = answer(&question, |question, now| {
                                observer.answer(question, at, now)
                            });
                            if done.send(events).is_err() {
                                return;
                            }
                            answered.insert(question);
                        }
                        asked.fetch_sub(1, Ordering::Release);
                        // It is looked once a second at what runs short, however much is asked.
                        if looked.elapsed() >= LOOK {
                            looked = Instant::now();
                            let news = caught(|| observer.look(clock::now(), true));
                            let news = news.unwrap_or_default();
                            if done.send(news).is_err() {
                                return;
                            }
                        }
                        next = todo.try_recv().ok();
                    }
                }
            })?;
        Ok(Self {
            jobs,
            answers,
            pending,
        })
    }

    /// Asks. With too many in flight the question is dropped, and its case closes without the
    /// answer.
    pub(super) fn ask(&self, question: Question) {
        self.pending.fetch_add(1, Ordering::Relaxed);
        if self.jobs.try_send(Job::Ask(question)).is_err() {
            self.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Is an answer to come? `false`: those there are can be drained.
    pub(super) fn are_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire) > 0
    }

    /// Reports who came and went: a worker's logs are read from where they end when it comes.
    pub(super) fn tell(&self, event: &Event) {
        let job = match event {
            Event::Worker(worker) => Job::Follow(worker.pid),
            Event::Process(Process {
                pid,
                kind: ProcessKind::Exited { .. } | ProcessKind::Executed,
                ..
            }) => Job::Forget(*pid),
            _ => return,
        };
        let _ = self.jobs.try_send(job);
    }

    /// Has a worker followed that runs already; waits for a place.
    pub(super) fn meet(&self, worker: u32) {
        let _ = self.jobs.send(Job::Follow(worker));
    }

    /// Waits until all that were reported are followed.
    pub(super) fn settle(&self) {
        let (settled, wait) = mpsc::sync_channel(1);
        let _ = self.jobs.send(Job::Settle(settled));
        let _ = wait.recv();
    }

    /// The next answer's events; never ends while the handle lives.
    pub(super) async fn answer(&mut self) -> Vec<Event> {
        self.answers.recv().await.unwrap_or_default()
    }

    /// What is there already.
    pub(super) fn drain(&mut self, into: &mut Vec<Event>) {
        while let Ok(events) = self.answers.try_recv() {
            into.extend(events);
        }
    }
}

/// What `ask` answers; a panic in it, which was reported, costs this question alone.
fn answer(question: &Question, ask: impl FnOnce(&Question, Time) -> Vec<Event>) -> Vec<Event> {
    let now = clock::now();
    caught(|| ask(question, now)).unwrap_or_else(|| {
        vec![Event::Fact(Box::new(Fact {
            at: now,
            question: question.clone(),
            finding: Err("a fault of tracer's own".to_owned()),
        }))]
    })
}

/// `None` if it panicked. What the observer keeps between questions is caches, which hold whole
/// entries alone.
fn caught<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_costs_one_question() {
        let question = Question::Log { worker: 7 };
        let events = answer(&question, |_, _| panic!("hostile bytes"));
        let [Event::Fact(fact)] = &events[..] else {
            panic!("{events:?}");
        };
        assert_eq!(fact.question, question);
        assert!(fact.finding.is_err());
        assert_eq!(answer(&question, |_, now| vec![Event::Tick(now)]).len(), 1);
    }
}
