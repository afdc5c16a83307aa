//! Where the programs under test and their tools are.
//!
//! `TRACER_BIN` names the tracer, `TRACER_TEST_ROOT` a tree of unpacked distribution packages
//! (nginx, nft, ip, bpftool, openssl). Tools that the tree lacks come from PATH. A program of the
//! tree runs with the tree's libraries.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

const FOLDERS: [&str; 4] = ["usr/sbin", "usr/bin", "sbin", "bin"];

/// The folder of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The tree of unpacked packages.
pub fn root() -> PathBuf {
    std::env::var_os("TRACER_TEST_ROOT")
        .map_or_else(|| workspace().join("target/root"), PathBuf::from)
}

/// The file system root of a Debian suite's nginx, if it is there.
pub fn suite(name: &str) -> Option<PathBuf> {
    let tree = workspace().join("target/nginx").join(name);
    let tree = tree.canonicalize().ok()?;
    tree.join("usr/sbin/nginx").is_file().then_some(tree)
}

/// The folder of one of the builds of nginx, if it is there.
pub fn build(name: &str) -> Option<PathBuf> {
    let folder = workspace().join("target/builds").join(name);
    let folder = folder.canonicalize().ok()?;
    folder.join("nginx").is_file().then_some(folder)
}

/// The tracer under test.
pub fn tracer() -> Result<PathBuf> {
    let path = std::env::var_os("TRACER_BIN")
        .map_or_else(|| workspace().join("target/release/tracer"), PathBuf::from);
    path.canonicalize().with_context(|| {
        format!(
            "no tracer at {} (set TRACER_BIN, or build it: cargo xtask build)",
            path.display()
        )
    })
}

/// A command for `name`: the tree's program with the tree's libraries, or else PATH's.
pub fn command(name: &str) -> Result<Command> {
    in_tree(&root(), name)
}

/// The file system root of the real backends.
pub fn backends() -> Result<PathBuf> {
    let tree = workspace().join("target/backends");
    tree.canonicalize()
        .with_context(|| format!("no {} (cargo xtask setup)", tree.display()))
}

/// A command for `program` of `tree`, which becomes its root in a mount namespace of its own; its
/// process is the command's, and the host's devices, processes and temporary files are there.
pub fn rooted(tree: &Path, program: &str) -> Result<Command> {
    let mut command = command("unshare")?;
    command
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg(
            "tree=$1; temporary=$2; program=$3; shift 3; mkdir -p $tree$temporary \
             && mount --rbind /dev $tree/dev && mount --rbind /proc $tree/proc \
             && mount --bind $temporary $tree$temporary \
             && exec chroot $tree $program \"$@\"",
        )
        .arg("sh")
        .arg(tree)
        .arg(std::env::temp_dir())
        .arg(program);
    Ok(command)
}

/// A command for a program that only the benchmarks run, from a tree of its own.
pub fn alternative(name: &str) -> Result<Command> {
    let tree = std::env::var_os("TRACER_BENCH_ROOT")
        .map_or_else(|| workspace().join("target/alternatives"), PathBuf::from);
    in_tree(&tree, name)
}

fn in_tree(root: &Path, name: &str) -> Result<Command> {
    for folder in FOLDERS {
        let program = root.join(folder).join(name);
        if program.is_file() {
            let mut command = Command::new(program);
            let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"]
                .map(|folder| root.join(folder).display().to_string());
            command.env("LD_LIBRARY_PATH", libraries.join(":"));
            return Ok(command);
        }
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Users' PATHs often lack the sbin folders where these tools live.
    let found = std::env::split_paths(&path)
        .chain(FOLDERS.map(|folder| Path::new("/").join(folder)))
        .map(|folder| folder.join(name))
        .find(|program| program.is_file());
    match found {
        Some(program) => Ok(Command::new(program)),
        None => bail!("no {name} in {} nor on PATH", root.display()),
    }
}

/// Runs a prepared command to its end and gives its stdout; a failure carries its stderr.
pub fn output(command: &mut Command) -> Result<String> {
    let out = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !out.status.success() {
        bail!(
            "{command:?} ended with {}: {}",
            out.status,
            String::from_utf8_lossy(&out.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
