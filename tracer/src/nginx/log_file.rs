//! One followed log file, read line by line from a position on.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use super::log_line::{self, LINE_LIMIT};
use crate::event::{LogLine, Time};

/// After so many lines in a row that are none of an error log's, it is an access log or the like.
pub(super) const FOREIGN_LINES: u32 = 100;

/// A log, read so far.
#[derive(Debug)]
pub(super) struct Tail {
    /// `None` once it turned out to be no error log.
    file: Option<File>,
    /// The start of the next line.
    position: u64,
    /// Lines in a row that were no error-log lines.
    foreign: u32,
}

impl Tail {
    /// Reads what is written after `position`.
    pub(super) fn new(file: File, position: u64) -> Self {
        Self {
            file: Some(file),
            position,
            foreign: 0,
        }
    }

    /// Reads whole lines, within the budget; gives the number of bytes skipped. A file that cannot be read any more
    /// gives nothing.
    pub(super) fn read(&mut self, at: Time, budget: &mut u64, lines: &mut Vec<LogLine>) -> u64 {
        let Some(file) = &self.file else {
            return 0;
        };
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        if length < self.position {
            // Truncated in place, and written to since.
            self.position = 0;
        }
        let unread = length - self.position;
        let skipped = unread.saturating_sub(*budget);
        let start = self.position + skipped;
        let Ok(bytes) = read_range(file, start, unread - skipped) else {
            return 0;
        };
        *budget -= bytes.len() as u64;
        let mut whole = match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => &bytes[..=end],
            // No line feed in longer than any line: not worth waiting for.
            None if bytes.len() > LINE_LIMIT => &bytes[..],
            None => &[],
        };
        self.position = start + whole.len() as u64;
        if skipped > 0 {
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
                    return 0;
                }
            }
        }
        skipped
    }
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
