//! What takes long says so: its name at once, and how far it is every ten seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(10);

/// Speaks on stderr until it is dropped; whole lines, as other work may speak as well.
pub(crate) struct Progress {
    counted: Arc<AtomicUsize>,
    end: Option<Sender<()>>,
    speaker: Option<JoinHandle<()>>,
}

impl Progress {
    /// `unit` names what [`Self::count`] counts, if anything.
    pub(crate) fn of(what: &str, unit: &'static str) -> Self {
        eprintln!("{what}");
        // What is in brackets is said once.
        let short = what.split(" (").next().unwrap_or(what).to_owned();
        let counted = Arc::new(AtomicUsize::new(0));
        let (end, ended) = mpsc::channel();
        let so_far = Arc::clone(&counted);
        let speaker = thread::spawn(move || {
            let started = Instant::now();
            let line = || {
                let seconds = started.elapsed().as_secs();
                match so_far.load(Ordering::Relaxed) {
                    0 => format!("  {short}: {seconds} s"),
                    count => format!("  {short}: {count} {unit}, {seconds} s"),
                }
            };
            while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{}", line());
            }
            if started.elapsed() >= EVERY {
                eprintln!("{}, done", line());
            }
        });
        Self {
            counted,
            end: Some(end),
            speaker: Some(speaker),
        }
    }

    pub(crate) fn count(&self) {
        self.counted.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(speaker) = self.speaker.take() {
            // It only prints.
            drop(speaker.join());
        }
    }
}
