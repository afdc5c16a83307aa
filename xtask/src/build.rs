//! `cargo xtask build`: the release binary.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::progress::Progress;
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

/// Builds tracer as the calling user; returns the binary's path.
pub(crate) fn release(workspace: &Workspace) -> Result<PathBuf> {
    let arguments = ["--release", "--package", "tracer", "--bin", "tracer"];
    binary(
        workspace,
        "tracer (some minutes the first time)",
        &arguments,
    )
}

/// Builds one binary, named by cargo's own arguments; returns its path. `what` is for the user.
///
/// Quietly: aya-build passes the inner cargo's progress on as warnings, which cargo repeats, some
/// forty lines, on every build that finds them fresh. Errors are still shown.
pub(crate) fn binary(workspace: &Workspace, what: &str, arguments: &[&str]) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet"]).args(arguments);
    let built = executables(workspace, what, &mut cargo)?;
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

/// Runs a cargo build; returns the executables it made, in cargo's order. Cargo names them itself,
/// as `CARGO_TARGET_DIR` and configuration files may move them.
pub(crate) fn executables(
    workspace: &Workspace,
    what: &str,
    cargo: &mut Command,
) -> Result<Vec<Executable>> {
    let progress = Progress::of(&format!("building {what}"), "crates");
    cargo
        .arg("--message-format=json-render-diagnostics")
        .current_dir(workspace.root())
        .stdout(Stdio::piped());
    let mut child = cargo
        .spawn()
        .with_context(|| format!("running `{}`", command::line(cargo)))?;
    let stdout = child.stdout.take().context("cargo's stdout")?;
    let mut found = Vec::new();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("reading what cargo built")?;
        let Ok(message) = serde_json::from_slice::<serde_json::Value>(&line) else {
            continue;
        };
        if message["fresh"] == false {
            progress.count();
        }
        if let Some(path) = message["executable"].as_str() {
            found.push(Executable {
                path: PathBuf::from(path),
                is_test: message["profile"]["test"] == true,
            });
        }
    }
    let status = child.wait().context("waiting for cargo")?;
    ensure!(status.success(), "`{}` failed", command::line(cargo));
    Ok(found)
}
