//! That a tracer runs, in a file of its own under `/run/tracer` (or systemd's `RUNTIME_DIRECTORY`):
//! what ended without its summary, by `kill -9` or a panic, leaves it, and the next one to start
//! knows since when nothing was watched.
//!
//! Only root's own folder and files are believed, within one boot. Failing to write is no error:
//! the gap is not known then.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
};

use super::system;
use crate::{
    event::{Notice, Strain, Time},
    process,
};

/// Where systemd says that a service's own is kept; more folders than one are separated by colons.
const FROM_SYSTEMD: &str = "RUNTIME_DIRECTORY";
const FOLDER: &str = "/run/tracer";
/// How often it is written (nanoseconds): a gap is reported longer than it was by so much at most.
const BEAT: u64 = 1_000_000_000;
/// Bytes of such a file; files looked at.
const LIMIT: u64 = 256;
const FILES: usize = 1024;

/// This run's file; removed with this value, unless by a panic.
#[derive(Debug)]
pub(super) struct Presence {
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    path: PathBuf,
    file: File,
    said: Said,
}

/// What such a file says.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    boot: String,
    pid: u32,
    /// When that process started.
    start: Time,
    /// It watched until then at least.
    beat: Time,
}

impl Presence {
    /// From `now` on this run watches. Gives what no run watched since one ended without its
    /// summary.
    pub(super) fn begin(now: Time) -> (Self, Vec<Notice>) {
        let folder = folder();
        // systemd's is there.
        if folder == Path::new(FOLDER) && create(&folder).is_err() {
            return (Self { own: None }, Vec::new());
        }
        Self::within(&folder, now)
    }

    fn within(folder: &Path, now: Time) -> (Self, Vec<Notice>) {
        if !is_own(folder) {
            return (Self { own: None }, Vec::new());
        }
        let boot = system::boot_id();
        let ended = ended(folder, &boot);
        // Its own first: should it be killed here, the next one knows of it.
        let own = Own::create(folder, boot, now).ok();
        let taken = own.as_ref().map(|own| own.path.clone());
        let mut notices = Vec::new();
        for (path, said) in ended {
            if Some(&path) != taken.as_ref() {
                // And where it was asked for a file.
                let _ = fs::remove_file(path.with_extension("dump"));
                let _ = fs::remove_file(path);
            }
            notices.extend(said.map(|said| Notice {
                at: now,
                pid: said.pid,
                strain: Strain::Unwatched {
                    nanos: now.since(said.beat),
                },
                is_over: false,
            }));
        }
        (Self { own }, notices)
    }

    /// It still watches.
    pub(super) fn beat(&mut self, now: Time) {
        if let Some(own) = &mut self.own
            && now.since(own.said.beat) >= BEAT
        {
            own.said.beat = now;
            let _ = own.write();
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Some(own) = self.own.take()
            && !thread::panicking()
        {
            let _ = fs::remove_file(own.path);
        }
    }
}

impl Own {
    fn create(folder: &Path, boot: String, now: Time) -> io::Result<Self> {
        let pid = std::process::id();
        let start = process::start_time(pid)?;
        let path = folder.join(pid.to_string());
        // Left by one that had this pid.
        let _ = fs::remove_file(&path);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        let said = Said {
            boot,
            pid,
            start,
            beat: now,
        };
        let own = Self { path, file, said };
        own.write()?;
        Ok(own)
    }

    /// In one piece of one length: it is never read in half.
    fn write(&self) -> io::Result<()> {
        self.file.write_all_at(self.said.to_string().as_bytes(), 0)
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            boot,
            pid,
            start,
            beat,
        } = self;
        writeln!(f, "{boot} {pid} {:020} {:020}", start.0, beat.0)
    }
}

impl Said {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.strip_suffix('\n')?.split(' ');
        let said = Self {
            boot: words.next()?.to_owned(),
            pid: words.next()?.parse().ok()?,
            start: Time(words.next()?.parse().ok()?),
            beat: Time(words.next()?.parse().ok()?),
        };
        words.next().is_none().then_some(said)
    }

    fn is_alive(&self) -> bool {
        process::start_time(self.pid).is_ok_and(|start| start == self.start)
    }
}

/// Files of those that are no more, and what they say if it is of this boot.
fn ended(folder: &Path, boot: &str) -> Vec<(PathBuf, Option<Said>)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut ended = Vec::new();
    for entry in entries.flatten().take(FILES) {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(said) = read(&entry.path()) else {
            continue;
        };
        if said.pid == pid && !said.is_alive() {
            let of_this_boot = said.boot == boot;
            ended.push((entry.path(), of_this_boot.then_some(said)));
        }
    }
    ended.sort_by(|one, other| one.0.cmp(&other.0));
    ended
}

