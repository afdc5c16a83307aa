//! The nightly that compiles the BPF object, with `rust-src` for its `core` and clippy for its
//! checks. It is one fixed nightly: each new one brings lints, and now and then an LLVM, that the
//! commit under test has never seen. Its name is left in `target/tools/nightly` for
//! `tracer/build.rs`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command;
use crate::workspace::Workspace;

const NAME: &str = "nightly-2026-07-01";
/// The same compiler under whatever name: a `nightly` of that day will do.
const COMMIT: &str = "f46ec5218fe7829ac18323b5ee0b409a63169f27";
const COMPONENTS: [&str; 2] = ["rust-src", "clippy"];

/// An installed nightly toolchain.
pub(crate) struct Nightly {
    /// rustup's name for it.
    pub(crate) name: String,
    pub(crate) commit: String,
    pub(crate) llvm_major: u32,
    pub(crate) sysroot: PathBuf,
}

pub(crate) fn ensure(workspace: &Workspace) -> Result<Nightly> {
    let nightly = choose()?;
    ensure_components(&nightly.name)?;

    let file = name_file(workspace);
    std::fs::create_dir_all(workspace.tools())
        .and_then(|()| write_if_new(&file, &nightly.name))
        .with_context(|| format!("writing {}", file.display()))?;
    Ok(nightly)
}

/// The name that `ensure` chose.
pub(crate) fn chosen(workspace: &Workspace) -> Result<String> {
    let file = name_file(workspace);
    std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))
}

fn name_file(workspace: &Workspace) -> PathBuf {
    workspace.tools().join("nightly")
}

/// An untouched file keeps its time, and cargo from running build scripts again.
fn write_if_new(file: &Path, text: &str) -> std::io::Result<()> {
    if std::fs::read_to_string(file).is_ok_and(|old| old == text) {
        return Ok(());
    }
    std::fs::write(file, text)
}

fn choose() -> Result<Nightly> {
    let installed: Vec<Nightly> = [NAME, "nightly"]
        .into_iter()
        .filter_map(|name| inspect(name).ok())
        .collect();
    if let Some(same) = installed.into_iter().find(|found| found.commit == COMMIT) {
        return Ok(same);
    }

    eprintln!(
        "setup: rustup toolchain {NAME}, for the BPF object (about 250 MB under rustup's home)"
    );
    let mut install = Command::new("rustup");
    install.args(["toolchain", "install", NAME, "--profile", "minimal"]);
    install.arg("--no-self-update");
    for component in COMPONENTS {
        install.args(["--component", component]);
    }
    if command::succeeds(&mut install)? {
        return inspect(NAME);
    }
    match inspect("nightly") {
        Ok(other) => {
            eprintln!(
                "setup: rustup cannot fetch {NAME}; going on with the `nightly` that is here"
            );
            Ok(other)
        }
        Err(_) => bail!("rustup cannot fetch {NAME}, and no other nightly is here"),
    }
}

fn ensure_components(name: &str) -> Result<()> {
    let list = ["component", "list", "--installed", "--toolchain", name];
    let installed = command::output(Command::new("rustup").args(list))?;
    for component in COMPONENTS {
        if !installed.lines().any(|line| line.starts_with(component)) {
            eprintln!("setup: rustup component {component} of {name}");
            let add = ["component", "add", component, "--toolchain", name];
            command::run(Command::new("rustup").args(add))
                .with_context(|| format!("fetching {component} of {name}"))?;
        }
    }
    Ok(())
}

fn inspect(name: &str) -> Result<Nightly> {
    let rustc = ["run", name, "rustc"];
    let version = command::output(Command::new("rustup").args(rustc).arg("-vV"))?;
    let sysroot = ["--print", "sysroot"];
    let sysroot = command::output(Command::new("rustup").args(rustc).args(sysroot))?;
    let field = |key: &str| {
        let value = version.lines().find_map(|line| line.strip_prefix(key));
        value.with_context(|| format!("`{key}` in rustc -vV of {name}"))
    };
    let llvm = field("LLVM version: ")?;
    let major = llvm.split('.').next().and_then(|major| major.parse().ok());
    Ok(Nightly {
        name: name.to_owned(),
        commit: field("commit-hash: ")?.to_owned(),
        llvm_major: major.with_context(|| format!("LLVM version `{llvm}` of {name}"))?,
        sysroot: PathBuf::from(sysroot.trim()),
    })
}
