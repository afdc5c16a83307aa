//! The error logs of the followed workers, read from where they ended when following began.
//!
//! They are found through the workers' open descriptors, so in any container and under any name;
//! every regular file that a worker appends to is a candidate until it turns out to be no error
//! log. Each is opened with the rights of who opened it for nginx, and looked at where it may
//! stall. Workers share their logs: a line is given once, to whoever asks first, with the workers
//! that may have written it. A log on standard error (a pipe), syslog or memory is out of reach.
//!
//! Bounded: 16 files a worker, 1 MiB a call; what is beyond is skipped and counted. Rotation is
//! noticed at the next call: what was written to the old file is read first, then the new one from
//! its start.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use super::log_file::{Missed, Tail, patient};
use crate::{
    event::{LogLine, Time},
    process::{self, Status, foreign},
};

const FILES: usize = 16;
/// Descriptors that are looked at one by one.
const FEW: u64 = 128;
const BYTES: u64 = 1 << 20;
/// A worker with very many connections has very many descriptors; its logs are among the lowest.
const SEARCH: Duration = Duration::from_millis(50);
const TICK: Duration = Duration::from_millis(10);
/// What a worker wrote that has ended is known to be its own for so long, and of so many.
const ENDED_FOR: Duration = Duration::from_secs(3);
/// So long its logs are held open for itself alone: that keeps their mount busy.
const HELD_FOR: Duration = Duration::from_millis(500);
const ENDED: usize = 1024;
/// Processes that one sweep polls again, the longest unpolled first: a file that was rotated away
/// is released.
const SWEPT: usize = 4;
const SWEPT_AFTER: Duration = Duration::from_secs(10);
/// Workers looked at again in one call, as a line may be theirs; and how soon once more for the
/// same file.
const AGAIN: usize = 16;
const AGAIN_AFTER: Duration = Duration::from_secs(1);

type FileId = (u64, u64);

/// Reads what nginx logs.
#[derive(Debug)]
pub(crate) struct LogTail {
    tails: HashMap<FileId, Tail>,
    holders: HashMap<u32, Holder>,
    added: Vec<Log>,
    looked: SystemTime,
    skipped: u64,
    /// Workers a log of which stalled, and was not said yet.
    stalled: Vec<u32>,
}

/// A process that holds logs open.
#[derive(Debug)]
struct Holder {
    /// What its lines show: its pid in its own namespace. `None`: a master, which writes no lines
    /// of requests.
    printed: Option<u32>,
    logs: Vec<Log>,
    ended: Option<Instant>,
    looked: Instant,
    /// When its descriptors were.
    listed: Instant,
    /// A file that it was found not to hold.
    lacks: Option<FileId>,
}

impl Holder {
    fn holds(&self, id: FileId) -> bool {
        self.logs.iter().any(|log| log.id == Some(id))
    }
}

/// A log, and the file that it was when last looked at.
#[derive(Debug, Clone)]
struct Log {
    access: Access,
    id: Option<FileId>,
}

/// How a log is reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Access {
    /// A descriptor of a process.
    Held { pid: u32, descriptor: u32 },
    /// The operator named it.
    Named(PathBuf),
}

impl Access {
    /// What is there now, a regular file or nothing. May stall.
    fn id(&self) -> Option<FileId> {
        let metadata = match self {
            Self::Held { pid, descriptor } => foreign::descriptor_metadata(*pid, *descriptor),
            Self::Named(path) => fs::metadata(path),
        };
        metadata.ok().filter(Metadata::is_file).map(|it| id(&it))
    }

    /// May stall.
    fn open(&self, owner: &Status) -> io::Result<(File, Metadata)> {
        let file = match self {
            Self::Held { pid, descriptor } => foreign::open_descriptor(*pid, *descriptor, owner),
            Self::Named(path) => foreign::open_named(path),
        }?;
        let metadata = file.metadata()?;
        Ok((file, metadata))
    }