/// A file that nobody but this process's user can have written.
fn read(path: &Path) -> io::Result<Said> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || !is_private(&metadata) || metadata.nlink() != 1 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut text = String::new();
    file.take(LIMIT).read_to_string(&mut text)?;
    Said::parse(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn create(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Where a run keeps what is known of it while it runs.
fn folder() -> PathBuf {
    match std::env::var(FROM_SYSTEMD) {
        Ok(folders) => PathBuf::from(folders.split(':').next().unwrap_or_default()),
        Err(_) => PathBuf::from(FOLDER),
    }
}

/// The folder of runs, if it is there and nobody else can make files in it.
pub(crate) fn runtime_folder() -> Option<PathBuf> {
    Some(folder()).filter(|folder| is_own(folder))
}

/// A folder in which nobody else can make files.
fn is_own(folder: &Path) -> bool {
    fs::symlink_metadata(folder).is_ok_and(|metadata| metadata.is_dir() && is_private(&metadata))
}

fn is_private(metadata: &fs::Metadata) -> bool {
    let user = rustix::process::geteuid().as_raw();
    metadata.uid() == user && metadata.mode() & 0o022 == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Self {
            let name = format!("tracer-presence-{test}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            DirBuilder::new().mode(0o700).create(&path).unwrap();
            Self(path)
        }

        /// What a run of this boot left that ended long ago and was well at `beat`.
        fn leave(&self, pid: u32, beat: u64) -> PathBuf {
            self.leave_of(&system::boot_id(), pid, beat)
        }

        fn leave_of(&self, boot: &str, pid: u32, beat: u64) -> PathBuf {
            let path = self.0.join(pid.to_string());
            let said = Said {
                boot: boot.to_owned(),
                pid,
                start: Time(1),
                beat: Time(beat),
            };
            fs::write(&path, said.to_string()).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path
        }

        fn files(&self) -> usize {
            fs::read_dir(&self.0).unwrap().count()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn gaps(notices: &[Notice]) -> Vec<(u32, u64)> {
        let gap = |one: &Notice| match one.strain {
            Strain::Unwatched { nanos } => (one.pid, nanos),
            _ => panic!("{one:?}"),
        };
        notices.iter().map(gap).collect()
    }

    /// No process of a test's host has it.
    const GONE: u32 = 4_194_304;

    #[test]
    fn what_ended_without_a_word_is_reported_once_with_its_time() {
        let folder = Folder::new("gap");
        folder.leave(GONE, SECOND);
        let (presence, notices) = Presence::within(&folder.0, Time(3 * SECOND));
        assert_eq!(gaps(&notices), [(GONE, 2 * SECOND)]);
        assert_eq!(notices[0].at, Time(3 * SECOND));
        // Its own alone is left, and goes with it.
        assert_eq!(folder.files(), 1);
        drop(presence);
        assert_eq!(folder.files(), 0);
        let (_again, notices) = Presence::within(&folder.0, Time(4 * SECOND));
        assert_eq!(gaps(&notices), []);
    }

    #[test]
    fn one_that_had_the_same_pid_is_reported_too() {
        let folder = Folder::new("same");
        folder.leave(std::process::id(), SECOND);
        let (presence, notices) = Presence::within(&folder.0, Time(2 * SECOND));
        assert_eq!(gaps(&notices), [(std::process::id(), SECOND)]);
        assert_eq!(folder.files(), 1);
        drop(presence);
        assert_eq!(folder.files(), 0);
    }

    #[test]
    fn one_that_runs_is_left_alone_and_beats_once_a_second() {
        let folder = Folder::new("runs");
        let (mut presence, _) = Presence::within(&folder.0, Time(SECOND));
        let own = folder.0.join(std::process::id().to_string());
        assert_eq!(
            ended(&folder.0, &system::boot_id()).len(),
            0,
            "this process runs"
        );
        presence.beat(Time(2 * SECOND - 1));
        assert_eq!(read(&own).unwrap().beat, Time(SECOND));
        presence.beat(Time(2 * SECOND));
        assert_eq!(read(&own).unwrap().beat, Time(2 * SECOND));
    }

    #[test]
    fn a_panic_is_no_clean_end() {
        let folder = Folder::new("panic");
        let path = folder.0.clone();
        let run = thread::spawn(move || {
            let _presence = Presence::within(&path, Time(SECOND));
            panic!("a test's own");
        });
        assert!(run.join().is_err());
        assert_eq!(folder.files(), 1);
    }

    #[test]
    fn what_others_may_have_written_is_not_believed() {
        let folder = Folder::new("others");
        let writable = folder.leave(GONE, SECOND);
        fs::set_permissions(&writable, fs::Permissions::from_mode(0o666)).unwrap();
        let target = folder.leave(GONE + 1, SECOND);
        let renamed = folder.0.join("target");
        fs::rename(&target, &renamed).unwrap();
        symlink(&renamed, &target).unwrap();
        folder.leave_of("another boot", GONE + 2, SECOND);
        fs::write(folder.0.join((GONE + 3).to_string()), "no words").unwrap();
        let (presence, notices) = Presence::within(&folder.0, Time(2 * SECOND));
        assert_eq!(gaps(&notices), []);
        drop(presence);
        fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o777)).unwrap();
        folder.leave(GONE + 4, SECOND);
        let (_none, notices) = Presence::within(&folder.0, Time(2 * SECOND));
        assert_eq!(gaps(&notices), []);
    }
}
