//! Finds every nginx of the host by the titles that its processes give themselves
//! (`ngx_setproctitle`), in all namespaces that `/proc` shows.
//!
//! A title proves nothing (anyone may choose one); what is attached to later is what the binary
//! exports. A process that vanishes while it is looked at is left out.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tracer_ebpf::abi::Layout;

use super::{
    binary::{Binaries, Binary, ExeId},
    layout::layout,
    outspoken::{self, Started},
};
use crate::{
    event::Time,
    process::{self, foreign},
};

const TITLE_LIMIT: u64 = 4096;
/// The event loop's descriptor is among the first that nginx opens.
const DESCRIPTORS: usize = 256;

/// What a process is to nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A master.
    Master,
    /// A worker, also one that is shutting down, or was forked so lately that it has no title yet.
    Worker,
    /// Master and worker in one (`master_process off`), serving already.
    Single,
    /// It executes a file that is named as nginx or a fork is, and has no title yet: it starts, or
    /// is `nginx -t`.
    Starting,
    /// Anything else: cache manager and loader, other programs.
    Other,
}

/// One process, looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    /// What it is.
    pub kind: Kind,
    /// Its parent's pid on the host; 0 where it is no nginx.
    pub parent: u32,
}

/// One nginx: a master with its workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Master {
    /// Its pid on the host; 0 for workers whose master is gone (they go on serving).
    pub pid: u32,
    /// Its workers' pids on the host, ascending. For `master_process off` the process itself.
    pub workers: Vec<u32>,
    /// The binary's path as the process sees it, perhaps with ` (deleted)` after an upgrade. For
    /// people.
    pub exe: PathBuf,
    /// A path that opens the very binary from our mount namespace while the process lives:
    /// `/proc/PID/exe`.
    pub exe_access: PathBuf,
    /// What the binary shows.
    pub binary: Arc<Binary>,
    /// `nginx/1.22.1`, where the binary contains it.
    pub version: Option<String>,
    /// The prefix: `-p`, else the one compiled in. In the process's own root.
    pub prefix: Option<PathBuf>,
    /// The configuration file: `-c`, else the one compiled in. In the process's own root; relative
    /// to the prefix.
    pub conf: Option<PathBuf>,
}

impl Master {
    /// Its layout, or one of its workers' where it is gone. Attempts can be seen by their sockets
    /// only where the workers wait by epoll (`use` in `events {}`); of a worker that is no more
    /// that is not known.
    #[must_use]
    pub(crate) fn layout(&self) -> Layout {
        let layout = layout(self.shown(), &self.binary);
        // It has its title once it waits. All workers read one configuration.
        let waits_otherwise = |&worker: &u32| {
            let title = command(worker).and_then(|command| title(&command));
            title == Some(Title::Worker) && !has_event_loop(worker)
        };
        // Those whose masters are gone may be several masters', each at addresses of its own.
        let is_mixed = self.pid == 0 && self.workers.len() > 1;
        if is_mixed || self.workers.first().is_some_and(waits_otherwise) {
            return Layout {
                connect: 0,
                ..layout
            };
        }
        layout
    }

    /// A process that runs its binary.
    #[must_use]
    pub(crate) fn shown(&self) -> u32 {
        match self.pid {
            0 => self.workers.first().copied().unwrap_or(0),
            pid => pid,
        }
    }

    /// Its configuration file, in its own root.
    #[must_use]
    pub(crate) fn configuration(&self) -> Option<String> {
        let conf = self.prefix.as_ref()?.join(self.conf.as_ref()?);
        conf.is_absolute()
            .then(|| conf.to_string_lossy().into_owned())
    }

    /// The directives of its command line (`-g`).
    #[must_use]
    pub(crate) fn directives(&self) -> Vec<u8> {
        options(&command(self.shown()).unwrap_or_default()).directives
    }

    /// Its workers that take requests, and do not only finish those that they have.
    #[must_use]
    pub(crate) fn serving(&self) -> Vec<u32> {
        let is_ending = |pid: &u32| {
            let title = command(*pid).unwrap_or_default();
            let end = title.iter().rposition(|byte| *byte != 0 && *byte != b' ');
            title[..end.map_or(0, |end| end + 1)].ends_with(b"is shutting down")
        };
        let workers = self.workers.iter().copied();
        workers.filter(|pid| !is_ending(pid)).collect()
    }

