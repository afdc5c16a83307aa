//! `cargo xtask install`: builds as the user, copies the one binary with `sudo` where that is
//! needed.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;
use crate::{build, command, privilege, setup};

/// Build tracer and copy it to PREFIX/bin
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask install                     /usr/local/bin/tracer, with sudo if that is needed
  cargo xtask install --prefix ~/.local   no root for the copy (tracer itself still needs it)")]
pub(crate) struct Arguments {
    /// Where to: the binary becomes PREFIX/bin/tracer
    #[arg(long, value_name = "PREFIX", default_value = "/usr/local")]
    prefix: PathBuf,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    setup::compiler(workspace)?;
    let binary = build::release(workspace)?;
    let installed = arguments.prefix.join("bin/tracer");

    let mut copy = if writable(&arguments.prefix)? {
        Command::new("install")
    } else {
        let purpose = format!("write {}", installed.display());
        privilege::as_root("install", &purpose)?
    };
    copy.args(["-D", "--mode=0755", "--"])
        .arg(&binary)
        .arg(&installed);
    command::run(&mut copy).with_context(|| format!("installing {}", installed.display()))?;
    println!("installed {}; next: sudo tracer live", installed.display());
    Ok(ExitCode::SUCCESS)
}

/// The same as a check of `cargo xtask test`, into target/: what was installed runs.
pub(crate) fn check(workspace: &Workspace) -> Result<bool> {
    let prefix = workspace.target().join("installed");
    let installed = prefix.join("bin/tracer");
    run(workspace, &Arguments { prefix })?;
    command::succeeds(Command::new(installed).arg("--version"))
}

/// Whether the user may write PREFIX/bin, or make it in the nearest folder that exists.
fn writable(prefix: &Path) -> Result<bool> {
    let bin = prefix.join("bin");
    let nearest = bin
        .ancestors()
        .find(|folder| folder.is_dir())
        .unwrap_or(Path::new("."));
    // `test -w` asks the kernel; mode bits alone miss ACLs and read-only mounts.
    command::succeeds(
        Command::new("test")
            .arg("-w")
            .arg(nearest)
            .stdin(Stdio::null()),
    )
}
