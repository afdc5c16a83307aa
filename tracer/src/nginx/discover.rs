//! Finds every nginx of the host by the titles that its processes give themselves (`ngx_setproctitle`), in all
//! namespaces that `/proc` shows.
//!
//! A title proves nothing (anyone may choose one); what is attached to later is what the binary exports. A process
//! that vanishes while it is looked at is left out.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tracer_ebpf::abi::Layout;

use super::{
    binary::{Binaries, ExeId},
    layout::layout,
    outspoken::{self, Started},
};
use crate::{event::Time, process};

const TITLE_LIMIT: u64 = 4096;
/// The event loop's descriptor is among the first that nginx opens.
const DESCRIPTORS: usize = 256;

/// What a process is to nginx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A master.
    Master,
    /// A worker, also one that is shutting down, or was forked so lately that it has no title yet.
    Worker,
    /// Master and worker in one (`master_process off`), serving already.
    Single,
    /// Anything else: cache manager and loader, `nginx -t`, an nginx that is still starting, other programs.
    Other,
}

/// One process, looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// What it is.
    pub kind: Kind,
    /// Its parent's pid on the host; 0 where it is no nginx.
    pub parent: u32,
}

/// One nginx: a master with its workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Master {
    /// Its pid on the host; 0 for workers whose master is gone (they go on serving).
    pub pid: u32,
    /// Its workers' pids on the host, ascending. For `master_process off` the process itself.
    pub workers: Vec<u32>,
    /// The binary's path as the process sees it, perhaps with ` (deleted)` after an upgrade. For people.
    pub exe: PathBuf,
    /// A path that opens the very binary from our mount namespace while the process lives: `/proc/PID/exe`.
    pub exe_access: PathBuf,
    /// The binary's device and inode number.
    pub exe_id: ExeId,
    /// `nginx/1.22.1`, where the binary tells.
    pub version: Option<String>,
    /// The prefix: `-p`, else the one compiled in. In the process's own root.
    pub prefix: Option<PathBuf>,
    /// The configuration file: `-c`, else the one compiled in. In the process's own root; relative to the prefix.
    pub conf: Option<PathBuf>,
}

impl Master {
    /// Its layout, or one of its workers' where it is gone. Attempts can be seen by their sockets only where the workers wait by
    /// epoll (`use` in `events {}`); of a worker that is no more that is not known.
    #[must_use]
    pub fn layout(&self) -> Layout {
        let pid = match self.pid {
            0 => self.workers.first().copied().unwrap_or(0),
            pid => pid,
        };
        let layout = layout(pid, self.version.as_deref());
        // It has its title once it waits.
        let waits_otherwise = |&worker: &u32| {
            let title = command(worker).and_then(|command| title(&command));
            title == Some(Title::Worker) && !has_event_loop(worker)
        };
        // Those whose masters are gone may be several masters', each at addresses of its own.
        let is_mixed = self.pid == 0 && self.workers.len() > 1;
        if is_mixed || self.workers.iter().any(waits_otherwise) {
            return Layout {
                connect: 0,
                ..layout
            };
        }
        layout
    }

    /// Does its log tell of each upstream that failed at once, and the kernel of each connection's end? As far as the
    /// configuration shows that its workers have, those that began at `since` and later; `None`: all, of which it is not known
    /// what was read after the master began.
    #[must_use]
    pub fn is_outspoken(&self, since: Option<Time>, now: Time) -> bool {
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
            directives: after(&command, b"-g"),
            age: Duration::from_nanos(now.since(oldest)),
        })
    }
}

/// Every nginx of the host, by master's pid. Costs a short file's read for each process of the host.
#[must_use]
pub fn scan(binaries: &mut Binaries) -> Vec<Master> {
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
        } else if let Ok((id, _)) = binaries.at(&exe_of(pid)) {
            orphans.entry(id).or_default().push(pid);
        }
    }
    let led = masters
        .into_iter()
        .map(|(pid, workers)| (pid, pid, workers));
    let alone = orphans
        .into_values()
        .map(|workers| (0, workers[0], workers));
    led.chain(alone)
        .filter_map(|(pid, shown, workers)| describe(pid, shown, workers, binaries))
        .collect()
}

