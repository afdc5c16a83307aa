//! `target/alternatives`: what `cargo xtask bench` compares tracer with, and the load, from the
//! host's apt sources, unpacked like `target/root`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{apt::Apt, links};
use crate::packages::{ALTERNATIVES, LEFT_OUT};
use crate::workspace::Workspace;

/// Unpacks them, unless they are there; returns their tree.
pub(crate) fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    let tree = workspace.target().join("alternatives");
    let stamp = tree.join(".packages");
    let wanted = ALTERNATIVES.join(" ");
    if fs::read_to_string(&stamp).is_ok_and(|stamped| stamped == wanted) {
        return Ok(tree);
    }
    let apt = Apt::new(workspace)?;
    apt.update()?;
    let mut names = Vec::new();
    for name in ALTERNATIVES {
        if apt.has(name)? {
            names.push(name);
        } else {
            eprintln!("setup: this release has no package {name}: the bench goes without");
        }
    }
    let mut archives = apt.resolve(&names)?;
    archives.retain(|archive| !LEFT_OUT.contains(&archive.package.as_str()));
    let bytes: u64 = archives.iter().map(|archive| archive.bytes).sum();
    eprintln!(
        "setup: unpacking {} with {} packages in all ({} MB to fetch) under target/alternatives",
        names.join(", "),
        archives.len(),
        bytes / 1_000_000
    );
    let files = apt.download(&archives)?;
    let fresh = workspace.target().join("alternatives.new");
    super::unpack(&files, &fresh)?;
    links::keep_inside(&fresh)?;
    fs::write(fresh.join(".packages"), &wanted).context("stamping the unpacked packages")?;
    super::replace(&tree, &fresh)?;
    apt.forget()?;
    Ok(tree)
}
