//! Where numbered pages go: a file, several in rotation, or a ring in memory that is written out
//! when asked.
//!
//! Runs in a thread of its own: a slow disk must not hold up the kernel's ring buffer. What fails
//! ends the recording, not the run; what was written before stays readable.

use std::{
    collections::VecDeque,
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    file::{File, Framed},
    header::Header,
    page::Page,
    writer::Numbered,
};
use crate::event::Time;

/// How a run is kept.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The file; with rotation the newest.
    pub path: PathBuf,
    /// A file grows no larger than this many bytes.
    pub max_size: Option<u64>,
    /// So many files are kept: `FILE`, `FILE.1` before it, and so on. 1: recording ends when the
    /// file is full.
    pub files: usize,
    /// Keep only the last so many bytes, in memory, until asked to write them out.
    pub ring: Option<u64>,
}

/// A power cut takes no more than this.
const SYNC: Duration = Duration::from_millis(900);

/// Why recording ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The file is as large as it may be.
    Full,
    /// It can not be written.
    Failed(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

#[derive(Debug)]
pub(super) struct Sink {
    plan: Plan,
    header: Header,
    file: File<fs::File>,
    /// Number of the event after the last one written.
    sequence: Option<u64>,
    ring: VecDeque<Kept>,
    ring_bytes: u64,
    synced: Instant,
}

/// A page in the ring.
#[derive(Debug)]
struct Kept {
    framed: Framed,
    sequence: u64,
    events: u32,
    standing: Option<Arc<Page>>,
}

/// Makes a file that only its owner may read. What is there is not overwritten.
pub(super) fn create(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// The name of an older file of a rotation: `FILE.1` is the one before `FILE`.
pub(super) fn older(path: &Path, age: usize) -> PathBuf {
    if age == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{age}"));
    name.into()
}

impl Sink {
    pub(super) fn begin(plan: Plan, header: Header, file: fs::File) -> io::Result<Self> {
        Ok(Self {
            file: File::begin(file, &header)?,
            plan,
            header,
            sequence: None,
            ring: VecDeque::new(),
            ring_bytes: 0,
            synced: Instant::now(),
        })
    }

    pub(super) fn take(&mut self, one: Numbered) -> Result<(), Stop> {
        let kept = Kept {
            framed: Framed::events(&one.page, one.sequence)?,
            sequence: one.sequence,
            events: one.page.events,
            standing: one.standing,
        };
        let Some(limit) = self.plan.ring else {
            self.put(&kept)?;
            return self.sync();
        };
        self.ring_bytes += kept.framed.bytes.len() as u64;
        self.ring.push_back(kept);
        // The newest page stays, however small the ring.
        while self.ring_bytes > limit
            && self.ring.len() > 1
            && let Some(oldest) = self.ring.pop_front()
        {
            self.ring_bytes -= oldest.framed.bytes.len() as u64;
        }
        Ok(())
    }

    /// Writes out the ring.
    pub(super) fn dump(&mut self) -> Result<(), Stop> {
        while let Some(kept) = self.ring.pop_front() {
            self.put(&kept)?;
        }
        self.ring_bytes = 0;
        self.synced = Instant::now() - SYNC;
        self.sync()
    }

    /// The end: all that is left.
    pub(super) fn end(&mut self, at: Time) -> Result<(), Stop> {
        self.dump()?;
        self.file.end(Some(at))?;
        self.file.out().sync_data()?;
        Ok(())
    }

    /// The file can not go on: it ends after its last whole frame, if that can be written.
    pub(super) fn give_up(&mut self, at: Time) {
        let whole = self.file.written();
        let cut = self.file.cut();
        if cut.and_then(|()| self.file.end(Some(at))).is_err() {
            let _ = self.file.out().set_len(whole);
        }
        let _ = self.file.out().sync_data();
    }

    fn put(&mut self, kept: &Kept) -> Result<(), Stop> {
        let size = kept.framed.bytes.len() as u64;
        if let Some(limit) = self.plan.max_size
            && self.sequence.is_some()
            && self.file.written() + size > limit
        {
            if self.plan.files <= 1 {
                return Err(Stop::Full);
            }
            self.rotate()?;
        }
        let follows = self.sequence == Some(kept.sequence);
        let left_out = self.plan.ring.is_some() && !follows;
        if (self.file.is_new() || left_out)
            && let Some(standing) = &kept.standing
        {
            self.file
                .write(&Framed::standing(standing, kept.sequence)?)?;
        }
        self.file.write(&kept.framed)?;
        self.sequence = Some(kept.sequence + u64::from(kept.events));
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file.end(None)?;
        self.file.out().sync_data()?;
        let path = &self.plan.path;
        for age in (1..self.plan.files).rev() {
            match fs::rename(older(path, age - 1), older(path, age)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.header.part += 1;
        self.file = File::begin(create(path)?, &self.header)?;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Stop> {
        if self.synced.elapsed() >= SYNC {
            self.file.out().sync_data()?;
            self.synced = Instant::now();
        }
        Ok(())
    }
}
