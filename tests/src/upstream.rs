//! Real backends: the programs that operators run behind nginx, out of `target/backends`.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::folder::Folder;
use crate::netns::Netns;
use crate::wait::{PATIENCE, until};
use crate::{process, programs};

/// A running program with a folder of its own, leader of a process group of its own; it ends with
/// this value, and its whole group with it.
#[derive(Debug)]
pub struct Upstream {
    child: Child,
    folder: Folder,
}

/// Where a backend listens.
#[derive(Clone, Debug)]
pub enum Listen {
    /// An address with its port.
    Tcp(String),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl Upstream {
    /// Starts a program of the backends' root in `netns`, its words with `{}` for its folder, after
    /// these files (name, text) were written there; its output goes to `output` there. Waits until
    /// it takes connections at `listen`.
    pub fn start(
        netns: &Netns,
        words: &[&str],
        files: &[(&str, &str)],
        listen: &Listen,
    ) -> Result<Self> {
        let folder = Folder::new()?;
        for (name, text) in files {
            let file = folder.join(name);
            std::fs::create_dir_all(file.parent().context("a folder")?)?;
            std::fs::write(file, netns.listens(text))?;
        }
        let at = folder.path().display().to_string();
        let words = words.iter().map(|word| word.replace("{}", &at));
        let mut words = words.map(|word| netns.listens(&word));
        let program = words.next().context("no program")?;
        let mut command = programs::rooted(&programs::backends()?, "/usr/bin/env")?;
        let output = std::fs::File::create(folder.join("output"))?;
        command
            .args(["-C", &at, "PYTHONDONTWRITEBYTECODE=1"])
            .args([format!("PWD={at}"), program])
            .args(words)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        netns.backends().place(&mut command);
        let child = command.spawn().context("cannot start a backend")?;
        let mut upstream = Self { child, folder };
        upstream.listens(netns, listen)?;
        Ok(upstream)
    }

    /// Waits until it takes connections.
    fn listens(&mut self, netns: &Netns, listen: &Listen) -> Result<()> {
        let connects = || match listen {
            Listen::Tcp(address) => TcpStream::connect(netns.listens(address)).is_ok(),
            Listen::Unix(path) => UnixStream::connect(path).is_ok(),
        };
        netns.enter(|| {
            until("a backend that listens", PATIENCE, || {
                if let Some(status) = self.child.try_wait()? {
                    bail!("the backend ended with {status}: {}", self.output());
                }
                Ok(connects().then_some(()))
            })
        })
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The children of its first process, oldest first.
    pub fn children(&self) -> Vec<u32> {
        process::children(self.pid())
    }

    /// What it has said so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.folder.join("output")).unwrap_or_default()
    }

    /// Waits until its output holds `text`.
    pub fn says(&self, text: &str) -> Result<()> {
        until(&format!("{text:?} from the backend"), PATIENCE, || {
            Ok(self.output().contains(text).then_some(()))
        })
        .with_context(|| self.output())
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Sends its first process a signal.
    pub fn signal(&self, signal: i32) {
        process::signal(self.pid(), signal);
    }

    /// Waits for the end of its first process.
    pub fn ended(&mut self) -> Result<()> {
        process::ended(&mut self.child, PATIENCE).map(drop)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            process::end(&mut self.child, libc::SIGTERM);
        }
        // What it left behind; the group's number is its own as long as one of it lives.
        if let Some(group) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
