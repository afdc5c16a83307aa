//! `cargo xtask demo`: the main job on one screen. Builds, then runs the tests crate's `demo`
//! program as root: a real nginx with faulty upstreams in a network namespace of its own.

use std::process::ExitCode;

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{build, command, privilege, setup, test};

/// Watch tracer explain the 502s of a real nginx, in a network namespace of its own
#[derive(clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(workspace: &Workspace, _arguments: &Arguments) -> Result<ExitCode> {
    setup::everything(workspace)?;
    let tracer = build::release(workspace)?;
    let demo = build::binary(workspace, &["--package", "tests", "--bin", "demo"])?;

    // Through env(1): sudo drops the caller's environment.
    let mut command = privilege::as_root(
        "env",
        "attach to the kernel and to make a network namespace",
    )?;
    command
        .args(test::environment(workspace, &tracer)?)
        .arg(demo);
    let ended_well = command::succeeds(&mut command)?;
    Ok(if ended_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
