//! bpf-linker, built once into `target/tools`. It is linked to the libLLVM that the nightly itself
//! ships: the linker must read that compiler's bitcode, and no distribution's LLVM has to be found,
//! downloaded or kept in step.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::nightly::Nightly;
use crate::command;
use crate::progress::Progress;
use crate::workspace::Workspace;

const VERSION: &str = "0.13.0";
/// The LLVM majors that this bpf-linker has a feature for.
const LLVM: std::ops::RangeInclusive<u32> = 21..=23;

pub(crate) fn ensure(workspace: &Workspace, nightly: &Nightly) -> Result<()> {
    let tools = workspace.tools();
    let binary = tools.join("bin/bpf-linker");
    let library = library(nightly)?;

    // An updated nightly takes its old libLLVM away: then the linker is built again.
    let stamp = tools.join("bpf-linker.stamp");
    let wanted = format!("{VERSION} {} {}", nightly.commit, library.display());
    if binary.is_file() && fs::read_to_string(&stamp).is_ok_and(|built| built == wanted) {
        return Ok(());
    }

    let major = nightly.llvm_major;
    ensure!(
        LLVM.contains(&major),
        "{} has LLVM {major}, bpf-linker {VERSION} knows {} to {}",
        nightly.name,
        LLVM.start(),
        LLVM.end()
    );
    let prefix = link_prefix(&tools, &library)?;
    let mut cargo = Command::new("cargo");
    cargo
        .args(["install", "bpf-linker", "--version", VERSION, "--locked"])
        // Unoptimised it is built in a third of the time; what takes long in it is LLVM.
        .args(["--quiet", "--force", "--no-default-features", "--debug"])
        .args(["--features", &format!("llvm-{major}")])
        .arg("--root")
        .arg(&tools)
        .env("LLVM_PREFIX", prefix)
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .current_dir(workspace.root());
    let what = format!("setup: building bpf-linker {VERSION} into target/tools (about a minute)");
    let progress = Progress::of(&what, "");
    command::run(&mut cargo).context("building bpf-linker")?;
    drop(progress);
    command::output(Command::new(&binary).arg("--version"))
        .with_context(|| format!("trying {}", binary.display()))?;
    fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))
}

/// The nightly's own libLLVM.
fn library(nightly: &Nightly) -> Result<PathBuf> {
    let folder = nightly.sysroot.join("lib");
    let entries = fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("listing {}", folder.display()))?;
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with("libLLVM.so.")
        {
            return Ok(entry.path());
        }
    }
    anyhow::bail!(
        "no libLLVM.so.* in {}: is {} a toolchain of rustup's?",
        folder.display(),
        nightly.name
    )
}

/// A folder that looks like an LLVM installation to bpf-linker's build script, which also makes its
/// `lib` the binary's rpath: so it holds the name that is linked and the name that is loaded.
fn link_prefix(tools: &Path, library: &Path) -> Result<PathBuf> {
    let prefix = tools.join("llvm");
    let lib = prefix.join("lib");
    if prefix.exists() {
        fs::remove_dir_all(&prefix).with_context(|| format!("removing {}", prefix.display()))?;
    }
    let loaded = library.file_name().context("the file name of libLLVM")?;
    fs::create_dir_all(&lib)
        .and_then(|()| symlink(library, lib.join("libLLVM.so")))
        .and_then(|()| symlink(library, lib.join(loaded)))
        .with_context(|| format!("filling {}", lib.display()))?;
    Ok(prefix)
}
