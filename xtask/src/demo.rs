//! `cargo xtask demo`: the main job on one screen. Builds, then runs the tests crate's `demo`
//! program as root: a real nginx with faulty upstreams in a network namespace of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;
use crate::{build, command, privilege, setup, test};

/// Watch tracer explain the 502s of a real nginx, in a network namespace of its own
#[derive(clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(workspace: &Workspace, _arguments: &Arguments) -> Result<ExitCode> {
    eprintln!("demo 1/3: a compiler for BPF, and nginx (the first run alone)");
    setup::demo(workspace)?;
    eprintln!("demo 2/3: tracer, unoptimised, and faulty upstreams for nginx");
    let (tracer, demo) = built(workspace)?;
    eprintln!("demo 3/3: six requests that fail, and what tracer says of each");
    Ok(if play(workspace, &tracer, &demo)? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The same as a check of `cargo xtask test`, with the tracer that its other tests run.
pub(crate) fn check(workspace: &Workspace) -> Result<bool> {
    let tracer = build::release(workspace)?;
    let arguments = ["--package", "tests", "--bin", "demo"];
    play(
        workspace,
        &tracer,
        &build::binary(workspace, "the demo", &arguments)?,
    )
}

/// Builds tracer and the demo, for speed of the build: `cargo xtask install` has the optimised one.
fn built(workspace: &Workspace) -> Result<(PathBuf, PathBuf)> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--no-default-features"]);
    cargo.args(["--package", "tracer", "--bin", "tracer"]);
    cargo.args(["--package", "tests", "--bin", "demo"]);
    // A backtrace's lines cost a quarter of the time.
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "0");
    let what = "tracer and the demo (a minute or two the first time)";
    let built = build::executables(workspace, what, &mut cargo)?;
    let find = |name: &str| {
        let found = built.iter().find(|one| one.path.ends_with(name));
        found
            .map(|one| one.path.clone())
            .with_context(|| format!("`{}` built no {name}", command::line(&cargo)))
    };
    Ok((find("tracer")?, find("demo")?))
}

/// The demo with this tracer.
fn play(workspace: &Workspace, tracer: &Path, demo: &Path) -> Result<bool> {
    // Through env(1): sudo drops the caller's environment.
    let mut command = privilege::as_root(
        "env",
        "attach to the kernel and to make a network namespace",
    )?;
    command
        .args(test::environment(workspace, tracer)?)
        .arg(demo);
    command::succeeds(&mut command)
}
