//! The output of a program, line by line as it comes.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// A line and when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When it was read.
    pub at: Instant,
    /// Its text, without the end of line.
    pub text: String,
}

/// The lines of a pipe, read by a thread as they come.
#[derive(Debug)]
pub(crate) struct Lines {
    lines: Arc<Mutex<Vec<Line>>>,
    thread: Option<JoinHandle<()>>,
}

impl Lines {
    pub(crate) fn of(pipe: impl Read + Send + 'static) -> Self {
        Self::heard(pipe, |_| {})
    }

    /// Also calls `hear` with each line as it comes.
    pub(crate) fn heard(
        pipe: impl Read + Send + 'static,
        hear: impl Fn(&str) + Send + 'static,
    ) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let thread = std::thread::spawn(move || {
            for text in BufReader::new(pipe).lines().map_while(Result::ok) {
                let at = Instant::now();
                hear(&text);
                sink.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(Line { at, text });
            }
        });
        Self {
            lines,
            thread: Some(thread),
        }
    }

    /// The lines so far.
    pub(crate) fn now(&self) -> Vec<Line> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns all lines, once the writer has closed.
    pub(crate) fn finish(&mut self) -> Vec<Line> {
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        self.now()
    }
}
