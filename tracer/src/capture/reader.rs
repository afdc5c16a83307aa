//! One file of a run, read as a stream.
//!
//! A frame whose checksum is wrong is skipped; where no frame begins, the reader searches for the
//! next sound one. [`Reader::damage`] reports what is missing, and an [`Item::Gap`] marks its
//! place. A file that was cut off is read up to its last whole frame.

use std::{
    fmt,
    io::{self, BufReader, Read, Seek, SeekFrom},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    frame::{self, Found},
    header::{Header, HeaderError},
    page::{self, Next},
};
use crate::{
    event::{Event, Heap as _, Time},
    plural::count,
};

/// What a file holds, in order.
#[derive(Debug)]
pub enum Item {
    /// The next event of the stream.
    Event(Event),
    /// Events are missing here.
    Gap(Gap),
    /// What held when the events after it began. Who has read all before knows it already.
    Standing {
        /// Workers, hooks, losses so far.
        events: Vec<Event>,
        /// The latest time before; `None` in captures that do not have it.
        since: Option<Time>,
    },
}

/// Events that the run had and the file does not give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// How many; a lower bound where the file ends in the gap.
    pub events: u64,
    /// After this time.
    pub after: Time,
}

/// What is wrong with a file; nothing: it is whole and ended well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damage {
    /// It was cut off: recording was killed, or goes on still.
    pub cut_off: bool,
    /// Frames that could not be read.
    pub damaged_frames: u64,
    /// The first damage's place in the file.
    pub first_at: Option<u64>,
    /// Events known to be missing.
    pub missing_events: u64,
    /// Events of a kind that this version does not know, passed over.
    pub unknown_events: u64,
    /// What came last before the end.
    pub last: Option<Time>,
}

impl Damage {
    /// Whether it is whole, as far as this version knows.
    #[must_use]
    pub fn is_none(&self) -> bool {
        !self.cut_off && self.damaged_frames == 0 && self.unknown_events == 0
    }
}

impl fmt::Display for Damage {
    /// One line of words, to go after the file's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if self.damaged_frames > 0 {
            words.push(format!(
                "is damaged from byte {} on: {} could not be read, {} missing",
                self.first_at.unwrap_or(0),
                count(self.damaged_frames, "piece"),
                count(self.missing_events, "event")
            ));
        }
        if self.cut_off {
            words.push("has no end: recording was killed or is still running, or the file was cut off; all whole pieces were read".to_owned());
        }
        if self.unknown_events > 0 {
            words.push(format!(
                "holds {} of kinds that this version of tracer does not know: skipped",
                count(self.unknown_events, "event")
            ));
        }
        f.write_str(&words.join("; it "))
    }
}

/// A file that can not be read at all.
#[derive(Debug)]
pub struct OpenError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub source: HeaderError,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", shown(&self.path), self.source)
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.source {
            HeaderError::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// The path that is stdin.
const STDIN: &str = "-";

/// Returns a capture's path, as messages show it.
pub(crate) fn shown(path: &Path) -> String {
    match path == Path::new(STDIN) {
        true => "stdin".to_owned(),
        false => path.display().to_string(),
    }
}

/// How much is read from the file at once.
const CHUNK: usize = 256 << 10;

/// A file being read.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    header: Header,
    /// Bytes of the file, and how many of them were read into `buffer`.
    size: u64,
    taken: u64,
    /// What was read and not used yet begins at `at`.
    buffer: Vec<u8>,
    at: usize,
    page: Option<page::Reader>,
    spare: Vec<u8>,
    /// Number of the next event within the run; `None`: the first frame will say.
    sequence: Option<u64>,
    /// Events of the current page that were not returned yet.
    pending: u64,
    /// The end frame, or the place where the file was cut off, was met.
    is_over: bool,
    ended: Option<Time>,
    damage: Damage,
    /// The place was lost: the next frame is being looked for.
    searching: bool,
}

