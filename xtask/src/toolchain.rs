//! The compiler side: stable Rust's own checks, the nightly of the BPF object, bpf-linker.

mod bpf_linker;
mod nightly;
mod tool;

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command;
use crate::workspace::Workspace;
pub(crate) use tool::{DENY, FUZZ};

/// What a build and the checks need; nothing happens when it is there.
pub(crate) fn ensure(workspace: &Workspace) -> Result<()> {
    if !command::exists("rustup")? {
        anyhow::bail!("rustup is needed to fetch the nightly of the BPF object: https://rustup.rs");
    }
    let nightly = nightly::ensure(workspace)?;
    bpf_linker::ensure(workspace, &nightly)
}

/// `program` of the nightly that compiles the BPF object. Through `rustup run`, as aya-build does:
/// inside a cargo run, `cargo +nightly` may find the outer toolchain's cargo.
pub(crate) fn on_nightly(workspace: &Workspace, program: &str) -> Result<Command> {
    let name = nightly::chosen(workspace)?;
    let mut command = Command::new("rustup");
    command.args(["run", &name, program]);
    Ok(command)
}

/// The target of binaries without shared libraries, of the toolchain that `rust-toolchain.toml`
/// names; gives its name.
pub(crate) fn ensure_static(workspace: &Workspace) -> Result<String> {
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    ensure_target(workspace, &target)?;
    Ok(target)
}

/// The standard library of another target.
pub(crate) fn ensure_target(workspace: &Workspace, target: &str) -> Result<()> {
    let installed = command::output(
        Command::new("rustup")
            .args(["target", "list", "--installed"])
            .current_dir(workspace.root()),
    )?;
    if installed.lines().any(|line| line == target) {
        return Ok(());
    }
    eprintln!("setup: rustup target {target}");
    command::run(
        Command::new("rustup")
            .args(["target", "add", target])
            .current_dir(workspace.root()),
    )
    .with_context(|| format!("fetching the standard library of {target}"))
}

/// rustfmt and clippy of the toolchain that `rust-toolchain.toml` names. A rustup that fetched that
/// toolchain for another project has it without them.
pub(crate) fn ensure_checkers(workspace: &Workspace) -> Result<()> {
    let installed = command::output(
        Command::new("rustup")
            .args(["component", "list", "--installed"])
            .current_dir(workspace.root()),
    )?;
    for component in ["rustfmt", "clippy"] {
        if !installed.lines().any(|line| line.starts_with(component)) {
            eprintln!("setup: rustup component {component}");
            command::run(
                Command::new("rustup")
                    .args(["component", "add", component])
                    .current_dir(workspace.root()),
            )
            .with_context(|| format!("fetching {component}"))?;
        }
    }
    Ok(())
}

/// PATH with our own tools before all others.
pub(crate) fn path_with_tools(workspace: &Workspace) -> Result<OsString> {
    let own = workspace.tools().join("bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(own).chain(std::env::split_paths(&path));
    std::env::join_paths(paths).context("PATH")
}
