//! Processes of an unprivileged user that call themselves nginx's master.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::folder::Folder;
use crate::{process, programs, service};

/// Who they are: nobody.
const USER: u32 = 65_534;
/// What they call themselves.
const TITLE: &str = "nginx: master process x";

/// Such a process; it ends with this value, its children with it.
#[derive(Debug)]
pub struct Pretended {
    child: Child,
    _folder: Option<Folder>,
}

impl Pretended {
    /// It does nothing.
    pub fn idle() -> Result<Self> {
        let sleep = programs::command("sleep")?;
        let child = command(Path::new(sleep.get_program()))
            .arg("3600")
            .spawn()?;
        Ok(Self {
            child,
            _folder: None,
        })
    }

    /// It has so many children.
    pub fn parent(children: usize) -> Result<Self> {
        let folder = Folder::new()?;
        std::os::unix::fs::chown(folder.path(), Some(USER), Some(USER))?;
        // Where it was built, others may not be let in.
        let program = folder.join("x");
        std::fs::copy(service::program()?, &program)?;
        let socket = format!("unix:{}", folder.join("socket").display());
        let mut child = command(&program)
            .args([&socket, "unread", "--prefork", &children.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("no stdout")?;
        let parent = Self {
            child,
            _folder: Some(folder),
        };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line.trim() == "ready", "it said {line:?}");
        Ok(parent)
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops it, as ^Z does.
    pub fn stall(&self) {
        process::signal(self.pid(), libc::SIGSTOP);
    }
}

impl Drop for Pretended {
    fn drop(&mut self) {
        process::end(&mut self.child, libc::SIGKILL);
    }
}

fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg0(TITLE).uid(USER).gid(USER).stdin(Stdio::null());
    command
}