/// What one process is; `None` if it is gone. Cheap: of most processes only the title is read.
#[must_use]
pub fn inspect(pid: u32) -> Option<Process> {
    let command = command(pid)?;
    let title = title(&command);
    let is_nginx = match title {
        Some(Title::Master | Title::Worker) => true,
        Some(Title::Helper) => false,
        // The kernel's own threads have no command line.
        None => !command.is_empty() && named_nginx(pid) && has_event_loop(pid),
    };
    if !is_nginx {
        return Some(Process {
            kind: Kind::Other,
            parent: 0,
        });
    }
    let parent = process::status(pid).ok()?.parent;
    let kind = match title {
        Some(Title::Master) if forked_lately(pid, parent) => Kind::Worker,
        Some(Title::Master) => Kind::Master,
        Some(_) => Kind::Worker,
        None => Kind::Single,
    };
    Some(Process { kind, parent })
}

fn describe(pid: u32, shown: u32, workers: Vec<u32>, binaries: &mut Binaries) -> Option<Master> {
    let exe_access = exe_of(shown);
    let (exe_id, binary) = binaries.at(&exe_access).ok()?;
    let command = command(shown).unwrap_or_default();
    Some(Master {
        pid,
        workers,
        exe: fs::read_link(&exe_access).ok()?,
        exe_access,
        exe_id,
        version: binary.version,
        prefix: argument(&command, b"-p").or(binary.prefix),
        conf: argument(&command, b"-c").or(binary.conf),
    })
}

fn exe_of(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/exe"))
}

fn command(pid: u32) -> Option<Vec<u8>> {
    process::read_start(format!("/proc/{pid}/cmdline"), TITLE_LIMIT).ok()
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

/// A child carries its master's title until it sets its own. A new master after a binary upgrade is a master's child
/// too, but has executed: its arguments lie elsewhere.
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

fn named_nginx(pid: u32) -> bool {
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

/// The value of an option in a master's title, where nginx keeps its arguments, or in a command line.
fn argument(command: &[u8], option: &[u8]) -> Option<PathBuf> {
    let mut words = words(command);
    words.find(|word| *word == option)?;
    words
        .next()
        .map(|word| PathBuf::from(OsString::from_vec(word.to_vec())))
}

/// All that comes after an option. Its value may have blanks, which a title shows as it shows those between arguments.
fn after(command: &[u8], option: &[u8]) -> Vec<u8> {
    let words = words(command).skip_while(|word| *word != option).skip(1);
    words.collect::<Vec<_>>().join(&b' ')
}

fn words(command: &[u8]) -> impl Iterator<Item = &[u8]> {
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
    fn titles_of_all_makes_are_told_apart() {
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
    fn options_are_read_from_a_title_and_from_a_command_line() {
        let titled = b"nginx: master process nginx -c /srv/n.conf -p /srv\0\0";
        assert_eq!(argument(titled, b"-c"), Some("/srv/n.conf".into()));
        assert_eq!(argument(titled, b"-p"), Some("/srv".into()));
        assert_eq!(
            argument(b"nginx\0-c\0/a.conf\0", b"-c"),
            Some("/a.conf".into())
        );
        assert_eq!(argument(b"nginx -c", b"-c"), None);
        let global = b"nginx: master process nginx -c /a -g daemon off; error_log stderr crit;\0";
        assert_eq!(after(global, b"-g"), b"daemon off; error_log stderr crit;");
        assert_eq!(
            after(b"nginx\0-g\0daemon off;\0-c\0/a\0", b"-g"),
            b"daemon off; -c /a"
        );
        assert!(after(titled, b"-g").is_empty());
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
    fn a_master_is_found_with_its_worker() {
        let Some(fake) = fake() else {
            println!("SKIPPED: a_master_is_found_with_its_worker: no bash");
            return;
        };
        let mut binaries = Binaries::default();
        let found = (0..100).find_map(|_| {
            std::thread::sleep(Duration::from_millis(20));
            scan(&mut binaries)
                .into_iter()
                .find(|master| master.pid == fake.0.id() && !master.workers.is_empty())
        });
        let master = found.expect("the fake master");
        assert_eq!(master.conf, Some("/x/n.conf".into()));
        let worker = inspect(master.workers[0]).unwrap();
        assert_eq!((worker.kind, worker.parent), (Kind::Worker, master.pid));
        assert!(fs::File::open(&master.exe_access).is_ok());
    }

    #[test]
    fn this_process_is_no_nginx_and_a_vanished_one_is_nothing() {
        assert_eq!(inspect(std::process::id()).unwrap().kind, Kind::Other);
        assert_eq!(inspect(u32::MAX), None);
    }
}