    /// Its path as the process's mounts name it, for people.
    fn name(&self) -> PathBuf {
        match self {
            Self::Held { pid, descriptor } => {
                let path = PathBuf::from(format!("/proc/{pid}/fd/{descriptor}"));
                fs::read_link(&path).unwrap_or(path)
            }
            Self::Named(path) => path.clone(),
        }
    }
}

impl LogTail {
    /// Follows these paths in addition to what the workers hold.
    #[must_use]
    pub(crate) fn new(added: Vec<PathBuf>) -> Self {
        let added = added.into_iter().map(|path| Log {
            access: Access::Named(path),
            id: None,
        });
        let mut tail = Self {
            tails: HashMap::new(),
            holders: HashMap::new(),
            added: added.collect(),
            looked: SystemTime::now(),
            skipped: 0,
            stalled: Vec::new(),
        };
        tail.look_at_added();
        tail
    }

    /// Begins at the present end of the worker's logs, and its master's, which holds the same ones
    /// longer. Returns the master.
    pub(crate) fn follow(&mut self, worker: u32) -> Option<u32> {
        let status = process::status(worker).ok()?;
        let (logs, master) = self.look_at(worker, Some(status.parent));
        let master = master.and_then(|master| Some((master, process::status(master).ok()?)));
        if let Some((master, owner)) = &master {
            // It may be worker as well.
            let known = self.holders.get(master);
            let printed = known.and_then(|known| known.printed);
            if known.is_none_or(|known| known.looked.elapsed() >= AGAIN_AFTER) {
                let (logs, _) = self.look_at(*master, None);
                self.hold(*master, printed, logs, owner);
            }
        }
        let owner = master.as_ref().map_or(&status, |(_, owner)| owner);
        self.hold(worker, Some(status.own_pid), logs, owner);
        master.map(|(master, _)| master)
    }

    /// The logs that a process holds, and `parent` if it opened them.
    fn look_at(&mut self, pid: u32, parent: Option<u32>) -> (Vec<Log>, Option<u32>) {
        let inherited = parent.filter(|_| may_hold_many(pid)).and_then(|parent| {
            let known = self.holders.get(&parent)?;
            // A master that reloads opens more logs, and forks then.
            let age = process::age(pid).ok()?;
            let was_there = age > known.listed.elapsed() + TICK;
            was_there.then(|| inherited(pid, parent, &known.logs))?
        });
        let Found {
            logs,
            opener,
            is_stalled,
        } = inherited.unwrap_or_else(|| candidates(pid, parent));
        if is_stalled {
            self.say_stalled(pid);
        }
        (logs, opener)
    }

    fn hold(&mut self, pid: u32, printed: Option<u32>, mut logs: Vec<Log>, owner: &Status) {
        for log in &mut logs {
            self.open(pid, log, owner);
        }
        let holder = Holder {
            printed,
            logs,
            ended: None,
            looked: Instant::now(),
            listed: Instant::now(),
            lacks: None,
        };
        if self.holders.insert(pid, holder).is_some() {
            self.drop_unheld();
        }
    }

    /// The process ended. What it wrote last is still to be read.
    pub(crate) fn forget(&mut self, pid: u32) {
        if let Some(holder) = self.holders.get_mut(&pid) {
            holder.ended = Some(Instant::now());
        }
    }

    /// Drops files that were rotated away, and what processes held whose end was not heard of. To
    /// be called each second.
    pub(crate) fn sweep(&mut self) {
        for (pid, holder) in &mut self.holders {
            if holder.ended.is_none() && !Path::new(&format!("/proc/{pid}")).exists() {
                holder.ended = Some(Instant::now());
            }
        }
        let is_due =
            |holder: &Holder| holder.ended.is_none() && holder.looked.elapsed() >= SWEPT_AFTER;
        let due = self.holders.iter().filter(|(_, holder)| is_due(holder));
        let due: Vec<u32> = due.map(|(&pid, _)| pid).take(SWEPT).collect();
        for pid in due {
            if self.is_rotated(pid) {
                self.follow_again(pid);
            } else if let Some(holder) = self.holders.get_mut(&pid) {
                holder.looked = Instant::now();
            }
        }
        self.drop_unheld();
    }

