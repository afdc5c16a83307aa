//! The project's tasks, one file a task: `cargo xtask
//! setup|build|test|demo|install|dist|bench|fuzz`.
//!
//! A task sets up what it needs and says so; nothing is installed on the host. Cargo runs as the
//! user who called; only what must be root goes through one `sudo`.

mod bench;
mod build;
mod command;
mod demo;
mod dist;
mod fuzz;
#[cfg(test)]
mod house;
mod install;
mod instructions;
mod packages;
mod privilege;
mod progress;
mod pythons;
mod setup;
mod test;
mod toolchain;
mod tree;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use workspace::Workspace;

/// The tasks of tracer's repository.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "Examples:
  cargo xtask demo              watch tracer explain real 502s, in a network namespace of its own
  cargo xtask test              every check there is, real-kernel tests included
  cargo xtask test refused      the tests whose name contains `refused`, no other check
  cargo xtask install           build as you, copy to /usr/local/bin (then: sudo tracer live)"
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Setup(setup::Arguments),
    Build(build::Arguments),
    Test(test::Arguments),
    Demo(demo::Arguments),
    Install(install::Arguments),
    Dist(dist::Arguments),
    Bench(bench::Arguments),
    Fuzz(fuzz::Arguments),
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    match task {
        Task::Setup(arguments) => setup::run(&workspace, &arguments),
        Task::Build(arguments) => build::run(&workspace, &arguments),
        Task::Test(arguments) => test::run(&workspace, &arguments),
        Task::Demo(arguments) => demo::run(&workspace, &arguments),
        Task::Install(arguments) => install::run(&workspace, &arguments),
        Task::Dist(arguments) => dist::run(&workspace, &arguments),
        Task::Bench(arguments) => bench::run(&workspace, &arguments),
        Task::Fuzz(arguments) => fuzz::run(&workspace, &arguments),
    }
}