impl Reader<BufReader<std::fs::File>> {
    /// Opens a file and reads its header; `-` is stdin.
    ///
    /// # Errors
    /// It is no capture, or can not be read.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let wrong = |source| OpenError {
            path: path.to_owned(),
            source,
        };
        // stdin is not opened by name: a pipe or a socket has none.
        let file = match path == Path::new(STDIN) {
            true => io::stdin().as_fd().try_clone_to_owned().map(Into::into),
            false => std::fs::File::open(path),
        };
        let file = file.map_err(|error| wrong(error.into()))?;
        Self::new(BufReader::with_capacity(8192, file)).map_err(wrong)
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Reads the header of a capture.
    ///
    /// # Errors
    /// It is no capture, or can not be read.
    pub fn new(mut input: R) -> Result<Self, HeaderError> {
        let size = match input.seek(SeekFrom::End(0)) {
            // A pipe: it is read to its end.
            Err(error) if error.kind() == io::ErrorKind::NotSeekable => 0,
            size => {
                input.seek(SeekFrom::Start(0))?;
                size?
            }
        };
        let (header, taken) = Header::read(&mut input)?;
        let sequence = (header.part == 0).then_some(0);
        Ok(Self {
            input,
            header,
            size,
            taken,
            buffer: Vec::new(),
            at: 0,
            page: None,
            spare: Vec::new(),
            sequence,
            pending: 0,
            is_over: false,
            ended: None,
            damage: Damage::default(),
            searching: false,
        })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes of the file, 0 if not known, and how many of them were read: how far it is.
    pub fn progress(&self) -> (u64, u64) {
        (self.size, self.taken - (self.buffer.len() - self.at) as u64)
    }

    /// What was wrong so far; final once [`Self::next_item`] gave `None`.
    pub fn damage(&self) -> &Damage {
        &self.damage
    }

    /// When recording ended, where the file says so.
    pub fn ended(&self) -> Option<Time> {
        self.ended
    }

    /// The number of the next event within its run.
    pub fn sequence(&self) -> u64 {
        self.sequence.unwrap_or(0)
    }

    /// The file goes on where another ended, which had events up to this number.
    pub fn follow(&mut self, sequence: u64) {
        self.sequence = Some(sequence);
    }

    /// What comes next; `None` at the end.
    ///
    /// # Errors
    /// Reading failed. What is damaged is no error.
    #[inline]
    pub fn next_item(&mut self) -> io::Result<Option<Item>> {
        loop {
            let Some(page) = &mut self.page else {
                match self.next_frame()? {
                    Step::Item(item) => return Ok(Some(item)),
                    Step::Again => continue,
                    Step::Over => return Ok(None),
                }
            };
            match page.next() {
                Next::Event(event) if self.pending > 0 => {
                    self.pending -= 1;
                    return Ok(Some(Item::Event(event)));
                }
                Next::Unknown if self.pending > 0 => {
                    self.pending -= 1;
                    self.damage.unknown_events += 1;
                }
                ended => {
                    // A page gives exactly as many events as its frame says, or is damaged.
                    let whole = matches!(ended, Next::End) && self.pending == 0;
                    let missing = std::mem::take(&mut self.pending);
                    if let Some(page) = self.page.take() {
                        self.spare = page.into_buffer();
                    }
                    if !whole {
                        let here = self.place();
                        self.damaged(here);
                        if let Some(gap) = self.gap(missing) {
                            return Ok(Some(gap));
                        }
                    }
                }
            }
        }
    }

    fn place(&self) -> u64 {
        self.taken - (self.buffer.len() - self.at) as u64
    }

    fn damaged(&mut self, at: u64) {
        self.damage.damaged_frames += 1;
        self.damage.first_at.get_or_insert(at);
    }

    fn gap(&mut self, events: u64) -> Option<Item> {
        self.damage.missing_events = self.damage.missing_events.saturating_add(events);
        let after = self.damage.last.unwrap_or_default();
        (events > 0).then_some(Item::Gap(Gap { events, after }))
    }

    /// Has `length` bytes from `at` on in the buffer, unless the file ends before.
    fn fill(&mut self, length: usize) -> io::Result<&[u8]> {
        if self.buffer.len() - self.at < length {
            self.buffer.drain(..self.at);
            self.at = 0;
            let missing = (length - self.buffer.len()).max(CHUNK) as u64;
            let read = (&mut self.input)
                .take(missing)
                .read_to_end(&mut self.buffer)?;
            self.taken += read as u64;
        }
        let end = self.buffer.len().min(self.at + length);
        Ok(&self.buffer[self.at..end])
    }

    fn next_frame(&mut self) -> io::Result<Step> {
        if self.is_over {
            return Ok(Step::Over);
        }
        let here = self.place();
        let found = match frame::head(self.fill(frame::HEAD)?) {
            Found::Short if self.buffer.len() - self.at >= frame::HEAD => {
                frame::head(self.fill(frame::HEAD_LIMIT)?)
            }
            found => found,
        };
        let head = match found {
            Found::Head(head) => head,
            Found::Short => return Ok(self.cut_off()),
            Found::Nothing => return self.search(here),
        };
        let whole = head.length + head.stored as usize;
        if self.fill(whole)?.len() < whole {
            return Ok(self.cut_off());
        }
        self.searching = false;
        let stored = &self.buffer[self.at + head.length..self.at + whole];
        let mut payload = std::mem::take(&mut self.spare);
        let sound = frame::payload(&head, stored, &mut payload);
        self.at += whole;
        if !sound {
            self.spare = payload;
            return Ok(self.unread(head, here));
        }
        Ok(self.take(head, payload, here))
    }

    fn take(&mut self, head: frame::Head, payload: Vec<u8>, here: u64) -> Step {
        match head.kind {
            frame::EVENTS => {
                // No real stream packs so well: it would make much of a small file.
                let is_plausible =
                    u64::from(head.events) <= REPEATED + DENSEST * u64::from(head.stored);
                let page = is_plausible.then(|| page::Reader::open(payload, head.events));
                let Some(page) = page.flatten() else {
                    return self.unread(head, here);
                };
                let expected = self.sequence.unwrap_or(head.sequence);
                self.sequence = Some(head.sequence.saturating_add(head.events.into()));
                self.pending = head.events.into();
                self.page = Some(page);
                let gap = self.gap(head.sequence.saturating_sub(expected));
                self.damage.last = self.damage.last.max(Some(head.to));
                gap.map_or(Step::Again, Step::Item)
            }
            frame::STANDING => {
                let mut events = Vec::new();
                let mut latest = Time(0);
                if let Some(mut page) = page::Reader::open(payload, head.events) {
                    let mut room = STANDING_LIMIT;
                    while let Next::Event(event) = page.next() {
                        latest = latest.max(event.at());
                        // Nothing else holds for longer than a moment.
                        if !matches!(event, Event::Worker(_) | Event::Hooks(_) | Event::Lost(_)) {
                            continue;
                        }
                        let Some(left) = room.checked_sub(size_of::<Event>() + event.heap()) else {
                            break;
                        };
                        room = left;
                        events.push(event);
                    }
                }
                let expected = self.sequence.replace(head.sequence);
                if expected == Some(head.sequence) {
                    // After all that came before it, it says nothing new.
                    Step::Again
                } else if self.damage.damaged_frames > 0 {
                    let missing = head
                        .sequence
                        .saturating_sub(expected.unwrap_or(head.sequence));
                    self.gap(missing).map_or(Step::Again, Step::Item)
                } else {
                    let since = (head.to > latest).then_some(head.to);
                    Step::Item(Item::Standing { events, since })
                }
            }
            frame::END => {
                match serde_json::from_slice::<Ended>(&payload) {
                    Ok(end) => {
                        let expected = self.sequence.unwrap_or(head.sequence);
                        self.is_over = true;
                        self.ended = end.ended;
                        if let Some(gap) = self.gap(head.sequence.saturating_sub(expected)) {
                            self.sequence = Some(head.sequence);
                            return Step::Item(gap);
                        }
                    }
                    Err(_) => self.damaged(here),
                }
                Step::Again
            }
            // A kind of a later version.
            _ => Step::Again,
        }
    }

    /// A frame with a sound head and a damaged payload.
    fn unread(&mut self, head: frame::Head, here: u64) -> Step {
        self.damaged(here);
        if head.kind != frame::EVENTS {
            return Step::Again;
        }
        let expected = self.sequence.unwrap_or(head.sequence);
        let next = head.sequence.saturating_add(head.events.into());
        self.sequence = Some(next);
        self.gap(next.saturating_sub(expected))
            .map_or(Step::Again, Step::Item)
    }

    fn cut_off(&mut self) -> Step {
        self.damage.cut_off = true;
        self.damage.first_at.get_or_insert(self.place());
        self.is_over = true;
        Step::Over
    }

    /// Looks for the next frame after bytes that are none.
    fn search(&mut self, here: u64) -> io::Result<Step> {
        if self.fill(1)?.is_empty() {
            return Ok(self.cut_off());
        }
        if !self.searching {
            self.searching = true;
            self.damaged(here);
        }
        // What is there already, first: markers that lead nowhere may come one after the other.
        self.fill(frame::MARKER.len() + 1)?;
        let rest = &self.buffer[self.at + 1..];
        let next = rest
            .windows(frame::MARKER.len())
            .position(|window| window == frame::MARKER);
        let keep = frame::MARKER.len() - 1;
        self.at += 1 + next.unwrap_or(rest.len().saturating_sub(keep));
        Ok(Step::Again)
    }
}

/// Bytes of what holds: workers and hooks of one host are fewer.
const STANDING_LIMIT: usize = 8 << 20;
/// Events for each stored byte of a frame, at most; a healthy connection takes 24 bytes.
const DENSEST: u64 = 16;
/// And so many more: a minute without anything is 3000 equal ticks.
const REPEATED: u64 = 4096;

/// What matters of the end frame; its index is for who looks for a moment.
#[derive(Deserialize)]
struct Ended {
    #[serde(default)]
    ended: Option<Time>,
}

enum Step {
    Item(Item),
    Again,
    Over,
}