    /// Drops what processes held that ended some time ago. Returns when the next is due.
    pub(crate) fn release(&mut self) -> Option<Duration> {
        let ended = |holder: &Holder| holder.ended.map(|at| at.elapsed());
        if !self.holders.values().any(|holder| holder.ended.is_some()) {
            return None;
        }
        let mut ages: Vec<Duration> = self.holders.values().filter_map(ended).collect();
        let mut most = ENDED_FOR;
        if ages.len() > ENDED {
            most = most.min(*ages.select_nth_unstable(ENDED).1);
        }
        self.holders
            .retain(|_, holder| ended(holder).is_none_or(|age| age < most));
        self.drop_unheld();
        let ages = self.holders.values().filter_map(ended);
        let due = ages.map(|age| match HELD_FOR.checked_sub(age) {
            Some(rest) => rest,
            None => ENDED_FOR.saturating_sub(age),
        });
        due.min()
    }

    /// The lines about requests that were logged since the last call, by any worker that shares
    /// this one's logs; `at` is the time they get. A worker that was not followed yet is from now
    /// on.
    pub(crate) fn read_new(&mut self, worker: u32, at: Time) -> Vec<LogLine> {
        let is_to_be_found = self.holders.get(&worker).is_none_or(|holder| {
            let is_old = holder.looked.elapsed() >= AGAIN_AFTER;
            holder.logs.is_empty() && holder.ended.is_none() && is_old
        });
        if is_to_be_found {
            self.follow(worker);
        }
        let mut lines = Vec::new();
        let mut budget = BYTES;
        self.read(worker, at, &mut budget, &mut lines);
        if self.is_rotated(worker) {
            self.follow_again(worker);
            self.look_at_added();
            self.read(worker, at, &mut budget, &mut lines);
        }
        self.looked = SystemTime::now();
        lines
    }

