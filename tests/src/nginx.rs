//! A real nginx of a test's own: its configuration, its processes, its error log.
//!
//! Listens on `127.0.0.1:80` and `[::1]:80` of the test's network namespace, its workers run as
//! `nobody`, and its error log has the level that nginx has when nobody sets one.

mod command;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::error_log::LogLine;
use crate::folder::Folder;
use crate::netns::Netns;
use crate::wait::{PATIENCE, until};
use crate::{client, process};
use command::{arranged, libraries};

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
    /// Where errors are logged, as `error_log` takes it; `None` for a file of ours at level `error`.
    pub error_log: Option<String>,
    /// The file system root to run another nginx in, instead of the usual one.
    pub tree: Option<PathBuf>,
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
        }
    }
}

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    child: Child,
    /// The master's pid, as the host counts.
    pub master: u32,
    workers: u32,
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
        let mut command = arranged(netns, &folder, config)?;
        prepare(&mut command)?;
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let master = child.id();
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
        Self::ready(child, master, folder, netns, config)
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
        let master = until("the contained nginx", PATIENCE, || {
            Ok(process::children(child.id()).into_iter().find(|pid| {
                std::fs::read_to_string(format!("/proc/{pid}/comm"))
                    .is_ok_and(|comm| comm.trim() == "nginx")
            }))
        })?;
        Self::ready(child, master, folder, netns, config)
    }

    fn ready(
        child: Child,
        master: u32,
        folder: Folder,
        netns: &Netns,
        config: &Config,
    ) -> Result<Self> {
        let mut nginx = Self {
            child,
            master,
            workers: config.workers,
            seen: Mutex::default(),
            folder,
            netns: netns.clone(),
        };
        until("nginx's first answer", PATIENCE, || {
            if let Some(status) = nginx.child.try_wait()? {
                bail!(
                    "nginx ended with {status}: {}",
                    std::fs::read_to_string(nginx.folder.join("error.log")).unwrap_or_default()
                );
            }
            if nginx.worker_pids().len() < config.workers as usize {
                return Ok(None);
            }
            let answer = nginx.netns.enter(|| client::get("/ready"));
            Ok(matches!(answer, Ok(200)).then_some(()))
        })?;
        Ok(nginx)
    }

    /// The pids of the workers of now, also those that are shutting down.
    pub fn worker_pids(&self) -> Vec<u32> {
        let workers = process::children(self.master);
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
            Ok((fresh >= self.workers as usize).then_some(()))
        })
    }

    /// Waits until no worker of before the last reload is left.
    pub fn settled(&self) -> Result<()> {
        until("the end of the old workers", PATIENCE, || {
            Ok((self.worker_pids().len() == self.workers as usize).then_some(()))
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
        let workers = self.worker_pids();
        process::signal(self.master, libc::SIGTERM);
        if process::ended(&mut self.child, Duration::from_secs(3)).is_err() {
            // Without a master nobody else ends the workers.
            for pid in workers.into_iter().chain([self.master]) {
                process::signal(pid, libc::SIGKILL);
            }
            process::end(&mut self.child, libc::SIGKILL);
        }
    }
}
