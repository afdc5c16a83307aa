//! One followed log file, read line by line from a position on.
//!
//! It is read on a thread that may be given up: a file system may not answer. Then it is tried
//! again later, a few times.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::Arc,
    time::{Duration, Instant},
};

use super::log_line::{self, LINE_LIMIT};
use crate::{
    event::{LogLine, Time},
    process,
};

/// After so many lines in a row that are none of an error log's, it is an access log or the like.
pub(super) const FOREIGN_LINES: u32 = 100;

/// A call that took longer than this has stalled; one that is refused returns at once.
const AT_ONCE: Duration = Duration::from_millis(100);
/// Calls about one worker's logs that may stall at a time: one log's stalling leaves the others
/// readable.
const SLOTS: u32 = 2;
/// How soon a log that stalled is tried again, and how often.
const REST: Duration = Duration::from_secs(10);
const STALLS: u32 = 3;

/// Looks at a worker's logs on a thread that may be given up, apart from all else that is asked
/// about that worker.
///
/// # Errors
/// Those of `work`; `ETIMEDOUT` if it stalls; `WouldBlock` if too much has stalled already.
pub(super) fn patient<T: Send + 'static>(
    worker: u32,
    work: impl FnOnce() -> io::Result<T> + Clone + Send + 'static,
) -> io::Result<T> {
    for slot in 0..SLOTS {
        let key = process::NO_PROCESS | (worker & 0x3f_ffff) << 1 | slot;
        let begun = Instant::now();
        match process::bounded(key, work.clone()) {
            Err(error)
                if error.raw_os_error() == Some(libc::ETIMEDOUT) && begun.elapsed() < AT_ONCE => {}
            answer => return answer,
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}

/// A log, read so far.
#[derive(Debug)]
pub(super) struct Tail {
    /// `None` once it turned out to be no error log, or stalled too often.
    file: Option<Arc<File>>,
    /// The start of the next line.
    position: u64,
    /// Lines in a row that were no error-log lines.
    foreign: u32,
    /// How often it stalled, and when last.
    stalls: u32,
    stalled: Option<Instant>,
}

/// What a read left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Missed {
    /// Bytes skipped.
    pub(super) bytes: u64,
    /// The file did not answer.
    pub(super) is_stalled: bool,
}

/// What was read at once.
struct Piece {
    start: u64,
    skipped: u64,
    bytes: Vec<u8>,
}

impl Tail {
    /// Reads what is written after `position`.
    pub(super) fn new(file: File, position: u64) -> Self {
        Self {
            file: Some(Arc::new(file)),
            position,
            foreign: 0,
            stalls: 0,
            stalled: None,
        }
    }

    /// Reads whole lines, within the budget, for this worker. A file that cannot be read any more
    /// gives nothing.
    pub(super) fn read(
        &mut self,
        worker: u32,
        at: Time,
        budget: &mut u64,
        lines: &mut Vec<LogLine>,
    ) -> Missed {
        let is_resting = self.stalled.is_some_and(|since| since.elapsed() < REST);
        let Some(file) = self.file.clone().filter(|_| !is_resting) else {
            return Missed::default();
        };
        let (position, most) = (self.position, *budget);
        let piece = match patient(worker, move || piece(&file, position, most)) {
            Ok(piece) => piece,
            Err(error) if error.raw_os_error() == Some(libc::ETIMEDOUT) => {
                self.stalls += 1;
                self.stalled = Some(Instant::now());
                if self.stalls >= STALLS {
                    self.file = None;
                }
                return Missed {
                    is_stalled: true,
                    ..Missed::default()
                };
            }
            Err(_) => return Missed::default(),
        };
        self.take(&piece, at, lines);
        *budget -= piece.bytes.len() as u64;
        Missed {
            bytes: if self.file.is_some() {
                piece.skipped
            } else {
                0
            },
            ..Missed::default()
        }
    }

    fn take(&mut self, piece: &Piece, at: Time, lines: &mut Vec<LogLine>) {
        let bytes = &piece.bytes;
        let mut whole = match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => &bytes[..=end],
            // No line feed in longer than any line: not worth waiting for.
            None if bytes.len() > LINE_LIMIT => &bytes[..],
            None => &[],
        };
        self.position = piece.start + whole.len() as u64;
        if piece.skipped > 0 {
            // Its first line lacks its beginning.
            let first = whole.iter().position(|byte| *byte == b'\n');
            whole = &whole[first.map_or(whole.len(), |end| end + 1)..];
        }
        for line in whole
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            if log_line::is_log_line(line) {
                self.foreign = 0;
                lines.extend(log_line::parse(line, at));
            } else {
                self.foreign += 1;
                if self.foreign >= FOREIGN_LINES {
                    self.file = None;
                    return;
                }
            }
        }
    }
}

/// What was written after `position`, the last `most` bytes of it.
fn piece(file: &File, position: u64, most: u64) -> io::Result<Piece> {
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    // If shorter, it was truncated in place, and written to since.
    let position = if length < position { 0 } else { position };
    let unread = length - position;
    let skipped = unread.saturating_sub(most);
    let start = position + skipped;
    Ok(Piece {
        start,
        skipped,
        bytes: read_range(file, start, unread - skipped)?,
    })
}

fn read_range(file: &File, start: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], start + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(read);
    Ok(bytes)
}
