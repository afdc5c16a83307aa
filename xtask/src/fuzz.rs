//! `cargo xtask fuzz`: the readers of bytes from outside get whatever libFuzzer thinks of. What is
//! kept is in `tests/fuzz/corpus`; what a run finds beyond goes to `target/fuzz`, and into the kept
//! corpus with `--keep`.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;
use crate::{command, setup, toolchain};

/// The targets, each a program of tests/fuzz.
const TARGETS: [&str; 7] = [
    "capture", "page", "log_line", "elf", "config", "netlink", "proc",
];

/// Fuzz each reader of bytes from outside for a while: captures, logs, programs, configuration,
/// netlink, /proc
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask fuzz                   each target for 60 s
  cargo xtask fuzz page --seconds 600
  cargo xtask fuzz --keep            add what was found to tests/fuzz/corpus, as little as covers as much")]
pub(crate) struct Arguments {
    /// Only this target: capture, page, log_line, elf, config, netlink or proc
    #[arg(value_parser = TARGETS)]
    target: Option<String>,
    /// How long each
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Put what was found into the kept corpus
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    setup::compiler(workspace)?;
    toolchain::FUZZ.ensure(workspace)?;
    let mut failed = Vec::new();
    let chosen = TARGETS.iter().filter(|target| {
        arguments
            .target
            .as_deref()
            .is_none_or(|only| only == **target)
    });
    for target in chosen {
        let kept = workspace.root().join("tests/fuzz/corpus").join(target);
        let found = workspace.target().join("fuzz/corpus").join(target);
        fs::create_dir_all(&found).with_context(|| format!("making {}", found.display()))?;
        let fuzz = |folders: [&std::path::Path; 2], options: &[String]| -> Result<bool> {
            let mut cargo = toolchain::on_nightly(workspace, "cargo-fuzz")?;
            cargo
                .args(["run", "--fuzz-dir", "tests/fuzz", "--target-dir"])
                .arg(workspace.target().join("fuzz"))
                .arg(target)
                .args(folders)
                .arg("--")
                .args(options)
                .current_dir(workspace.root())
                .env("PATH", toolchain::path_with_tools(workspace)?);
            command::succeeds(&mut cargo)
        };
        println!("\n== fuzz {target}, {} s", arguments.seconds);
        let options = [
            format!("-max_total_time={}", arguments.seconds),
            "-max_len=65536".to_owned(),
            "-timeout=10".to_owned(),
            "-print_final_stats=1".to_owned(),
        ];
        // New inputs go to the first folder, the second is only read.
        if !fuzz([&found, &kept], &options)? {
            failed.push(*target);
        }
        if arguments.keep {
            fuzz([&kept, &found], &["-merge=1".to_owned()])?;
        }
    }
    if failed.is_empty() {
        println!("\nno target failed");
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "\nfailed: {}; the inputs are in tests/fuzz/artifacts",
        failed.join(", ")
    );
    Ok(ExitCode::FAILURE)
}
