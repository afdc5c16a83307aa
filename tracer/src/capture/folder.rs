//! The folder of a ring's files: their names, how they are made, and which go when there are too
//! many.
//!
//! Names hold the time in UTC, so that they sort by age. A file is removed only if a ring made it:
//! a name of ours, a regular file of this user's, with one link, that begins as a capture does.
//! Whoever wants to keep one renames it, or links it.

use std::{
    ffi::CStr,
    fs::{self, File},
    io::{self, Read as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, flock, fsync, openat, statat,
    unlinkat,
};

use super::header::MAGIC;

/// What every name begins and ends with, and the time between them.
const PREFIX: &str = "ring-";
const ENDING: &str = ".trc";
const TIME: &str = "%Y%m%d-%H%M%S%.3fZ";
const TIME_LENGTH: usize = "20261120-101523.123Z".len();
/// A name that exists is tried again so often, each a millisecond later.
const TRIES: i64 = 1000;
/// Names looked at, and files kept: a reader lists them.
const NAMES: usize = 100_000;
const FILES: usize = 1000;

/// A folder that this recorder alone writes to.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    fd: OwnedFd,
}

/// A file that a ring made.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Made {
    name: String,
    bytes: u64,
}

impl Folder {
    /// Opens it; what is written there is written to this folder, whatever its name comes to mean.
    ///
    /// # Errors
    /// It is not there, or another recorder writes to it (`WouldBlock`).
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let path = fs::canonicalize(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, &path, flags, Mode::empty())?;
        flock(&fd, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { path, fd })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a file named by the time and `why`, which its owner alone may read.
    pub(super) fn create(&self, why: &str) -> io::Result<(File, String)> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let now = Timestamp::now();
        for later in 0..TRIES {
            let time = now + SignedDuration::from_millis(later);
            let time = time.to_zoned(TimeZone::UTC).strftime(TIME);
            let name = format!("{PREFIX}{time}-{why}{ENDING}");
            match openat(&self.fd, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(fd) => return Ok((File::from(fd), name)),
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    pub(super) fn remove(&self, name: &str) {
        let _ = unlinkat(&self.fd, name, AtFlags::empty());
    }

    /// Names are on the disk, too.
    pub(super) fn sync(&self) {
        let _ = fsync(&self.fd);
    }

    /// Removes the oldest until no more than `bytes` are left, `spared` not counted; returns what
    /// is left.
    pub(super) fn trim(&self, bytes: u64, spared: &str) -> io::Result<u64> {
        let mut made = self.made()?;
        made.retain(|one| one.name != spared);
        made.sort();
        let mut left: u64 = made.iter().map(|one| one.bytes).sum();
        let mut files = made.len();
        for one in made {
            if left <= bytes && files < FILES {
                break;
            }
            if self.is_capture(&one.name) {
                unlinkat(&self.fd, &one.name, AtFlags::empty())?;
            }
            // Another's with a name of ours: neither removed nor counted.
            left -= one.bytes;
            files -= 1;
        }
        Ok(left)
    }

    fn made(&self) -> io::Result<Vec<Made>> {
        let mut made = Vec::new();
        for entry in Dir::read_from(&self.fd)?.take(NAMES) {
            let entry = entry?;
            if let Some(one) = self.of_ours(entry.file_name()) {
                made.push(one);
            }
        }
        Ok(made)
    }

    fn of_ours(&self, name: &CStr) -> Option<Made> {
        let text = name.to_str().ok().filter(|name| is_name(name))?;
        let status = statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let is_ours = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile
            && status.st_uid == rustix::process::geteuid().as_raw()
            && status.st_nlink == 1;
        is_ours.then(|| Made {
            name: text.to_owned(),
            bytes: u64::try_from(status.st_size).unwrap_or(0),
        })
    }

    fn is_capture(&self, name: &str) -> bool {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(fd) = openat(&self.fd, name, flags, Mode::empty()) else {
            return false;
        };
        let mut start = Vec::new();
        let length = MAGIC.len() as u64;
        let read = File::from(fd).take(length).read_to_end(&mut start);
        read.is_ok() && MAGIC.starts_with(&start)
    }
}

fn is_name(name: &str) -> bool {
    let between = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.strip_suffix(ENDING));
    between.is_some_and(|between| {
        between
            .split_at_checked(TIME_LENGTH)
            .is_some_and(|(time, why)| {
                let shape = time.bytes().enumerate().all(|(at, byte)| match at {
                    8 => byte == b'-',
                    15 => byte == b'.',
                    19 => byte == b'Z',
                    _ => byte.is_ascii_digit(),
                });
                let why = why.strip_prefix('-').unwrap_or_default();
                let is_word = why.bytes().all(|byte| byte.is_ascii_lowercase());
                shape && is_word && !why.is_empty()
            })
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(test: &str) -> Self {
            let name = format!("tracer-folder-{test}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn put(&self, name: &str, start: &[u8]) {
            let mut bytes = start.to_vec();
            bytes.resize(100, 0);
            fs::write(self.0.join(name), bytes).unwrap();
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<String> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_is_its_owners_and_never_an_existing_one() {
        let scratch = Scratch::new("create");
        let folder = Folder::open(&scratch.0).unwrap();
        let names: Vec<String> = (0..3).map(|_| folder.create("burst").unwrap().1).collect();
        assert!(names.iter().all(|name| is_name(name)), "{names:?}");
        assert_eq!(scratch.names(), names, "they sort by age");
        let mode = fs::metadata(folder.file(&names[0]))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn one_recorder_writes_to_a_folder() {
        let scratch = Scratch::new("lock");
        let first = Folder::open(&scratch.0).unwrap();
        let second = Folder::open(&scratch.0).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
        drop(first);
        Folder::open(&scratch.0).unwrap();
    }

    #[test]
    fn the_oldest_of_its_own_making_go_first_and_nothing_else() {
        let scratch = Scratch::new("trim");
        let name = |day: u32, why: &str| format!("ring-202612{day:02}-101523.123Z-{why}.trc");
        for day in 1..=4 {
            scratch.put(&name(day, "burst"), &MAGIC);
        }
        // Older than all of them, and another's.
        scratch.put(&name(0, "text"), b"ring");
        scratch.put("tracer-20200101-101523.trc", &MAGIC);
        scratch.put("ring-20200101-101523.123Z-burst.trc.kept", &MAGIC);
        scratch.put("target", &MAGIC);
        symlink("target", scratch.0.join(name(0, "link"))).unwrap();
        scratch.put("linked", &MAGIC);
        fs::hard_link(scratch.0.join("linked"), scratch.0.join(name(0, "hard"))).unwrap();
        let before = scratch.names().len();

        let folder = Folder::open(&scratch.0).unwrap();
        assert_eq!(folder.trim(500, "").unwrap(), 500);
        assert_eq!(scratch.names().len(), before, "nothing is too much");
        // The text is passed over, the first goes; the second is the one being written.
        let left = folder.trim(200, &name(2, "burst")).unwrap();
        assert_eq!(left, 200);
        let names = scratch.names();
        assert_eq!(names.len(), before - 1, "{names:?}");
        assert!(!names.contains(&name(1, "burst")), "{names:?}");
        folder.trim(0, "").unwrap();
        let kept = before - 4;
        assert_eq!(scratch.names().len(), kept, "{:?}", scratch.names());
        assert!(scratch.names().contains(&name(0, "text")));
    }

    #[test]
    fn names_of_others_are_not_ours() {
        assert!(is_name("ring-20261120-101523.123Z-burst.trc"));
        assert!(is_name("ring-20261120-101523.123Z-asked.trc"));
        for other in [
            "ring-20261120-101523-burst.trc",
            "ring-20261120-101523.123Z.trc",
            "ring-20261120-101523.123Z-burst.trc.1",
            "ring-2026112x-101523.123Z-burst.trc",
            "ring-20261120-101523.123Z-Burst.trc",
            "tracer-20261120-101523.trc",
            "ring-é.trc",
            "ring-.trc",
        ] {
            assert!(!is_name(other), "{other}");
        }
    }
}
