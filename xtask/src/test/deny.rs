//! What Cargo.lock lets in, by deny.toml: licences, duplicates, sources; advisories where their
//! database can be reached.

use std::process::Command;

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{command, toolchain};

const CHECKS: [&str; 3] = ["licenses", "bans", "sources"];

pub(super) fn check(workspace: &Workspace) -> Result<bool> {
    toolchain::DENY.ensure(workspace)?;
    let passed = command::succeeds(deny(workspace).arg("check").args(CHECKS))?;
    let mut fetch = deny(workspace);
    if let Err(error) = command::output(fetch.args(["fetch", "db"])) {
        println!("advisories are NOT checked, their database cannot be fetched: {error:#}");
        return Ok(passed);
    }
    let mut advisories = deny(workspace);
    advisories.args(["check", "--disable-fetch", "advisories"]);
    Ok(command::succeeds(&mut advisories)? && passed)
}

fn deny(workspace: &Workspace) -> Command {
    // Its own limit for a network that swallows packets is several minutes.
    let mut deny = Command::new("timeout");
    deny.arg("120")
        .arg(workspace.tools().join("bin/cargo-deny"))
        .current_dir(workspace.root())
        .env("GIT_TERMINAL_PROMPT", "0");
    deny
}