    /// Does its log tell of each upstream that failed at once, and the kernel of each connection's
    /// end? As far as the configuration shows that its workers have, those that began at `since`
    /// and later; `None`: all, of which it is not known what was read after the master began.
    #[must_use]
    pub(crate) fn is_outspoken(&self, since: Option<Time>, now: Time) -> bool {
        let (Some(prefix), Some(conf)) = (&self.prefix, &self.conf) else {
            return false;
        };
        let start = |pid: &u32| process::start_time(*pid).ok();
        let oldest = since.or_else(|| {
            self.workers
                .iter()
                .chain([&self.pid])
                .filter_map(start)
                .min()
        });
        // Whose master is gone, their configuration may be any.
        let (Some(oldest), Some(command), false) = (oldest, command(self.pid), self.pid == 0)
        else {
            return false;
        };
        outspoken::is_outspoken(Started {
            pid: self.pid,
            conf: prefix.join(conf),
            directives: options(&command).directives,
            age: Duration::from_nanos(now.since(oldest)),
        })
    }
}

/// Every nginx of the host that is `wanted` (by its master's pid and its workers'), by master's
/// pid. Costs a short file's read for each process of the host; the binaries of what is not wanted
/// are not looked at.
#[must_use]
pub(crate) fn scan(wanted: impl Fn(u32, &[u32]) -> bool, binaries: &mut Binaries) -> Vec<Master> {
    let mut masters: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let mut workers = Vec::new();
    for pid in process::pids().unwrap_or_default() {
        match inspect(pid) {
            Some(Process {
                kind: Kind::Master, ..
            }) => {
                masters.entry(pid).or_default();
            }
            Some(Process {
                kind: Kind::Single, ..
            }) => masters.entry(pid).or_default().push(pid),
            Some(Process {
                kind: Kind::Worker,
                parent,
            }) => workers.push((pid, parent)),
            _ => {}
        }
    }
    let mut orphans: BTreeMap<ExeId, Vec<u32>> = BTreeMap::new();
    for (pid, parent) in workers {
        if let Some(own) = masters.get_mut(&parent) {
            own.push(pid);
        } else if wanted(0, &[pid])
            && let Ok(binary) = binaries.of(pid)
        {
            orphans.entry(binary.id).or_default().push(pid);
        }
    }
    let led = masters
        .into_iter()
        .map(|(pid, workers)| (pid, pid, workers));
    let alone = orphans
        .into_values()
        .map(|workers| (0, workers[0], workers));
    led.chain(alone)
        .filter(|(pid, _, workers)| wanted(*pid, workers))
        .filter_map(|(pid, shown, workers)| describe(pid, shown, workers, binaries))
        .collect()
}

/// The nginx whose master (or all in one) a process is; `None` if it is gone, or its binary is none
/// of nginx's.
#[must_use]
pub(crate) fn master(pid: u32, kind: Kind, binaries: &mut Binaries) -> Option<Master> {
    let mut workers = process::children(pid);
    workers.retain(|&child| inspect(child).is_some_and(|child| child.kind == Kind::Worker));
    if kind == Kind::Single {
        workers.push(pid);
    }
    describe(pid, pid, workers, binaries)
}

/// The processes that run the file that a process runs, as their mounts show it.
#[must_use]
pub(crate) fn runs_the_same(pid: u32) -> Vec<u32> {
    let (Ok(own), Ok(path)) = (foreign::exe_id(pid), fs::read_link(exe_of(pid))) else {
        return Vec::new();
    };
    let is_same = |other: &u32| {
        fs::read_link(exe_of(*other)).is_ok_and(|other| other == path)
            && foreign::exe_id(*other).is_ok_and(|other| other == own)
    };
    let pids = process::pids().unwrap_or_default();
    pids.into_iter().filter(is_same).collect()
}

/// What one process is; `None` if it is gone, or stalls. Cheap: of most processes only the title is
/// read.
#[must_use]
pub(crate) fn inspect(pid: u32) -> Option<Process> {
    let command = command(pid)?;
    let title = title(&command);
    let kind = match title {
        Some(Title::Master) => Kind::Master,
        Some(Title::Worker) => Kind::Worker,
        Some(Title::Helper) => Kind::Other,
        // The kernel's own threads have no command line.
        None if command.is_empty() || !named_nginx(pid) => Kind::Other,
        None if has_event_loop(pid) => Kind::Single,
        None => Kind::Starting,
    };
    if kind == Kind::Other {
        return Some(Process { kind, parent: 0 });
    }
    let parent = process::status(pid).ok()?.parent;
    let kind = match kind {
        Kind::Master if forked_lately(pid, parent) => Kind::Worker,
        kind => kind,
    };
    Some(Process { kind, parent })
}

