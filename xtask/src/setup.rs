//! `cargo xtask setup`: the compiler side (nightly, `rust-src`, bpf-linker) and the programs that
//! the demo and the tests run. Says what it fetches before it does; a second run has nothing to do.

use std::fs::File;
use std::process::ExitCode;
use std::thread;

use anyhow::{Context as _, Result};

use crate::packages::{DEMO, PACKAGES};
use crate::workspace::Workspace;
use crate::{pythons, toolchain, tree};

/// Set up all that building, the demo and the tests need, under target/ (and rustup's own nightly)
#[derive(clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(workspace: &Workspace, _arguments: &Arguments) -> Result<ExitCode> {
    tests(workspace, &[])?;
    println!("ready: cargo build, cargo test, cargo xtask demo");
    Ok(ExitCode::SUCCESS)
}

/// What the demo needs.
pub(crate) fn demo(workspace: &Workspace) -> Result<()> {
    with_compiler(workspace, || tree::ensure(workspace, &DEMO))
}

/// What the benchmarks need.
pub(crate) fn bench(workspace: &Workspace) -> Result<()> {
    with_compiler(workspace, || {
        tree::ensure(workspace, &PACKAGES)?;
        tree::suites::ensure(workspace);
        Ok(())
    })
}

/// What reads the tables of a fleet.
pub(crate) fn fleet(workspace: &Workspace) -> Result<()> {
    let _lock = lock(workspace)?;
    pythons::ensure(workspace);
    pythons::spark(workspace)
}

/// What the tests need, with these builds of nginx.
pub(crate) fn tests(workspace: &Workspace, builds: &[&tree::builds::Build]) -> Result<()> {
    with_compiler(workspace, || {
        tree::ensure(workspace, &PACKAGES)?;
        tree::suites::ensure(workspace);
        tree::suites::backends(workspace)?;
        tree::suites::monitoring(workspace)?;
        tree::builds::ensure(workspace, builds);
        pythons::ensure(workspace);
        Ok(())
    })
}

/// The file system roots of Debian's suites, in which a release is tried.
pub(crate) fn roots(workspace: &Workspace) -> Result<()> {
    let _lock = lock(workspace)?;
    tree::suites::ensure(workspace);
    Ok(())
}

/// What a build needs.
pub(crate) fn compiler(workspace: &Workspace) -> Result<()> {
    with_compiler(workspace, || Ok(()))
}

/// The compiler side, and in the meantime what is fetched.
fn with_compiler(workspace: &Workspace, fetch: impl FnOnce() -> Result<()>) -> Result<()> {
    let _lock = lock(workspace)?;
    thread::scope(|scope| {
        let compiler = scope.spawn(|| toolchain::ensure(workspace));
        let fetched = fetch();
        match compiler.join() {
            Ok(ready) => ready.and(fetched),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Two tasks at once would unpack into the same folders: the second waits for the first.
fn lock(workspace: &Workspace) -> Result<File> {
    let path = workspace.target().join("setup.lock");
    std::fs::create_dir_all(workspace.target())
        .and_then(|()| File::create(&path))
        .and_then(|file| file.lock().map(|()| file))
        .with_context(|| format!("locking {}", path.display()))
}