    /// Bytes skipped so far because more was logged than may be read.
    #[must_use]
    pub(crate) fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Workers a log of which stalled since this was asked last.
    pub(crate) fn take_stalled(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.stalled)
    }

    fn follow_again(&mut self, pid: u32) {
        let known = self.holders.get(&pid);
        match known.filter(|known| known.ended.is_none()) {
            Some(Holder { printed: None, .. }) => {
                if let Ok(status) = process::status(pid) {
                    let (logs, _) = self.look_at(pid, None);
                    self.hold(pid, None, logs, &status);
                }
            }
            Some(_) => {
                self.follow(pid);
            }
            None => {}
        }
    }

    fn say_stalled(&mut self, worker: u32) {
        if self.stalled.len() < ENDED {
            self.stalled.push(worker);
        }
    }

    fn read(&mut self, worker: u32, at: Time, budget: &mut u64, lines: &mut Vec<LogLine>) {
        let ids: Vec<FileId> = match self.holders.get(&worker) {
            Some(holder) => {
                let logs = holder.logs.iter().chain(&self.added);
                logs.filter_map(|log| log.id).collect()
            }
            // One that was gone before it was looked at; others hold the same.
            None => self.tails.keys().copied().collect(),
        };
        let mut again = AGAIN;
        for id in ids {
            let Some(tail) = self.tails.get_mut(&id) else {
                continue;
            };
            let first = lines.len();
            let Missed { bytes, is_stalled } = tail.read(worker, at, budget, lines);
            self.skipped += bytes;
            if is_stalled {
                self.say_stalled(worker);
            }
            if let Some(new) = lines.get_mut(first..).filter(|new| !new.is_empty()) {
                self.name_writers(id, new, &mut again);
            }
        }
    }

    /// Who may have written lines of a file: a followed worker that holds it and has the printed
    /// pid.
    fn name_writers(&mut self, id: FileId, lines: &mut [LogLine], again: &mut usize) {
        let mut writers = self.writers(id);
        for line in lines {
            if !writers.contains_key(&line.pid) && self.look_again(id, line.pid, again) {
                writers = self.writers(id);
            }
            line.workers = Some(writers.get(&line.pid).cloned().unwrap_or_default());
        }
    }

    fn writers(&self, id: FileId) -> HashMap<u32, Vec<u32>> {
        let mut writers: HashMap<u32, Vec<u32>> = HashMap::new();
        for (&pid, holder) in &self.holders {
            if let Some(printed) = holder.printed.filter(|_| holder.holds(id)) {
                writers.entry(printed).or_default().push(pid);
            }
        }
        for pids in writers.values_mut() {
            pids.sort_unstable();
        }
        writers
    }

    /// Looks at workers again that have this pid: they may have opened the file since, as another's
    /// was found to be rotated.
    fn look_again(&mut self, id: FileId, printed: u32, again: &mut usize) -> bool {
        let is_to_be_asked = |holder: &Holder| {
            let is_known = holder.lacks == Some(id) && holder.looked.elapsed() < AGAIN_AFTER;
            holder.printed == Some(printed) && holder.ended.is_none() && !is_known
        };
        let asked = self.holders.iter();
        let asked = asked.filter(|(_, holder)| is_to_be_asked(holder));
        let asked: Vec<u32> = asked.map(|(&pid, _)| pid).take(*again).collect();
        *again -= asked.len();
        for &pid in &asked {
            self.follow_again(pid);
            if let Some(holder) = self.holders.get_mut(&pid)
                && !holder.holds(id)
            {
                holder.lacks = Some(id);
            }
        }
        !asked.is_empty()
    }

    fn is_rotated(&self, worker: u32) -> bool {
        let holder = self.holders.get(&worker);
        let held = holder.filter(|holder| holder.ended.is_none());
        let held = held.into_iter().flat_map(|holder| &holder.logs);
        let logs: Vec<Log> = held.chain(&self.added).cloned().collect();
        // What does not answer is as it was.
        let is_another = move || {
            let mut logs = logs.iter();
            Ok(logs.any(|log| log.access.id() != log.id))
        };
        patient(worker, is_another).unwrap_or(false)
    }

    fn look_at_added(&mut self) {
        let mut added = std::mem::take(&mut self.added);
        for log in &mut added {
            let access = log.access.clone();
            log.id = patient(NOBODY, move || Ok(access.id())).ok().flatten();
            self.open(NOBODY, log, &Status::default());
        }
        self.added = added;
        self.drop_unheld();
    }

    /// Opens a file unless it is open, or may not be read. One that stalls, or is another by now,
    /// is to be looked at again.
    fn open(&mut self, pid: u32, log: &mut Log, owner: &Status) {
        let Some(id) = log.id.filter(|id| !self.tails.contains_key(id)) else {
            return;
        };
        let (access, owner) = (log.access.clone(), owner.clone());
        match patient(pid, move || access.open(&owner)) {
            Ok((file, metadata)) if self::id(&metadata) == id => {
                // A file that was made since the last look is new as a whole; file times lag by a
                // clock tick.
                let new = metadata
                    .created()
                    .is_ok_and(|made| made + TICK > self.looked);
                let start = if new { 0 } else { metadata.len() };
                self.tails.insert(id, Tail::new(file, start));
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            _ => log.id = None,
        }
    }

    fn drop_unheld(&mut self) {
        let holds = |holder: &&Holder| holder.ended.is_none_or(|at| at.elapsed() < HELD_FOR);
        let held = self.holders.values().filter(holds);
        let held = held.flat_map(|holder| &holder.logs);
        let held: HashSet<FileId> = held.chain(&self.added).filter_map(|log| log.id).collect();
        self.tails.retain(|id, _| held.contains(id));
    }
}

