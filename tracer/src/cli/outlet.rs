//! stdout, written by a thread of its own: a slow or stalled reader blocks neither collection nor
//! the end of a run. A pager left open must not cost kernel records.

use std::{
    io::{self, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use crate::source::keep_nothing;

/// Bytes that may wait for their reader; more is refused.
const WAITING: usize = 4 << 20;
/// What a pipe holds.
const PIECE: usize = 64 << 10;
/// At the end: a reader that takes nothing for this long has stalled.
const PATIENCE: Duration = Duration::from_secs(2);

/// Buffers what is to be written; see [the module](self).
#[derive(Debug)]
pub(super) struct Outlet {
    text: Vec<u8>,
    jobs: Option<mpsc::Sender<Vec<u8>>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes.
    waiting: usize,
    error: Option<io::Error>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outlet {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (jobs, todo) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let of_writer = Arc::clone(&shared);
        thread::Builder::new()
            .name("stdout".to_owned())
            .spawn(move || {
                keep_nothing();
                write(out, &todo, &of_writer);
            })?;
        Ok(Self {
            text: Vec::new(),
            jobs: Some(jobs),
            shared,
        })
    }

    /// Is all of it written?
    pub(super) fn is_idle(&self) -> bool {
        self.shared.state().waiting == 0
    }

    /// Is the buffer full?
    pub(super) fn is_full(&self) -> bool {
        self.shared.state().waiting >= WAITING
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// Those of the writer; or the reader stalled.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.flush()?;
        self.jobs = None;
        let mut state = self.shared.state();
        while state.waiting > 0 && state.error.is_none() {
            let before = state.waiting;
            let (now, waited) = self
                .shared
                .changed
                .wait_timeout(state, PATIENCE)
                .unwrap_or_else(PoisonError::into_inner);
            state = now;
            if waited.timed_out() && state.waiting == before {
                let what = format!("nobody reads it: {before} bytes are not written");
                return Err(io::Error::new(io::ErrorKind::TimedOut, what));
            }
        }
        state.error.take().map_or(Ok(()), Err)
    }
}

impl Write for Outlet {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(text);
        Ok(text.len())
    }

    /// Hands it on.
    fn flush(&mut self) -> io::Result<()> {
        let mut state = self.shared.state();
        if let Some(error) = state.error.take() {
            return Err(error);
        }
        if !self.text.is_empty()
            && let Some(jobs) = &self.jobs
        {
            state.waiting += self.text.len();
            // It ends only with an error, which the next call returns.
            let _ = jobs.send(mem::take(&mut self.text));
        }
        Ok(())
    }
}

fn write(mut out: impl Write, todo: &mpsc::Receiver<Vec<u8>>, shared: &Shared) {
    for text in todo {
        for piece in text.chunks(PIECE) {
            let written = out.write_all(piece).and_then(|()| out.flush());
            let mut state = shared.state();
            state.waiting -= piece.len();
            let is_over = written.is_err();
            state.error = written.err();
            shared.changed.notify_one();
            if is_over {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, pipe};

    use super::*;

    #[test]
    fn all_is_written_in_order() {
        let (mut reader, writer) = pipe().unwrap();
        let mut outlet = Outlet::start(writer).unwrap();
        let reading = thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        let mut expected = String::new();
        for number in 0..100_000 {
            let line = format!("{number}\n");
            outlet.write_all(line.as_bytes()).unwrap();
            expected.push_str(&line);
            if number % 1000 == 0 {
                outlet.flush().unwrap();
            }
        }
        outlet.finish().unwrap();
        drop(outlet);
        assert_eq!(reading.join().unwrap().unwrap(), expected);
    }

    #[test]
    fn a_reader_that_stopped_holds_up_nothing() {
        let (reader, writer) = pipe().unwrap();
        let mut outlet = Outlet::start(writer).unwrap();
        while !outlet.is_full() {
            outlet.write_all(&[b'x'; PIECE]).unwrap();
            outlet.flush().unwrap();
        }
        let error = outlet.finish().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(reader);
    }

    #[test]
    fn a_reader_that_is_gone_is_reported() {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let mut outlet = Outlet::start(writer).unwrap();
        outlet.write_all(b"x").unwrap();
        let error = outlet.finish().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
