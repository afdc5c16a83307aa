//! A real nginx of a test's own: its configuration, its processes, its error log.
//!
//! Listens on `127.0.0.1:80` and `[::1]:80` of the test's network namespace, its workers run as
//! `nobody`, and its error log has the level that nginx has when nobody sets one.
//!
//! It runs in the foreground or as a service does ([`Form`]). A daemonized nginx is nobody's child:
//! its master is known by its pid file and ended by its pid.

mod command;
mod life;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::error_log::LogLine;
use crate::folder::Folder;
use crate::netns::Netns;
use crate::wait::{PATIENCE, until};
use crate::{client, process, programs};
use command::{arranged, libraries};

/// How nginx is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `daemon off`: the process that was started is the master.
    #[default]
    Foreground,
    /// `daemon on` in the configuration: the process that was started forks the master and exits.
    Daemon,
    /// As Debian's unit starts it: first `nginx -t`, then `-g 'daemon on; master_process on;'`.
    Unit,
    /// `daemon off`, in a pid namespace of its own.
    Boxed,
}

impl Form {
    /// Whether the process that was started exits as soon as nginx runs.
    fn is_daemon(self) -> bool {
        matches!(self, Self::Daemon | Self::Unit)
    }
}

/// What differs from test to test; everything in nginx's own words.
#[derive(Clone, Debug)]
pub struct Config {
    /// `worker_processes`.
    pub workers: u32,
    /// Directives outside every block.
    pub main: String,
    /// Directives of `events`.
    pub events: String,
    /// Directives of `http`.
    pub http: String,
    /// Directives and locations of the one `server`.
    pub server: String,
    /// Where errors are logged, as `error_log` takes it; `None` for a file of ours at level
    /// `error`.
    pub error_log: Option<String>,
    /// The file system root to run another nginx in, instead of the usual one.
    pub tree: Option<PathBuf>,
    /// The binary to run, instead of the usual one.
    pub program: Option<PathBuf>,
    /// How it is started.
    pub form: Form,
    /// `master_process off`: one process serves by itself. Not with [`Form::Unit`].
    pub single: bool,
    /// The user (and group) that starts it, where that is not root.
    pub owner: Option<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: 2,
            main: String::new(),
            events: String::new(),
            http: String::new(),
            server: String::new(),
            error_log: None,
            tree: None,
            program: None,
            form: Form::Foreground,
            single: false,
            owner: None,
        }
    }
}

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    /// The process that was started; `None` once it has ended, as a daemon's does at once.
    child: Option<Child>,
    /// The master's pid, as the host counts.
    pub master: u32,
    config: Config,
    is_running: bool,
    /// The pids of all workers that were ever seen.
    seen: Mutex<BTreeSet<u32>>,
    folder: Folder,
    netns: Netns,
}

impl Nginx {
    /// Starts nginx in `netns` and waits until it answers. `prepare` gets the command last: it may
    /// add what the processes shall live under.
    pub fn start(
        netns: &Netns,
        config: &Config,
        prepare: impl FnOnce(&mut Command) -> Result<()>,
    ) -> Result<Self> {
        let folder = Folder::new()?;
        let (child, master) = launched(netns, &folder, config, prepare)?;
        Self::ready(child, master, folder, netns, config)
    }

    /// Makes a process that waits, has `before` look at its pid, and lets it become nginx.
    pub fn start_after(
        netns: &Netns,
        config: &Config,
        before: impl FnOnce(u32) -> Result<()>,
    ) -> Result<Self> {
        let folder = Folder::new()?;
        let inner = arranged(netns, &folder, config)?;
        let mut command = Command::new("sh");
        netns.place(&mut command);
        command
            .args(["-c", "read go && exec \"$@\" </dev/null", "sh"])
            .arg(inner.get_program())
            .args(inner.get_args())
            .stdin(Stdio::piped());
        libraries(&inner, &mut command);
        let mut child = command.spawn()?;
        let master = child.id();
        let seen = before(master).and_then(|()| {
            let stdin = child.stdin.take().context("no stdin")?;
            writeln!(&stdin, "go").context("cannot let nginx start")
        });
        if let Err(error) = seen {
            process::end(&mut child, libc::SIGTERM);
            return Err(error);
        }
        Self::ready(Some(child), master, folder, netns, config)
    }