/// No process: the operator's own files.
const NOBODY: u32 = u32::MAX;

/// Returns the regular files that a worker appends to, as its own mounts name them; those named
/// like an error log first.
#[must_use]
pub(crate) fn appended(worker: u32) -> Vec<PathBuf> {
    let logs = candidates(worker, None).logs.into_iter();
    logs.map(|log| log.access.name()).collect()
}

/// What a poll of a process found.
struct Found {
    logs: Vec<Log>,
    /// Who opened its files: the master that it was forked from. A parent that runs another program
    /// is none: it may have more rights, and may be anyone that took in an orphan.
    opener: Option<u32>,
    /// Something could not be looked at as it stalls.
    is_stalled: bool,
}

/// Whether a process has more descriptors than are looked at in a moment; it may where the kernel
/// does not say (before 6.2).
fn may_hold_many(pid: u32) -> bool {
    let count = fs::metadata(format!("/proc/{pid}/fd")).map_or(0, |folder| folder.len());
    !(1..=FEW).contains(&count)
}

/// The logs of a process that holds all of its parent's by the same numbers, as it does once it is
/// forked. A worker among hundreds has a descriptor for each of them: to look at all takes long.
/// One that a reload has left behind may hold a log more, which is not found here.
fn inherited(pid: u32, parent: u32, logs: &[Log]) -> Option<Found> {
    let mut accesses = Vec::new();
    for log in logs {
        let Access::Held { descriptor, .. } = log.access else {
            return None;
        };
        if log.id.is_none() || !appends(pid, descriptor) {
            return None;
        }
        accesses.push(Access::Held { pid, descriptor });
    }
    let (ids, opener, is_stalled) = behind(pid, Some(parent), &accesses);
    let is_same = ids.iter().eq(logs.iter().map(|log| &log.id));
    if logs.is_empty() || opener.is_none() || !is_same {
        return None;
    }
    let logs = accesses.into_iter().zip(ids);
    Some(Found {
        logs: logs.map(|(access, id)| Log { access, id }).collect(),
        opener,
        is_stalled,
    })
}

/// The regular files that a process appends to.
fn candidates(pid: u32, parent: Option<u32>) -> Found {
    let deadline = Instant::now() + SEARCH;
    let mut found: Vec<(bool, Access)> = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
    {
        if found.len() >= FILES || Instant::now() > deadline {
            break;
        }
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        let name = entry.file_name();
        let descriptor = name.to_str().and_then(|name| name.parse().ok());
        // Sockets and the like are no paths; a file outside the process's root has one all the
        // same.
        if let Some(descriptor) = descriptor
            && target.has_root()
            && appends(pid, descriptor)
        {
            let is_named = target.to_string_lossy().contains("error");
            found.push((!is_named, Access::Held { pid, descriptor }));
        }
    }
    found.sort();
    let accesses: Vec<Access> = found.into_iter().map(|(_, access)| access).collect();
    let (ids, opener, is_stalled) = behind(pid, parent, &accesses);
    let mut logs: Vec<Log> = Vec::new();
    for (access, id) in accesses.into_iter().zip(ids) {
        // nginx's standard error is its error log once more.
        if id.is_some() && logs.iter().all(|known| known.id != id) {
            logs.push(Log { access, id });
        }
    }
    Found {
        logs,
        opener,
        is_stalled,
    }
}

/// What these are now, and `parent` if it runs the same program: all at once, and if one stalls
/// each by itself.
fn behind(
    pid: u32,
    parent: Option<u32>,
    accesses: &[Access],
) -> (Vec<Option<FileId>>, Option<u32>, bool) {
    let opener = move || parent.filter(|&parent| foreign::run_the_same(pid, parent));
    let all = accesses.to_vec();
    if let Ok((ids, opener)) = patient(pid, move || {
        let ids: Vec<Option<FileId>> = all.iter().map(Access::id).collect();
        Ok((ids, opener()))
    }) {
        return (ids, opener, false);
    }
    let each = accesses.iter().cloned();
    let each = each.map(|one| patient(pid, move || Ok(one.id())).ok().flatten());
    let opener = patient(pid, move || Ok(opener())).ok().flatten();
    (each.collect(), opener, true)
}

