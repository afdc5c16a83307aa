//! `tracer generate`, hidden: what a package holds besides the program, made from the commands' own
//! definitions.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap_complete::Shell;

/// Arguments of `tracer generate`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder to write to: DIR/completions and DIR/man
    #[arg(value_name = "DIR")]
    into: PathBuf,
}

/// Runs it.
///
/// # Errors
/// The folder cannot be written.
pub(super) fn run(args: &Args, command: clap::Command) -> Result<()> {
    // Its pages would repeat the others.
    let mut command = command.disable_help_subcommand(true);
    let completions = args.into.join("completions");
    fs::create_dir_all(&completions)
        .with_context(|| format!("making {}", completions.display()))?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "tracer", &completions)
            .with_context(|| format!("writing {shell} completions to {}", completions.display()))?;
    }
    let man = args.into.join("man");
    fs::create_dir_all(&man).with_context(|| format!("making {}", man.display()))?;
    clap_mangen::generate_to(command, &man)
        .with_context(|| format!("writing manual pages to {}", man.display()))
}
