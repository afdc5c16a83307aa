//! `cargo xtask bench`: figures with their targets, from real nginx and real captures. A figure that misses its target
//! fails the task.

use std::process::ExitCode;

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{build, command, privilege, setup, test};

/// Measure: each figure is printed beside its target
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench capture     bytes a connection on disk, speed and memory of tracer explain")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Bytes a healthy connection takes in a capture; speed and memory of `tracer explain`
    Capture,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    setup::everything(workspace)?;
    match arguments.what {
        What::Capture => capture(workspace),
    }
}

fn capture(workspace: &Workspace) -> Result<ExitCode> {
    let tracer = build::release(workspace)?;
    let multiply = build::binary(
        workspace,
        &["--release", "--package", "tracer", "--example", "multiply"],
    )?;
    let bench = build::binary(workspace, &["--package", "tests", "--bin", "bench_capture"])?;
    let mut command = privilege::as_root("env", "attach to the kernel and dump packets")?;
    let mut program = std::ffi::OsString::from("MULTIPLY=");
    program.push(multiply);
    command
        .args(test::environment(workspace, &tracer)?)
        .arg(program)
        .arg(bench);
    Ok(if command::succeeds(&mut command)? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