/// Opened with `O_APPEND` and for writing.
fn appends(pid: u32, descriptor: u32) -> bool {
    let text = process::read_start(format!("/proc/{pid}/fdinfo/{descriptor}"), 1024);
    text.is_ok_and(|text| is_appended(&String::from_utf8_lossy(&text)))
}

/// By the octal `flags:` of `fdinfo`.
fn is_appended(fdinfo: &str) -> bool {
    let flags = fdinfo
        .lines()
        .find_map(|line| line.strip_prefix("flags:"))
        .and_then(|octal| i32::from_str_radix(octal.trim(), 8).ok())
        .unwrap_or(0);
    flags & libc::O_APPEND != 0 && flags & libc::O_ACCMODE != libc::O_RDONLY
}

/// For the fuzz targets: reads a file of `/proc/PID/fdinfo`, whatever it is.
pub fn read_fdinfo(text: &str) {
    let _ = is_appended(text);
}

fn id(metadata: &Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use std::{
        fs::OpenOptions,
        io::{Read as _, Write as _},
        process::{Command, Stdio},
    };

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

    /// Who may have written those of a connection.
    fn writers(lines: &[LogLine], connection: u64) -> Vec<Option<Vec<u32>>> {
        let lines = lines.iter().filter(|line| line.connection == connection);
        lines.map(|line| line.workers.clone()).collect()
    }

    /// Tests in one process share its descriptors: each reads its own added path, but for the one
    /// that finds them.
    fn tail(log: &Log) -> LogTail {
        LogTail::new(vec![log.path.clone()])
    }

    #[test]
    fn an_open_log_is_found_by_its_descriptor_and_read_from_its_end() {
        let mut log = Log::new("found", "shop-error.log");
        log.write(&line(20_000));
        let own = std::process::id();
        assert!(appended(own).contains(&log.path));
        let mut tail = LogTail::new(Vec::new());
        tail.follow(own);
        log.write(&line(20_001));
        let read = connections(&tail.read_new(own, Time(5)));
        assert!(read.contains(&20_001) && !read.contains(&20_000));
        assert!(!connections(&tail.read_new(own, Time(6))).contains(&20_001));
    }

    #[test]
    fn a_line_s_writer_is_who_holds_the_log_and_prints_that_pid() {
        let mut log = Log::new("writer", "error.log");
        let own = std::process::id();
        let mut tail = LogTail::new(vec![log.path.clone()]);
        tail.follow(own);
        log.write(&line(40_001));
        log.write(&line(40_001).replace("7#7", &format!("{own}#{own}")));
        let lines = tail.read_new(own, Time(1));
        assert_eq!(writers(&lines, 40_001), [Some(vec![]), Some(vec![own])]);
        // What ended just now wrote it still.
        tail.forget(own);
        log.write(&line(40_002).replace("7#7", &format!("{own}#{own}")));
        let lines = tail.read_new(own, Time(2));
        assert_eq!(writers(&lines, 40_002), [Some(vec![own])]);
    }

    #[test]
    fn nobody_has_written_what_no_worker_holds() {
        let mut log = Log::new("unheld", "error.log");
        let mut tail = tail(&log);
        tail.follow(std::process::id());
        // Still there for the operator's path, but this process has closed it.
        log.file = File::open("/dev/null").unwrap();
        let own = std::process::id();
        let text = line(50_001).replace("7#7", &format!("{own}#{own}"));
        Log::append(&log.path).write_all(text.as_bytes()).unwrap();
        tail.follow(own);
        let lines = tail.read_new(own, Time(1));
        assert_eq!(writers(&lines, 50_001), [Some(vec![])]);
    }

    /// `program` in a shell that appends to `log` by descriptor 3, as do its children.
    fn shell(log: &Log, program: &str) -> std::process::Child {
        Command::new("sh")
            .args(["-c", &format!("exec 3>>\"$1\"; {program}"), "sh"])
            .arg(&log.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    #[test]
    fn what_a_worker_has_by_its_master_s_numbers_is_found_by_them() {
        let log = Log::new("inherited", "error.log");
        let child = "echo $!; read end <&4; kill $!; wait";
        let mut master = shell(&log, &format!("exec 4<&0; sh -c 'read x; :' <&4 & {child}"));
        let mut said = String::new();
        let mut stdout = io::BufReader::new(master.stdout.take().unwrap());
        io::BufRead::read_line(&mut stdout, &mut said).unwrap();
        let worker: u32 = said.trim().parse().unwrap();
        let found = |pid| candidates(pid, Some(master.id()));
        let of_master = found(master.id()).logs;
        assert_eq!(of_master.len(), 1);
        let by_numbers = inherited(worker, master.id(), &of_master).unwrap();
        let of_worker = found(worker);
        assert_eq!(by_numbers.opener, of_worker.opener);
        let ids = |logs: &[super::Log]| logs.iter().map(|log| log.id).collect::<Vec<_>>();
        assert_eq!(ids(&by_numbers.logs), ids(&of_worker.logs));
        // One more than it has.
        let mut more = of_master;
        more.push(super::Log {
            access: Access::Held {
                pid: master.id(),
                descriptor: 99,
            },
            id: Some((1, 1)),
        });
        assert!(inherited(worker, master.id(), &more).is_none());
        drop(master.stdin.take());
        master.wait().unwrap();
    }

    /// nginx reopens its logs in each worker: what one of them is asked about may hold another's
    /// lines.
    #[test]
    fn in_a_rotated_log_each_worker_s_lines_are_its_own() {
        let mut log = Log::new("writers", "error.log");
        let mut shell = Command::new("sh")
            .args([
                "-c",
                "exec 3>>\"$1\"; echo; read go; exec 3>>\"$1\"; echo; read end",
                "sh",
            ])
            .arg(&log.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut reopened = shell.stdout.take().unwrap();
        let mut wait = || reopened.read_exact(&mut [0]).unwrap();
        wait();
        let (own, other) = (std::process::id(), shell.id());
        let mut tail = LogTail::new(Vec::new());
        tail.follow(own);
        tail.follow(other);
        std::thread::sleep(TICK * 2);
        log.reopen();
        let mut input = shell.stdin.take().unwrap();
        input.write_all(b"\n").unwrap();
        wait();
        for pid in [other, own] {
            log.write(&line(30_001).replace("7#7", &format!("{pid}#{pid}")));
        }
        let lines = tail.read_new(own, Time(1));
        assert_eq!(
            writers(&lines, 30_001),
            [Some(vec![other]), Some(vec![own])]
        );
        drop(input);
        shell.wait().unwrap();
    }

    #[test]
    fn only_regular_files_are_logs() {
        let log = Log::new("kinds", "error.log");
        let fifo = log.directory.join("error.fifo");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, mode, 0).unwrap();
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            options.read(true).append(true).open(path).unwrap()
        };
        let _held = [
            open(&fifo),
            open(Path::new("/dev/null")),
            open(Path::new("/dev/ptmx")),
        ];
        let own = std::process::id();
        let found = appended(own);
        assert!(found.contains(&log.path), "{found:?}");
        for other in [&fifo, Path::new("/dev/null"), Path::new("/dev/ptmx")] {
            assert!(!found.iter().any(|path| path == other), "{found:?}");
        }
        // Nor may the operator name one.
        let tail = LogTail::new(vec![fifo, "/dev/ptmx".into()]);
        assert!(tail.tails.is_empty());
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
