//! `target/root`: the packages of [`crate::packages`] with their dependencies, unpacked.
//!
//! Resolved as if nothing were installed, so the tree is the same whatever the host has, and a
//! missing package shows on every machine. A program of the tree needs the tree's library folders
//! in `LD_LIBRARY_PATH`. The tree appears whole or not at all.

pub(crate) mod alternatives;
pub(crate) mod apt;
pub(crate) mod builds;
mod links;
pub(crate) mod suites;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command;
use crate::packages::{LEFT_OUT, Package};
use crate::workspace::Workspace;
use apt::{Apt, Archive};

/// Unpacks these packages, unless a tree is there that has them.
pub(crate) fn ensure(workspace: &Workspace, packages: &[Package]) -> Result<()> {
    let tree = workspace.tree();
    // The list itself is the stamp: what it lacks makes a new tree.
    let stamp = tree.join(".packages");
    let names: Vec<&str> = packages.iter().map(|package| package.name).collect();
    let stamped = fs::read_to_string(&stamp).unwrap_or_default();
    let stamped: Vec<&str> = stamped.split_whitespace().collect();
    if names.iter().all(|name| stamped.contains(name)) {
        return Ok(());
    }
    for program in ["apt-get", "dpkg-deb"] {
        if !command::exists(program)? {
            bail!("the demo and the tests unpack Debian packages: no {program} on this host");
        }
    }

    eprintln!("setup: asking the host's apt sources, through a state of its own in target/apt");
    let apt = Apt::new(workspace)?;
    apt.update()?;
    let archives = archives(&apt, packages)?;
    announce(&archives, packages);
    let files = apt.download(&archives)?;

    let fresh = workspace.target().join("root.new");
    unpack(&files, &fresh)?;
    links::keep_inside(&fresh)?;
    fs::write(fresh.join(".packages"), names.join(" "))
        .context("stamping the unpacked packages")?;
    replace(&tree, &fresh)?;
    apt.forget()
}

pub(crate) fn unpack(files: &[PathBuf], fresh: &Path) -> Result<()> {
    empty(fresh)?;
    for file in files {
        command::run(Command::new("dpkg-deb").arg("-x").arg(file).arg(fresh))
            .with_context(|| format!("unpacking {}", file.display()))?;
    }
    Ok(())
}

pub(crate) fn replace(tree: &Path, fresh: &Path) -> Result<()> {
    if tree.exists() {
        fs::remove_dir_all(tree).with_context(|| format!("removing {}", tree.display()))?;
    }
    fs::rename(fresh, tree).with_context(|| format!("renaming to {}", tree.display()))
}

fn archives(apt: &Apt, packages: &[Package]) -> Result<Vec<Archive>> {
    let mut names = Vec::new();
    for package in packages {
        if package.optional && !apt.has(package.name)? {
            eprintln!(
                "setup: this release has no package {}: {} are left out",
                package.name, package.purpose
            );
            continue;
        }
        names.push(package.name);
    }
    let mut archives = apt.resolve(&names)?;
    archives.retain(|archive| !LEFT_OUT.contains(&archive.package.as_str()));
    Ok(archives)
}

fn announce(archives: &[Archive], packages: &[Package]) {
    let bytes: u64 = archives.iter().map(|archive| archive.bytes).sum();
    eprintln!(
        "setup: unpacking {} packages ({}.{} MB to fetch) under target/root; nothing is installed on this host",
        archives.len(),
        bytes / 1_000_000,
        bytes % 1_000_000 / 100_000
    );
    for package in packages {
        if archives.iter().any(|one| one.package == package.name) {
            eprintln!("         {}: {}", package.name, package.purpose);
        }
    }
}

fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))
}
