//! The one way to root. Called as root, commands run as they are; called as a user, they go through
//! one `sudo`, after a line that says what for.

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command;

/// Whether this process is root.
pub(crate) fn is_root() -> Result<bool> {
    let own = std::fs::metadata("/proc/self").context("the owner of /proc/self")?;
    Ok(own.uid() == 0)
}

/// A command that runs `program` as root. `purpose` completes "sudo is needed to …".
pub(crate) fn as_root(program: &str, purpose: &str) -> Result<Command> {
    if is_root()? {
        return Ok(Command::new(program));
    }
    if !command::exists("sudo")? {
        bail!("root is needed to {purpose}, and there is no sudo: run this as root");
    }
    eprintln!("sudo is needed to {purpose}");
    let mut command = Command::new("sudo");
    // In CI nobody can type a password: fail at once rather than wait for one.
    if std::env::var_os("CI").is_some() {
        command.arg("--non-interactive");
    }
    command.arg("--").arg(program);
    Ok(command)
}
