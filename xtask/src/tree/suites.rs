//! `target/nginx/SUITE`: the nginx of each of Debian's suites with all its libraries, as a file
//! system root that it can be run in. A suite that cannot be had is left out, and said; the tests
//! that need it then skip. `target/backends`: the real backends, in the same way; without them no
//! test passes. `target/monitoring`: Prometheus, in the same way.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::apt::{Apt, Archive};
use crate::packages::{BACKENDS, BACKENDS_SUITE, MONITORING, SUITES};
use crate::workspace::Workspace;

/// What the maintainer scripts of base packages would have made.
const FILES: [(&str, &str); 2] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    ),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
];
/// Where the host's are mounted when it runs.
const MOUNTS: [&str; 3] = ["dev", "proc", "sys"];
/// Links of a merged /usr, which releases from trixie on take for granted.
const LINKS: [&str; 2] = ["lib", "lib64"];

/// Unpacks the suites that are missing.
pub(crate) fn ensure(workspace: &Workspace) {
    for suite in SUITES {
        let tree = workspace.target().join("nginx").join(suite);
        if tree.join("usr/sbin/nginx").is_file() {
            continue;
        }
        if let Err(error) = unpack(workspace, suite, &tree, |apt| apt.resolve(&["nginx"])) {
            eprintln!("setup: Debian {suite}'s nginx is left out: {error:#}");
        }
    }
}

/// Unpacks the backends, unless they are there.
pub(crate) fn backends(workspace: &Workspace) -> Result<()> {
    let choose = |apt: &Apt| apt.resolve(&BACKENDS);
    stamped(workspace, "backends", &BACKENDS.join(" "), choose)
}

/// Unpacks what reads metrics, unless it is there.
pub(crate) fn monitoring(workspace: &Workspace) -> Result<()> {
    // Its web pages' fonts and scripts are left out.
    let choose = |apt: &Apt| apt.alone(&MONITORING);
    stamped(workspace, "monitoring", &MONITORING.join(" "), choose)
}

fn stamped(
    workspace: &Workspace,
    name: &str,
    wanted: &str,
    choose: impl FnOnce(&Apt) -> Result<Vec<Archive>>,
) -> Result<()> {
    let tree = workspace.target().join(name);
    // The list itself is the stamp, as for the tree.
    let stamp = tree.join(".packages");
    if fs::read_to_string(&stamp).is_ok_and(|stamped| stamped == wanted) {
        return Ok(());
    }
    unpack(workspace, BACKENDS_SUITE, &tree, choose)?;
    fs::write(&stamp, wanted).with_context(|| format!("stamping the unpacked {name}"))
}

fn unpack(
    workspace: &Workspace,
    suite: &str,
    tree: &Path,
    choose: impl FnOnce(&Apt) -> Result<Vec<Archive>>,
) -> Result<()> {
    let apt = Apt::of_debian(workspace, &[suite])?;
    apt.update()?;
    let archives = choose(&apt)?;
    eprintln!(
        "setup: unpacking {} packages of Debian {suite} under {}",
        archives.len(),
        tree.display()
    );
    let files = apt.download(&archives)?;
    let fresh = tree.with_extension("new");
    super::unpack(&files, &fresh)?;
    arrange(&fresh, &MOUNTS)?;
    super::replace(tree, &fresh)?;
    apt.forget()
}

/// Makes the tree a root that programs can run in; `mounts` are the folders where something will be
/// mounted.
pub(crate) fn arrange(tree: &Path, mounts: &[&str]) -> Result<()> {
    for name in LINKS {
        let link = tree.join(name);
        if !link.exists() {
            symlink(Path::new("usr").join(name), &link)
                .with_context(|| format!("linking {}", link.display()))?;
        }
    }
    for (name, text) in FILES {
        let file = tree.join(name);
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    for name in mounts {
        let folder = tree.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    }
    Ok(())
}
