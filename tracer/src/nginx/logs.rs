//! The error logs of the followed workers, read from where they ended when following began.
//!
//! They are found through the workers' open descriptors, so in any container and under any name; every regular file
//! that a worker appends to is a candidate until it turns out to be no error log. Workers share their logs: a line is
//! given once, to whoever asks first. A log on standard error (a pipe), syslog or memory is out of reach.
//!
//! Bounded: 16 files a worker, 1 MiB a call; what is beyond is skipped and counted. Rotation is noticed at the next
//! call: what was written to the old file is read first, then the new one from its start.

use std::{
    collections::HashMap,
    fs::{self, Metadata, OpenOptions},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use super::log_file::Tail;
use crate::{
    event::{LogLine, Time},
    process,
};

const FILES: usize = 16;
const BYTES: u64 = 1 << 20;
/// A worker with very many connections has very many descriptors; its logs are among the lowest.
const SEARCH: Duration = Duration::from_millis(50);
const TICK: Duration = Duration::from_millis(10);

type FileId = (u64, u64);

/// Reads what nginx logs.
#[derive(Debug)]
pub struct LogTail {
    tails: HashMap<FileId, Tail>,
    workers: HashMap<u32, Vec<Named>>,
    added: Vec<Named>,
    looked: SystemTime,
    skipped: u64,
}

/// A path that opens a log, and the file that it opened when last looked at.
#[derive(Debug, Clone)]
struct Named {
    access: PathBuf,
    id: Option<FileId>,
}

impl LogTail {
    /// Follows these paths beside what the workers hold.
    #[must_use]
    pub fn new(added: Vec<PathBuf>) -> Self {
        let mut tail = Self {
            tails: HashMap::new(),
            workers: HashMap::new(),
            added: added
                .into_iter()
                .map(|access| Named { access, id: None })
                .collect(),
            looked: SystemTime::now(),
            skipped: 0,
        };
        tail.look_at_added();
        tail
    }

    /// Begins at the present end of the worker's logs.
    pub fn follow(&mut self, worker: u32) {
        let mut logs = candidates(worker);
        for log in &mut logs {
            log.id = self.open(&log.access);
        }
        self.workers.insert(worker, logs);
        self.drop_unheld();
    }

    /// Forgets a worker that ended. Its last lines are read through another worker, or not at all.
    pub fn forget(&mut self, worker: u32) {
        self.workers.remove(&worker);
        self.drop_unheld();
    }

    /// The lines about requests that were logged since the last call, by any worker that shares this one's logs; `at`
    /// is the time they get. A worker that was not followed yet is from now on.
    pub fn read_new(&mut self, worker: u32, at: Time) -> Vec<LogLine> {
        if !self.workers.contains_key(&worker) {
            self.follow(worker);
        }
        let mut lines = Vec::new();
        let mut budget = BYTES;
        self.read(worker, at, &mut budget, &mut lines);
        if self.rotated(worker) {
            self.follow(worker);
            self.look_at_added();
            self.read(worker, at, &mut budget, &mut lines);
        }
        self.looked = SystemTime::now();
        self.workers
            .retain(|pid, logs| !logs.is_empty() || Path::new(&format!("/proc/{pid}")).exists());
        lines
    }

    /// Bytes skipped so far because more was logged than may be read.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn read(&mut self, worker: u32, at: Time, budget: &mut u64, lines: &mut Vec<LogLine>) {
        let ids: Vec<FileId> = match self.workers.get(&worker) {
            Some(held) if !held.is_empty() => {
                let logs = held.iter().chain(&self.added);
                logs.filter_map(|log| log.id).collect()
            }
            // A worker that is gone shows its logs no more; others hold the same.
            _ => self.tails.keys().copied().collect(),
        };
        for id in ids {
            if let Some(tail) = self.tails.get_mut(&id) {
                self.skipped += tail.read(at, budget, lines);
            }
        }
    }

    fn rotated(&self, worker: u32) -> bool {
        let held = self.workers.get(&worker).into_iter().flatten();
        held.chain(&self.added)
            .any(|log| fs::metadata(&log.access).ok().map(|now| id(&now)) != log.id)
    }

    fn look_at_added(&mut self) {
        for at in 0..self.added.len() {
            let access = self.added[at].access.clone();
            self.added[at].id = self.open(&access);
        }
        self.drop_unheld();
    }

    fn open(&mut self, path: &Path) -> Option<FileId> {
        // Non-blocking, should it have become a pipe since it was looked at.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .ok()?;
        let metadata = file.metadata().ok().filter(Metadata::is_file)?;
        let id = id(&metadata);
        // A file that was made since the last look is new as a whole; file times lag by a clock tick.
        let new = metadata
            .created()
            .is_ok_and(|made| made + TICK > self.looked);
        let start = if new { 0 } else { metadata.len() };
        self.tails
            .entry(id)
            .or_insert_with(|| Tail::new(file, start));
        Some(id)
    }

    fn drop_unheld(&mut self) {
        let held = self.workers.values().flatten().chain(&self.added);
        let held: Vec<FileId> = held.filter_map(|log| log.id).collect();
        self.tails.retain(|id, _| held.contains(id));
    }
}

