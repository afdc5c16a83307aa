//! One file of a run, written: header, frames, at the end how it ended and the index.

use std::io::{self, Seek as _, SeekFrom, Write};

use serde::{Deserialize, Serialize};

use super::{frame, header::Header, page::Page, writer::Numbered};
use crate::event::Time;

/// The last bytes of a file that ended well; before them the place of its end frame, 8 bytes
/// little-endian.
pub(super) const TRAILER: [u8; 4] = *b"TREN";

/// How a file ended, and where in it what is: the payload of its last frame.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct End {
    /// When recording ended; `None`: the run goes on in its next file.
    #[serde(default)]
    pub(super) ended: Option<Time>,
    /// Every frame of events.
    #[serde(default)]
    pub(super) index: Vec<Entry>,
}

/// One frame of events, in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Where in the file.
    pub(super) offset: u64,
    /// Its first event's number in the run, and how many there are.
    pub(super) sequence: u64,
    pub(super) events: u32,
    /// Earliest and latest time.
    pub(super) from: Time,
    pub(super) to: Time,
}

/// A page, numbered and compressed.
#[derive(Debug)]
pub(super) struct Framed {
    pub(super) bytes: Vec<u8>,
    /// Its place in the index is filled in when it is written. `None`: it is no frame of events.
    pub(super) entry: Option<Entry>,
}

impl Framed {
    pub(super) fn events(page: &Page, sequence: u64) -> io::Result<Self> {
        Ok(Self {
            bytes: frame::frame(
                frame::EVENTS,
                page.events,
                sequence,
                page.times,
                &page.payload,
            )?,
            entry: Some(Entry {
                offset: 0,
                sequence,
                events: page.events,
                from: page.times.0,
                to: page.times.1,
            }),
        })
    }

    /// What holds before a page, if anything is known: its latest time is that of all events
    /// before.
    pub(super) fn standing(one: &Numbered) -> io::Result<Option<Self>> {
        let Some(page) = &one.standing else {
            return Ok(None);
        };
        let (from, to) = page.times;
        let bytes = frame::frame(
            frame::STANDING,
            page.events,
            one.sequence,
            (from, to.max(one.since)),
            &page.payload,
        )?;
        Ok(Some(Self { bytes, entry: None }))
    }
}

/// A file being written.
#[derive(Debug)]
pub(super) struct File<W> {
    out: W,
    written: u64,
    /// Bytes of the header.
    begun: u64,
    index: Vec<Entry>,
    /// The number of the event after the last one.
    after: u64,
    /// The last frame's latest time.
    to: Time,
}

/// Frames in the index, a day's and more: the end is a frame itself, and no larger than others. The
/// heads of those beyond are walked.
const INDEXED: usize = 100_000;
/// Bytes of an end without an index, and of an entry (five numbers of twenty digits, named).
const FIXED_END: u64 = 512;
const ENTRY: u64 = 160;

impl File<std::fs::File> {
    /// Takes back what was written of a frame that did not fit.
    pub(super) fn cut(&mut self) -> io::Result<()> {
        self.out.set_len(self.written)?;
        self.out.seek(SeekFrom::Start(self.written)).map(drop)
    }
}

impl<W: Write> File<W> {
    pub(super) fn begin(mut out: W, header: &Header) -> io::Result<Self> {
        let written = header.write(&mut out)?;
        Ok(Self {
            out,
            written,
            begun: written,
            index: Vec::new(),
            after: 0,
            to: Time::default(),
        })
    }

    /// Bytes so far.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Bytes that the end takes at most.
    pub(super) fn reserve(&self) -> u64 {
        FIXED_END + ENTRY * self.index.len() as u64
    }

    /// No frame was written yet.
    pub(super) fn is_new(&self) -> bool {
        self.written == self.begun
    }

    pub(super) fn out(&self) -> &W {
        &self.out
    }

    pub(super) fn write(&mut self, framed: &Framed) -> io::Result<()> {
        self.out.write_all(&framed.bytes)?;
        if let Some(entry) = framed.entry {
            self.after = entry.sequence + u64::from(entry.events);
            self.to = entry.to;
            if self.index.len() < INDEXED {
                self.index.push(Entry {
                    offset: self.written,
                    ..entry
                });
            }
        }
        self.written += framed.bytes.len() as u64;
        Ok(())
    }

    /// Writes the end; `ended` as in [`End`].
    pub(super) fn end(&mut self, ended: Option<Time>) -> io::Result<()> {
        let end = End {
            ended,
            index: std::mem::take(&mut self.index),
        };
        let at = ended.unwrap_or(self.to);
        let payload = serde_json::to_vec(&end)?;
        let mut bytes = frame::frame(frame::END, 0, self.after, (at, at), &payload)?;
        bytes.extend_from_slice(&self.written.to_le_bytes());
        bytes.extend_from_slice(&TRAILER);
        self.out.write_all(&bytes)?;
        self.out.flush()
    }
}