fn describe(pid: u32, shown: u32, workers: Vec<u32>, binaries: &mut Binaries) -> Option<Master> {
    let exe_access = exe_of(shown);
    let binary = binaries.of(shown).ok()?;
    // A title is anyone's to choose.
    binary.is_nginx().then_some(())?;
    let options = options(&command(shown).unwrap_or_default());
    Some(Master {
        pid,
        workers,
        exe: fs::read_link(&exe_access).ok()?,
        exe_access,
        version: binary.version.clone(),
        prefix: options.prefix.or_else(|| binary.prefix.clone()),
        conf: options.conf.or_else(|| binary.conf.clone()),
        binary,
    })
}

fn exe_of(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/exe"))
}

fn command(pid: u32) -> Option<Vec<u8>> {
    foreign::proc_file(pid, "cmdline", TITLE_LIMIT).ok()
}

#[derive(Debug, PartialEq, Eq)]
enum Title {
    Master,
    Worker,
    Helper,
}

fn title(command: &[u8]) -> Option<Title> {
    let at = command.windows(2).take(32).position(|pair| pair == b": ")?;
    let (name, role) = (&command[..at], &command[at + 2..]);
    is_nginx_name(name).then_some(())?;
    if role.starts_with(b"master process") {
        Some(Title::Master)
    } else if role.starts_with(b"worker process") {
        Some(Title::Worker)
    } else {
        Some(Title::Helper)
    }
}

fn is_nginx_name(name: &[u8]) -> bool {
    [
        &b"nginx"[..],
        b"angie",
        b"freenginx",
        b"tengine",
        b"openresty",
    ]
    .contains(&name)
}

/// A child carries its master's title until it sets its own. A new master after a binary upgrade is
/// a master's child too, but has executed: its arguments lie elsewhere.
fn forked_lately(pid: u32, parent: u32) -> bool {
    let parent_is_master = command(parent).is_some_and(|own| title(&own) == Some(Title::Master));
    parent_is_master && arguments_at(pid).is_some_and(|own| Some(own) == arguments_at(parent))
}

/// `arg_start` and `start_stack`: fields 48 and 28 of `/proc/PID/stat`.
fn arguments_at(pid: u32) -> Option<(String, String)> {
    let stat = process::read_start(format!("/proc/{pid}/stat"), 4096).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    Some((fields.get(45)?.to_string(), fields.get(25)?.to_string()))
}

/// Does it execute a file that is named as nginx or a fork is? Nobody can stall who asks that.
#[must_use]
pub(crate) fn named_nginx(pid: u32) -> bool {
    let Ok(exe) = fs::read_link(exe_of(pid)) else {
        return false;
    };
    let name = exe.file_name().unwrap_or_default().as_bytes();
    is_nginx_name(name.strip_suffix(b" (deleted)").unwrap_or(name))
}

/// Whether a process waits by epoll.
fn has_event_loop(pid: u32) -> bool {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .take(DESCRIPTORS)
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|link| link == Path::new("anon_inode:[eventpoll]"))
}

/// What nginx was started with.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    conf: Option<PathBuf>,
    prefix: Option<PathBuf>,
    /// The value of `-g`, and what comes after it: a title shows its blanks as it shows those
    /// between arguments.
    directives: Vec<u8>,
}

/// From a master's title, where nginx keeps its arguments, or a command line: `ngx_get_options`
/// (src/core/nginx.c). The last of several counts.
fn options(command: &[u8]) -> Options {
    let mut options = Options::default();
    let mut words = words(command);
    while let Some(word) = words.next() {
        let Some(letters) = word.strip_prefix(b"-") else {
            continue;
        };
        let Some(at) = letters.iter().position(|letter| b"cpgse".contains(letter)) else {
            continue;
        };
        let rest = words.clone();
        // `-c FILE` or `-cFILE`, also after other letters.
        let value = match &letters[at + 1..] {
            [] => words.next(),
            joined => Some(joined),
        };
        let path = || value.map(|value| PathBuf::from(OsString::from_vec(value.to_vec())));
        match letters[at] {
            b'c' => options.conf = path(),
            b'p' => options.prefix = path(),
            b'g' => {
                let joined = Some(&letters[at + 1..]).filter(|joined| !joined.is_empty());
                let words: Vec<&[u8]> = joined.into_iter().chain(rest).collect();
                options.directives = words.join(&b' ');
            }
            _ => {}
        }
    }
    options
}

