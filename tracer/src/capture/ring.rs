//! The newest pages in memory, written to a file of their own for each incident.
//!
//! A burst writes out what came before it, and what follows goes to the same file until the burst
//! ends; then the ring gathers again. Each event is written once, so the files of one run are one
//! stream without overlaps. What fails costs a file, never the run: pages that could not be written
//! stay in the ring.

use std::{
    collections::VecDeque,
    fmt, fs, io,
    path::PathBuf,
    time::{Duration, Instant},
};

use indicatif::HumanBytes;

use super::{
    file::{File, Framed},
    folder::Folder,
    header::Header,
    sink::SYNC,
    writer::Numbered,
};
use crate::event::Time;

/// Where the ring is written, and how much of it is kept.
#[derive(Debug, Clone)]
pub(crate) struct RingPlan {
    /// The folder; it exists.
    pub folder: PathBuf,
    /// Bytes in memory.
    pub memory: u64,
    /// Bytes on disk, all files together; twice `memory` at least.
    pub disk: u64,
}

/// Why a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// A burst of failed requests.
    Burst,
    /// By a signal, or `tracer dump`.
    Asked,
    /// The run ends.
    End,
}

impl Why {
    fn word(self) -> &'static str {
        match self {
            Self::Burst => "burst",
            Self::Asked => "asked",
            Self::End => "end",
        }
    }
}

/// A file that was written; the words are one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dumped {
    /// Its path, from the root on.
    pub path: PathBuf,
    why: Why,
    bytes: u64,
    /// The time that it covers before and from the burst on (nanoseconds).
    before: u64,
    after: u64,
    /// Why it ends early; what is in it is readable.
    cut: Option<String>,
}

impl Dumped {
    /// Is something missing?
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.is_some()
    }
}

impl fmt::Display for Dumped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, size) = (self.path.display(), HumanBytes(self.bytes));
        let (before, after) = (length(self.before), length(self.after));
        write!(f, "wrote {path} ({size}): ")?;
        match self.why {
            Why::Burst => write!(
                f,
                "a burst of failed requests, {after}, and {before} before it"
            )?,
            Why::Asked | Why::End => write!(f, "the last {before}")?,
        }
        match &self.cut {
            Some(error) => write!(f, "; it ends early: {error}"),
            None => Ok(()),
        }
    }
}

/// `4s`, `12m 4s`, `3h 12m`.
fn length(nanos: u64) -> String {
    let seconds = Duration::from_nanos(nanos).as_secs();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m {}s", seconds % 60),
        _ => format!("{hours}h {}m", minutes % 60),
    }
}

/// A page in the ring.
#[derive(Debug)]
struct Kept {
    framed: Framed,
    one: Numbered,
}

/// A file being written.
#[derive(Debug)]
struct Open {
    file: File<fs::File>,
    name: String,
    why: Why,
    /// Bytes of the files of earlier incidents.
    others: u64,
    from: Option<Time>,
    /// The burst began.
    burst: Time,
    to: Time,
    synced: Instant,
}

/// The ring, in the thread that writes.
#[derive(Debug)]
pub(super) struct Ring {
    folder: Folder,
    memory: u64,
    disk: u64,
    header: Header,
    pages: VecDeque<Kept>,
    bytes: u64,
    open: Option<Open>,
    /// There is a burst whose file could not be made.
    is_owed: bool,
}

/// What became of a page.
enum Put {
    Written,
    /// The file is as large as it may be.
    Full,
}

impl Ring {
    pub(super) fn new(plan: &RingPlan, folder: Folder, header: Header) -> Self {
        Self {
            folder,
            memory: plan.memory,
            disk: plan.disk,
            header,
            pages: VecDeque::new(),
            bytes: 0,
            open: None,
            is_owed: false,
        }
    }

    /// Takes the next page. Returns a file that ends before it: it is full, or cannot be written
    /// any more.
    ///
    /// # Errors
    /// The page cannot be packed.
    pub(super) fn take(&mut self, mut one: Numbered) -> io::Result<Option<Dumped>> {
        let framed = Framed::events(&one.page, one.sequence)?;
        // Packed in the frame: kept as well, it would be several times the memory of the ring.
        one.page.payload = Vec::new();
        let kept = Kept { framed, one };
        let Some(mut open) = self.open.take() else {
            self.keep(kept);
            return Ok(None);
        };
        let put = self.put(&mut open, &kept);
        match put.and_then(|put| open.sync().map(|()| put)) {
            Ok(Put::Written) => {
                self.open = Some(open);
                Ok(None)
            }
            Ok(Put::Full) => {
                self.keep(kept);
                Ok(Some(self.close(open)))
            }
            Err(error) => {
                self.keep(kept);
                Ok(Some(self.give_up(open, &error)))
            }
        }
    }

    /// A burst began: what came before is written, and what comes goes there too.
    ///
    /// # Errors
    /// The file cannot be made. [`Self::quiet`] tries again.
    pub(super) fn burst(&mut self, at: Time) -> io::Result<()> {
        if self.open.is_none() {
            self.is_owed = true;
            self.open = Some(self.write(Why::Burst, at)?);
            self.is_owed = false;
        }
        Ok(())
    }

