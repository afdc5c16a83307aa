//! cargo-fuzz, built once into `target/tools`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command;
use crate::workspace::Workspace;

const VERSION: &str = "0.13.2";

pub(crate) fn ensure(workspace: &Workspace) -> Result<()> {
    let tools = workspace.tools();
    let binary = tools.join("bin/cargo-fuzz");
    let said = command::output(Command::new(&binary).arg("--version"));
    if said.is_ok_and(|said| said.trim().ends_with(VERSION)) {
        return Ok(());
    }
    eprintln!("setup: building cargo-fuzz {VERSION} into target/tools (about a minute)");
    let mut cargo = Command::new("cargo");
    cargo
        .args(["install", "cargo-fuzz", "--version", VERSION])
        .args(["--locked", "--quiet", "--force", "--root"])
        .arg(&tools)
        .current_dir(workspace.root());
    command::run(&mut cargo).context("building cargo-fuzz")
}

/// PATH with our own tools before all others.
pub(crate) fn path(workspace: &Workspace) -> Result<std::ffi::OsString> {
    let own: PathBuf = workspace.tools().join("bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(own).chain(std::env::split_paths(&path));
    std::env::join_paths(paths).context("PATH")
}
