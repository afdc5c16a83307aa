//! `cargo xtask setup`: the compiler side (nightly, `rust-src`, bpf-linker) and the programs that
//! the demo and the tests run. Says what it fetches before it does; a second run has nothing to do.

use std::fs::File;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;
use crate::{readers, toolchain, tree};

/// Set up all that building, the demo and the tests need, under target/ (and rustup's own nightly)
#[derive(clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(workspace: &Workspace, _arguments: &Arguments) -> Result<ExitCode> {
    everything(workspace)?;
    backends(workspace)?;
    println!("ready: cargo build, cargo test, cargo xtask demo");
    Ok(ExitCode::SUCCESS)
}

/// What the demo, the benchmarks and the tests need.
pub(crate) fn everything(workspace: &Workspace) -> Result<()> {
    compiler(workspace)?;
    let _lock = lock(workspace)?;
    tree::ensure(workspace)?;
    tree::suites::ensure(workspace);
    readers::ensure(workspace);
    Ok(())
}

/// The real backends, which the tests alone run.
pub(crate) fn backends(workspace: &Workspace) -> Result<()> {
    let _lock = lock(workspace)?;
    tree::suites::backends(workspace)
}

/// These builds of nginx.
pub(crate) fn builds(workspace: &Workspace, builds: &[&tree::builds::Build]) -> Result<()> {
    let _lock = lock(workspace)?;
    tree::builds::ensure(workspace, builds);
    Ok(())
}

/// What a build needs.
pub(crate) fn compiler(workspace: &Workspace) -> Result<()> {
    let _lock = lock(workspace)?;
    toolchain::ensure(workspace)
}

/// Two tasks at once would unpack into the same folders: the second waits for the first.
fn lock(workspace: &Workspace) -> Result<File> {
    let path = workspace.target().join("setup.lock");
    std::fs::create_dir_all(workspace.target())
        .and_then(|()| File::create(&path))
        .and_then(|file| file.lock().map(|()| file))
        .with_context(|| format!("locking {}", path.display()))
}
