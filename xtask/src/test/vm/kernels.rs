//! Debian's kernels, each resolved by name and unpacked under `target/vm/kernels`. Exact versions
//! vanish from the archive, so none is named here.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::tree;
use crate::tree::apt::Apt;
use crate::workspace::Workspace;

/// A kernel under test.
pub(super) struct Kernel {
    pub(super) name: &'static str,
    /// Where it comes from.
    suites: &'static [&'static str],
    /// `None`: what the metapackage gives. Else the newest image of this line.
    line: Option<&'static str>,
}

const METAPACKAGE: &str = "linux-image-cloud-amd64";

/// Oldest first.
pub(super) const KERNELS: [Kernel; 5] = [
    Kernel {
        name: "5.10",
        suites: &["bullseye", "bullseye-security"],
        line: None,
    },
    Kernel {
        name: "6.1",
        suites: &["bookworm"],
        line: None,
    },
    Kernel {
        name: "6.12",
        suites: &["trixie"],
        line: None,
    },
    Kernel {
        name: "6.18",
        suites: &["trixie", "trixie-backports"],
        line: Some("6.18."),
    },
    Kernel {
        name: "newest",
        suites: &["sid"],
        line: None,
    },
];

/// A kernel as unpacked.
pub(super) struct Unpacked {
    /// `uname -r`.
    pub(super) release: String,
    pub(super) vmlinuz: PathBuf,
    /// `lib/modules/RELEASE`.
    pub(super) modules: PathBuf,
}

/// Fetches the kernel unless it is there.
pub(super) fn ensure(workspace: &Workspace, kernel: &Kernel) -> Result<Unpacked> {
    let tree = workspace.target().join("vm/kernels").join(kernel.name);
    if !tree.is_dir() {
        fetch(workspace, kernel, &tree)
            .with_context(|| format!("fetching the kernel {}", kernel.name))?;
    }
    find(&tree).with_context(|| format!("a kernel in {}", tree.display()))
}

fn fetch(workspace: &Workspace, kernel: &Kernel, tree: &Path) -> Result<()> {
    let apt = Apt::of_debian(workspace, kernel.suites)?;
    apt.update()?;
    let mut archives = match kernel.line {
        None => apt.resolve(&[METAPACKAGE])?,
        // The archive drops packages that an older kernel depends on before the kernel itself.
        Some(line) => {
            let image = newest(&apt, line)?;
            let part = |name| image.replacen("-image-", name, 1);
            apt.alone(&[&image, &part("-binary-"), &part("-modules-")])?
        }
    };
    // Newer kernels come in parts: linux-binary, linux-modules.
    archives.retain(|archive| {
        archive.package != METAPACKAGE
            && ["linux-image-", "linux-binary-", "linux-modules-"]
                .iter()
                .any(|prefix| archive.package.starts_with(prefix))
    });
    let bytes: u64 = archives.iter().map(|archive| archive.bytes).sum();
    eprintln!(
        "setup: unpacking Debian's kernel {} ({} MB to fetch) under target/vm",
        kernel.name,
        bytes / 1_000_000
    );
    let files = apt.download(&archives)?;
    let fresh = tree.with_extension("new");
    tree::unpack(&files, &fresh)?;
    tree::replace(tree, &fresh)?;
    apt.forget()
}

/// The newest image package of a line of kernels.
fn newest(apt: &Apt, line: &str) -> Result<String> {
    let mut names = apt.names(&format!("linux-image-{line}"))?;
    names.retain(|name| name.ends_with("-cloud-amd64"));
    names
        .into_iter()
        .max_by_key(|name| numbers(name))
        .with_context(|| format!("no image of {line}* is in the archive"))
}

/// The numbers in a name, in order: what versions are compared by.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

fn find(tree: &Path) -> Result<Unpacked> {
    let folder = [tree.join("lib/modules"), tree.join("usr/lib/modules")]
        .into_iter()
        .find(|folder| folder.is_dir())
        .context("no lib/modules")?;
    let entry = fs::read_dir(&folder)?.next().context("no release")??;
    let release = entry.file_name().to_string_lossy().into_owned();
    let modules = entry.path();
    let vmlinuz = [
        tree.join(format!("boot/vmlinuz-{release}")),
        modules.join("vmlinuz"),
    ]
    .into_iter()
    .find(|file| file.is_file())
    .context("no vmlinuz")?;
    Ok(Unpacked {
        release,
        vmlinuz,
        modules,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let older = "linux-image-6.18.9+deb13-cloud-amd64";
        let newer = "linux-image-6.18.15+deb13-cloud-amd64";
        assert!(numbers(newer) > numbers(older));
    }
}