/// The regular files that a worker appends to, as paths that open them; those named like an error log first.
#[must_use]
pub fn appended(worker: u32) -> Vec<PathBuf> {
    candidates(worker)
        .into_iter()
        .map(|log| log.access)
        .collect()
}

fn candidates(worker: u32) -> Vec<Named> {
    let deadline = Instant::now() + SEARCH;
    let mut found: Vec<(bool, FileId, PathBuf)> = Vec::new();
    for entry in fs::read_dir(format!("/proc/{worker}/fd"))
        .into_iter()
        .flatten()
        .flatten()
    {
        if found.len() >= FILES || Instant::now() > deadline {
            break;
        }
        let access = entry.path();
        let Ok(target) = fs::read_link(&access) else {
            continue;
        };
        // Sockets and the like are no paths; a file outside the process's root has one all the same.
        if !target.has_root() || !appends(worker, &entry.file_name().to_string_lossy()) {
            continue;
        }
        let Ok(metadata) = fs::metadata(&access) else {
            continue;
        };
        // nginx's standard error is its error log once more.
        let known = found.iter().any(|(_, other, _)| *other == id(&metadata));
        if metadata.is_file() && !known {
            let named = target.to_string_lossy().contains("error");
            found.push((!named, id(&metadata), access));
        }
    }
    found.sort();
    found
        .into_iter()
        .map(|(_, id, access)| Named {
            access,
            id: Some(id),
        })
        .collect()
}

/// Opened with `O_APPEND` and for writing, by the octal `flags:` of `fdinfo`.
fn appends(pid: u32, fd: &str) -> bool {
    let flags = process::read_start(format!("/proc/{pid}/fdinfo/{fd}"), 1024).ok();
    let flags = flags
        .as_deref()
        .and_then(|text| std::str::from_utf8(text).ok());
    let flags = flags
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("flags:")))
        .and_then(|octal| i32::from_str_radix(octal.trim(), 8).ok())
        .unwrap_or(0);
    flags & libc::O_APPEND != 0 && flags & libc::O_ACCMODE != libc::O_RDONLY
}

