//! `cargo xtask build`: the release binary.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::workspace::Workspace;
use crate::{command, setup};

/// Set up the compiler side, then build the release binary
#[derive(clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(workspace: &Workspace, _arguments: &Arguments) -> Result<ExitCode> {
    setup::compiler(workspace)?;
    println!("{}", release(workspace)?.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds tracer as the calling user; gives the binary's path.
pub(crate) fn release(workspace: &Workspace) -> Result<PathBuf> {
    eprintln!("building tracer (about a minute the first time)");
    binary(
        workspace,
        &["--release", "--package", "tracer", "--bin", "tracer"],
    )
}

/// Builds one binary, named by cargo's own arguments; gives its path.
///
/// Quietly: aya-build passes the inner cargo's progress on as warnings, which cargo repeats, some
/// forty lines, on every build that finds them fresh. Errors are still shown.
pub(crate) fn binary(workspace: &Workspace, arguments: &[&str]) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet"]).args(arguments);
    let built = executables(workspace, &mut cargo)?;
    let binary = built.into_iter().find(|executable| !executable.is_test);
    binary
        .map(|executable| executable.path)
        .with_context(|| format!("`{}` built no binary", command::line(&cargo)))
}

/// An executable that cargo made.
pub(crate) struct Executable {
    pub(crate) path: PathBuf,
    /// A test harness; a plain binary otherwise.
    pub(crate) is_test: bool,
}

/// Runs a cargo build and gives the executables that it made, in cargo's order. They are asked for,
/// not guessed: `CARGO_TARGET_DIR` and configuration files may move them.
pub(crate) fn executables(workspace: &Workspace, cargo: &mut Command) -> Result<Vec<Executable>> {
    cargo
        .arg("--message-format=json-render-diagnostics")
        .current_dir(workspace.root())
        .stderr(Stdio::inherit());
    let output = cargo
        .output()
        .with_context(|| format!("running `{}`", command::line(cargo)))?;
    ensure!(output.status.success(), "`{}` failed", command::line(cargo));
    let mut found = Vec::new();
    for line in output.stdout.split(|byte| *byte == b'\n') {
        if let Ok(message) = serde_json::from_slice::<serde_json::Value>(line)
            && let Some(path) = message["executable"].as_str()
        {
            found.push(Executable {
                path: PathBuf::from(path),
                is_test: message["profile"]["test"] == true,
            });
        }
    }
    Ok(found)
}