    /// Starts nginx with pid and mount namespaces of its own, as a container runtime would: its
    /// binary is on a file system that the host does not see, mounted on the folder `image`.
    /// `prepare` as in [`Nginx::start`].
    pub fn start_contained(
        netns: &Netns,
        config: &Config,
        image: &Path,
        prepare: impl FnOnce(&mut Command) -> Result<()>,
    ) -> Result<Self> {
        let folder = Folder::new()?;
        let inner = arranged(netns, &folder, config)?;
        let mut command = netns.command("unshare")?;
        command
            .args(["--fork", "--kill-child", "--pid", "--mount", "--mount-proc"])
            .args(["sh", "-c"])
            .arg(
                "image=$1; nginx=$2; shift 2; mount -t tmpfs -o mode=755 image $image \
                 && cp $nginx $image/nginx && exec $image/nginx \"$@\"",
            )
            .arg("sh")
            .arg(image)
            .arg(inner.get_program())
            .args(inner.get_args())
            .stdin(Stdio::null());
        libraries(&inner, &mut command);
        prepare(&mut command)?;
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let master = boxed_master(&child, |pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|comm| comm.trim() == "nginx")
        })?;
        Self::ready(Some(child), master, folder, netns, config)
    }

    fn ready(
        child: Option<Child>,
        master: u32,
        folder: Folder,
        netns: &Netns,
        config: &Config,
    ) -> Result<Self> {
        let mut nginx = Self {
            child,
            master,
            config: config.clone(),
            is_running: true,
            seen: Mutex::default(),
            folder,
            netns: netns.clone(),
        };
        nginx.answers()?;
        Ok(nginx)
    }

    /// Waits for its first answer.
    fn answers(&mut self) -> Result<()> {
        until("nginx's first answer", PATIENCE, || {
            let status = match &mut self.child {
                Some(child) => child.try_wait()?,
                None => None,
            };
            if status.is_some() || !process::alive(self.master) {
                bail!("nginx ended with {status:?}: {}", self.logged());
            }
            if self.worker_pids().len() < self.workers() {
                return Ok(None);
            }
            let answer = self.netns.enter(|| client::get("/ready"));
            Ok(matches!(answer, Ok(200)).then_some(()))
        })
    }

    /// How many processes are to serve.
    fn workers(&self) -> usize {
        if self.config.single {
            1
        } else {
            self.config.workers as usize
        }
    }

    fn logged(&self) -> String {
        logged(&self.folder)
    }

    /// The pids of the workers of now, also those that are shutting down.
    pub fn worker_pids(&self) -> Vec<u32> {
        let workers = if self.config.single {
            vec![self.master]
        } else {
            process::children(self.master)
        };
        self.seen().extend(&workers);
        workers
    }

    /// Was it one of its workers?
    pub fn had_worker(&self, pid: u64) -> bool {
        self.worker_pids();
        u32::try_from(pid).is_ok_and(|pid| self.seen().contains(&pid))
    }

    fn seen(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reloads the configuration and waits for the new workers; the old ones may still be ending.
    pub fn reload(&self) -> Result<()> {
        let old = self.worker_pids();
        process::signal(self.master, libc::SIGHUP);
        until("new workers after a reload", PATIENCE, || {
            let new = self.worker_pids();
            let fresh = new.iter().filter(|pid| !old.contains(pid)).count();
            Ok((fresh >= self.workers()).then_some(()))
        })
    }

    /// Waits until no worker of before the last reload is left.
    pub fn settled(&self) -> Result<()> {
        until("the end of the old workers", PATIENCE, || {
            Ok((self.worker_pids().len() == self.workers()).then_some(()))
        })
    }

    /// The error log's lines so far that belong to a request.
    pub fn log(&self) -> Result<Vec<LogLine>> {
        let text = std::fs::read(self.folder.join("error.log")).unwrap_or_default();
        Ok(String::from_utf8_lossy(&text)
            .lines()
            .filter_map(LogLine::parse)
            .collect())
    }

    /// The folder of its configuration and logs.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if !self.is_running {
            return;
        }
        let workers = self.worker_pids();
        process::signal(self.master, libc::SIGTERM);
        let limit = Duration::from_secs(3);
        let ended = match &mut self.child {
            Some(child) => process::ended(child, limit).map(drop),
            None => until("the end of a daemon", limit, || {
                Ok((!process::alive(self.master)).then_some(()))
            }),
        };
        if ended.is_err() {
            // Without a master nobody else ends the workers.
            for pid in workers.into_iter().chain([self.master]) {
                process::signal(pid, libc::SIGKILL);
            }
            if let Some(child) = &mut self.child {
                process::end(child, libc::SIGKILL);
            }
        }
    }
}

/// Starts nginx as its form says. Returns the started process, if that still runs, and the pid of
/// the master.
fn launched(
    netns: &Netns,
    folder: &Folder,
    config: &Config,
    prepare: impl FnOnce(&mut Command) -> Result<()>,
) -> Result<(Option<Child>, u32)> {
    let mut command = arranged(netns, folder, config)?;
    if config.form == Form::Unit {
        let mut test = arranged(netns, folder, config)?;
        programs::output(test.args(["-t", "-q"]))?;
        command.args(["-g", "daemon on; master_process on;"]);
    }
    prepare(&mut command)?;
    let program = config.program.clone();
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    if config.form.is_daemon() {
        let status = process::ended(&mut child, PATIENCE)?;
        ensure!(
            status.success(),
            "nginx ended with {status}: {}",
            logged(folder)
        );
        let master = until("the daemon's pid file", PATIENCE, || {
            Ok(pid_file(folder).filter(|pid| process::alive(*pid)))
        })?;
        return Ok((None, master));
    }
    let master = match config.form {
        Form::Boxed => boxed_master(&child, |pid| {
            let runs = std::fs::read_link(format!("/proc/{pid}/exe")).ok();
            runs.is_some()
                && program
                    .as_ref()
                    .is_none_or(|program| runs == program.canonicalize().ok())
        })?,
        _ => child.id(),
    };
    Ok((Some(child), master))
}

/// The process in the pid namespace that `outer` made and waits for.
fn boxed_master(outer: &Child, is_it: impl Fn(u32) -> bool) -> Result<u32> {
    until("the boxed nginx", PATIENCE, || {
        let inner = process::children(outer.id());
        Ok(inner.into_iter().find(|pid| is_it(*pid)))
    })
}

/// The master's pid as nginx has written it.
fn pid_file(folder: &Folder) -> Option<u32> {
    let text = std::fs::read_to_string(folder.join("nginx.pid")).ok()?;
    text.trim().parse().ok()
}

fn logged(folder: &Folder) -> String {
    std::fs::read_to_string(folder.join("error.log")).unwrap_or_default()
}
