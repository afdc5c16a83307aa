//! Every numbered page in a file, or in several in rotation.
//!
//! Runs in a thread of its own: a slow disk must not hold up the kernel's ring buffer. What fails
//! ends the recording, not the run; what was written before stays readable.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    file::{File, Framed},
    header::Header,
    writer::Numbered,
};
use crate::event::Time;

/// Which files.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    /// The file; with rotation the newest.
    pub path: PathBuf,
    /// A file grows no larger than this many bytes.
    pub max_size: Option<u64>,
    /// So many files are kept: `FILE`, `FILE.1` before it, and so on. 1: recording ends when the
    /// file is full.
    pub files: usize,
}

/// A power cut takes no more than this.
pub(super) const SYNC: Duration = Duration::from_millis(900);

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
    plan: Rotation,
    header: Header,
    file: File<fs::File>,
    /// Number of the event after the last one written.
    sequence: Option<u64>,
    synced: Instant,
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
    pub(super) fn begin(plan: Rotation, header: Header, file: fs::File) -> io::Result<Self> {
        Ok(Self {
            file: File::begin(file, &header)?,
            plan,
            header,
            sequence: None,
            synced: Instant::now(),
        })
    }

    pub(super) fn take(&mut self, one: &Numbered) -> Result<(), Stop> {
        self.put(one)?;
        if self.synced.elapsed() >= SYNC {
            self.sync()?;
        }
        Ok(())
    }

    /// What was written so far is on the disk.
    pub(super) fn sync(&mut self) -> Result<(), Stop> {
        self.file.out().sync_data()?;
        self.synced = Instant::now();
        Ok(())
    }

    /// The end: all that is left.
    pub(super) fn end(&mut self, at: Time) -> Result<(), Stop> {
        self.file.end(Some(at))?;
        self.sync()
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

    fn put(&mut self, one: &Numbered) -> Result<(), Stop> {
        let framed = Framed::events(&one.page, one.sequence)?;
        let size = framed.bytes.len() as u64;
        if let Some(limit) = self.plan.max_size
            && self.sequence.is_some()
            && self.file.written() + size > limit
        {
            if self.plan.files <= 1 {
                return Err(Stop::Full);
            }
            self.rotate()?;
        }
        if self.file.is_new()
            && let Some(standing) = Framed::standing(one)?
        {
            self.file.write(&standing)?;
        }
        self.file.write(&framed)?;
        self.sequence = Some(one.sequence + u64::from(one.page.events));
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
}