fn words(command: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    command
        .split(|byte| matches!(byte, 0 | b' '))
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::CommandExt as _,
        process::{Child, Command, Stdio},
        time::Duration,
    };

    use super::*;

    #[test]
    fn titles_of_all_makes_are_distinguished() {
        for (text, expected) in [
            (
                &b"nginx: master process /usr/sbin/nginx -g daemon off;"[..],
                Some(Title::Master),
            ),
            (b"nginx: worker process", Some(Title::Worker)),
            (
                b"nginx: worker process is shutting down",
                Some(Title::Worker),
            ),
            (b"nginx: cache manager process", Some(Title::Helper)),
            (
                b"angie: master process v1.5.1 #1 [angie]",
                Some(Title::Master),
            ),
            (b"angie: worker process #1", Some(Title::Worker)),
            (b"nginx\0-g\0daemon off;", None),
            (b"vim nginx: master process", None),
            (b"", None),
        ] {
            assert_eq!(title(text), expected, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn options_are_read_as_nginx_reads_them() {
        let paths = |command: &[u8]| {
            let Options { conf, prefix, .. } = options(command);
            (conf, prefix)
        };
        let path = |text: &str| Some(PathBuf::from(text));
        for (command, conf, prefix) in [
            (
                &b"nginx: master process nginx -c /srv/n.conf -p /srv\0\0"[..],
                path("/srv/n.conf"),
                path("/srv"),
            ),
            (b"nginx\0-g\0x\0-c\0/a.conf\0", path("/a.conf"), None),
            (b"nginx -c /first -c /last", path("/last"), None),
            (b"nginx -c/joined -qp/srv", path("/joined"), path("/srv")),
            (b"nginx -tc /a -s reload", path("/a"), None),
            (b"nginx -c", None, None),
            (b"nginx", None, None),
        ] {
            let text = String::from_utf8_lossy(command);
            assert_eq!(paths(command), (conf, prefix), "{text}");
        }
        let directives = |command: &[u8]| options(command).directives;
        let titled = b"nginx: master process nginx -c /a -g daemon off; error_log stderr crit;\0";
        assert_eq!(directives(titled), b"daemon off; error_log stderr crit;");
        assert_eq!(
            directives(b"nginx\0-g\0daemon off;\0-c\0/a\0"),
            b"daemon off; -c /a"
        );
        assert_eq!(directives(b"nginx -gdaemon off;"), b"daemon off;");
        assert!(directives(b"nginx -c /a").is_empty());
    }

    struct Ended(Child);

    impl Drop for Ended {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// A process with a master's title whose child has a worker's. Both end with the child's input.
    fn fake() -> Option<Ended> {
        let child = Command::new("/bin/bash")
            .arg0("nginx: master process /x/nginx -c /x/n.conf")
            .args([
                "-c",
                "bash -c 'exec -a \"nginx: worker process\" cat' <&0; true",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        Some(Ended(child))
    }

    #[test]
    fn titles_are_seen_and_make_no_nginx_of_another_program() {
        let Some(fake) = fake() else {
            println!("SKIPPED: titles_are_seen_and_make_no_nginx_of_another_program: no bash");
            return;
        };
        let master = fake.0.id();
        let worker = (0..1000).find_map(|_| {
            std::thread::sleep(Duration::from_millis(2));
            let children = process::children(master);
            children.into_iter().find_map(|child| {
                let worker = inspect(child)?;
                (worker.kind == Kind::Worker && worker.parent == master).then_some(child)
            })
        });
        assert!(worker.is_some());
        assert_eq!(inspect(master).unwrap().kind, Kind::Master);
        let found = scan(|pid, _| pid == master, &mut Binaries::default());
        assert_eq!(found, []);
    }

    #[test]
    fn this_process_is_no_nginx_and_a_vanished_one_is_nothing() {
        assert_eq!(inspect(std::process::id()).unwrap().kind, Kind::Other);
        assert_eq!(inspect(u32::MAX), None);
    }
}