    /// The burst ended. Returns its file, unless that was full before, or still cannot be made,
    /// which is known.
    pub(super) fn quiet(&mut self, at: Time) -> Option<Dumped> {
        if std::mem::take(&mut self.is_owed) {
            self.open = self.write(Why::Burst, at).ok();
        }
        let open = self.open.take();
        open.map(|open| self.close(open))
    }

    /// Writes what there is, or ends the file being written.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn dump(&mut self, why: Why, at: Time) -> io::Result<Dumped> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.write(why, at)?,
        };
        self.is_owed = false;
        Ok(self.close(open))
    }

    /// The run ended. Returns the last file: that of a burst, or one for what `is_wanted`.
    ///
    /// # Errors
    /// As [`Self::dump`].
    pub(super) fn end(&mut self, at: Time, is_wanted: bool) -> io::Result<Option<Dumped>> {
        match is_wanted || self.open.is_some() || self.is_owed {
            true => self.dump(Why::End, at).map(Some),
            false => Ok(None),
        }
    }

    /// Where files go.
    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    fn keep(&mut self, kept: Kept) {
        self.bytes += kept.framed.bytes.len() as u64;
        self.pages.push_back(kept);
        // The newest page stays, however small the ring.
        while self.bytes > self.memory
            && self.pages.len() > 1
            && let Some(oldest) = self.pages.pop_front()
        {
            self.bytes -= oldest.framed.bytes.len() as u64;
        }
    }

    /// Begins a file with all pages of the ring, which they leave once they are on the disk.
    fn write(&mut self, why: Why, at: Time) -> io::Result<Open> {
        let others = self.folder.trim(self.disk.saturating_sub(self.bytes), "")?;
        let (file, name) = self.folder.create(why.word())?;
        let written = self.fill(file, &name, (why, at), others);
        match &written {
            Ok(_) => {
                self.folder.sync();
                self.header.part += 1;
            }
            // Half a file is of no use, and the disk may be full.
            Err(_) => self.folder.remove(&name),
        }
        written
    }

    fn fill(
        &mut self,
        file: fs::File,
        name: &str,
        (why, burst): (Why, Time),
        others: u64,
    ) -> io::Result<Open> {
        let mut open = Open {
            file: File::begin(file, &self.header)?,
            name: name.to_owned(),
            why,
            others,
            from: None,
            burst,
            to: burst,
            synced: Instant::now(),
        };
        let pages = std::mem::take(&mut self.pages);
        let done = pages
            .iter()
            .try_for_each(|kept| match self.put(&mut open, kept)? {
                Put::Written => Ok(()),
                Put::Full => Err(io::ErrorKind::FileTooLarge.into()),
            });
        match done.and_then(|()| open.file.out().sync_data()) {
            Ok(()) => {
                self.bytes = 0;
                Ok(open)
            }
            Err(error) => {
                self.pages = pages;
                Err(error)
            }
        }
    }

    /// Writes a page, if the file and the folder have room.
    fn put(&self, open: &mut Open, kept: &Kept) -> io::Result<Put> {
        let standing = match open.file.is_new() {
            true => Framed::standing(&kept.one)?,
            false => None,
        };
        let size = |framed: &Framed| framed.bytes.len() as u64;
        let new = standing.as_ref().map_or(0, size) + size(&kept.framed) + open.file.reserve();
        let whole = open.file.written() + new;
        // As much again as the ring held, and then it is enough.
        if whole > 2 * self.memory.max(self.bytes) {
            return Ok(Put::Full);
        }
        if open.others + whole > self.disk {
            let room = self.disk.saturating_sub(whole);
            open.others = self.folder.trim(room, &open.name)?;
            if open.others + whole > self.disk {
                return Ok(Put::Full);
            }
        }
        if let Some(standing) = standing {
            open.file.write(&standing)?;
        }
        open.file.write(&kept.framed)?;
        let (from, to) = kept.one.page.times;
        open.from.get_or_insert(from);
        open.to = open.to.max(to);
        Ok(Put::Written)
    }

    fn close(&self, mut open: Open) -> Dumped {
        let ended = open.file.end(None);
        match ended.and_then(|()| open.file.out().sync_data()) {
            Ok(()) => self.dumped(&open, None),
            Err(error) => self.give_up(open, &error),
        }
    }

    /// The file ends after its last whole frame, if that can be written.
    fn give_up(&self, mut open: Open, error: &io::Error) -> Dumped {
        let whole = open.file.written();
        if open.file.cut().and_then(|()| open.file.end(None)).is_err() {
            let _ = open.file.out().set_len(whole);
        }
        let _ = open.file.out().sync_data();
        self.dumped(&open, Some(error.to_string()))
    }

    fn dumped(&self, open: &Open, cut: Option<String>) -> Dumped {
        let burst = match open.why {
            Why::Burst => open.burst,
            Why::Asked | Why::End => open.to,
        };
        Dumped {
            path: self.folder.file(&open.name),
            why: open.why,
            bytes: open.file.out().metadata().map_or(0, |file| file.len()),
            before: burst.since(open.from.unwrap_or(burst)),
            after: open.to.since(burst),
            cut,
        }
    }
}

impl Open {
    fn sync(&mut self) -> io::Result<()> {
        if self.synced.elapsed() >= SYNC {
            self.file.out().sync_data()?;
            self.synced = Instant::now();
        }
        Ok(())
    }
}
