//! A program of crates.io, built once into `target/tools`.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command;
use crate::progress::Progress;
use crate::workspace::Workspace;

pub(crate) struct Tool {
    name: &'static str,
    version: &'static str,
    takes: &'static str,
    /// Of cargo install.
    arguments: &'static [&'static str],
}

pub(crate) const FUZZ: Tool = Tool {
    name: "cargo-fuzz",
    version: "0.13.2",
    takes: "about a minute",
    arguments: &[],
};

/// Unoptimised it takes half as long to build, and reads our few hundred crates in three seconds.
pub(crate) const DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
    takes: "about two minutes",
    arguments: &["--no-default-features", "--debug"],
};

impl Tool {
    /// Builds it, unless it is there.
    pub(crate) fn ensure(&self, workspace: &Workspace) -> Result<()> {
        let (name, version) = (self.name, self.version);
        let binary = workspace.tools().join("bin").join(name);
        let said = command::output(Command::new(&binary).arg("--version"));
        if said.is_ok_and(|said| said.trim().ends_with(version)) {
            return Ok(());
        }
        let what = format!(
            "setup: building {name} {version} into target/tools ({})",
            self.takes
        );
        let _progress = Progress::of(&what, "");
        let mut cargo = Command::new("cargo");
        cargo
            .args(["install", name, "--version", version])
            .args(["--locked", "--quiet", "--force"])
            .args(self.arguments)
            .arg("--root")
            .arg(workspace.tools())
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .current_dir(workspace.root());
        command::run(&mut cargo).with_context(|| format!("building {name}"))
    }
}