fn id(metadata: &Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write as _};

    use super::*;
    use crate::nginx::log_file::FOREIGN_LINES;

    /// A log in a directory of its own that this process appends to, as nginx does.
    struct Log {
        directory: PathBuf,
        path: PathBuf,
        file: File,
    }

    impl Log {
        fn new(test: &str, name: &str) -> Self {
            let directory =
                std::env::temp_dir().join(format!("tracer-{test}-{}", std::process::id()));
            fs::create_dir_all(&directory).unwrap();
            let path = directory.join(name);
            let file = Self::append(&path);
            // Older than the tail that is to follow it.
            std::thread::sleep(TICK * 2);
            Self {
                directory,
                path,
                file,
            }
        }

        fn append(path: &Path) -> File {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .unwrap()
        }

        fn write(&mut self, text: &str) {
            self.file.write_all(text.as_bytes()).unwrap();
        }

        fn reopen(&mut self) {
            fs::rename(&self.path, self.path.with_extension("1")).unwrap();
            self.file = Self::append(&self.path);
        }
    }

    impl Drop for Log {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }

    fn line(connection: u64) -> String {
        format!("2026/11/20 10:15:23 [error] 7#7: *{connection} x, client: 1.1.1.1, server: a\n")
    }

    fn connections(lines: &[LogLine]) -> Vec<u64> {
        lines.iter().map(|line| line.connection).collect()
    }

    /// Tests in one process share its descriptors: each reads its own added path, but for the one that finds them.
    fn tail(log: &Log) -> LogTail {
        LogTail::new(vec![log.path.clone()])
    }

    /// No process: only the added paths are read.
    const NOBODY: u32 = u32::MAX;

    #[test]
    fn an_open_log_is_found_by_its_descriptor_and_read_from_its_end() {
        let mut log = Log::new("found", "shop-error.log");
        log.write(&line(20_000));
        let own = std::process::id();
        assert!(
            appended(own)
                .iter()
                .any(|path| fs::read_link(path).ok().as_deref() == Some(&log.path))
        );
        let mut tail = LogTail::new(Vec::new());
        tail.follow(own);
        log.write(&line(20_001));
        let read = connections(&tail.read_new(own, Time(5)));
        assert!(read.contains(&20_001) && !read.contains(&20_000));
        assert!(!connections(&tail.read_new(own, Time(6))).contains(&20_001));
    }

    #[test]
    fn a_line_is_given_when_it_is_whole() {
        let mut log = Log::new("partial", "a.log");
        let mut tail = tail(&log);
        let text = line(2);
        log.write(&text[..30]);
        assert!(tail.read_new(NOBODY, Time(1)).is_empty());
        log.write(&text[30..]);
        assert_eq!(connections(&tail.read_new(NOBODY, Time(2))), [2]);
    }

    #[test]
    fn a_rotated_log_is_read_to_its_end_and_the_new_one_from_its_start() {
        let mut log = Log::new("rotated", "a.log");
        let mut tail = tail(&log);
        std::thread::sleep(TICK * 2);
        log.write(&line(1));
        log.reopen();
        log.write(&line(2));
        assert_eq!(connections(&tail.read_new(NOBODY, Time(1))), [1, 2]);
        log.write(&line(3));
        assert_eq!(connections(&tail.read_new(NOBODY, Time(2))), [3]);
    }

    #[test]
    fn a_truncated_log_is_read_from_its_start() {
        let mut log = Log::new("truncated", "a.log");
        log.write(&line(1_000_000));
        let mut tail = tail(&log);
        log.file.set_len(0).unwrap();
        log.write(&line(2));
        assert_eq!(connections(&tail.read_new(NOBODY, Time(1))), [2]);
    }

    #[test]
    fn an_access_log_is_given_up() {
        let mut log = Log::new("access", "a.log");
        let mut tail = tail(&log);
        log.write(&"127.0.0.1 - - \"GET / HTTP/1.1\" 200\n".repeat(FOREIGN_LINES as usize));
        assert!(tail.read_new(NOBODY, Time(1)).is_empty());
        log.write(&line(1));
        assert!(tail.read_new(NOBODY, Time(2)).is_empty());
    }

    #[test]
    fn what_is_too_much_is_skipped_and_counted() {
        let mut log = Log::new("much", "a.log");
        let mut tail = tail(&log);
        let lines = BYTES / line(1).len() as u64 + 10;
        log.write(&line(1).repeat(usize::try_from(lines).unwrap()));
        log.write(&line(2));
        let read = tail.read_new(NOBODY, Time(1));
        assert_eq!(read.last().unwrap().connection, 2);
        assert!((read.len() as u64) < lines && tail.skipped() > 0);
    }
}
