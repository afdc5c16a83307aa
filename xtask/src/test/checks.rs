//! The checks that run as the calling user: cargo and nothing else.

use std::env::consts::ARCH;
use std::process::Command;

use anyhow::Result;

use super::tally::Tally;
use crate::workspace::Workspace;
use crate::{command, toolchain};

/// tracer has to compile for it; nothing is linked.
const ARM: &str = "aarch64-unknown-linux-musl";

/// The checks that are one command each, cheapest first.
pub(super) fn all(workspace: &Workspace) -> Result<Vec<(&'static str, Command)>> {
    let mut format = Command::new("cargo");
    format.args(["fmt", "--all", "--check"]);

    let mut host = Command::new("cargo");
    host.args(["clippy", "--workspace", "--all-targets"]);
    host.args(["--", "-D", "warnings"]);

    let mut lean = Command::new("cargo");
    lean.args(["clippy", "--package", "tracer", "--no-default-features"]);
    lean.args(["--", "-D", "warnings"]);

    let mut docs = Command::new("cargo");
    docs.args(["doc", "--workspace", "--no-deps"]);
    docs.arg("--document-private-items");
    docs.env("RUSTDOCFLAGS", "-D warnings");

    // Both crates: the build script compiles the object for this architecture's registers.
    let mut arm = Command::new("cargo");
    arm.args(["check", "--quiet", "--package", "tracer", "--target", ARM]);

    Ok(vec![
        ("format", format),
        ("clippy, host", host),
        ("clippy, BPF", bpf_clippy(workspace)?),
        ("docs", docs),
        ("clippy, without Parquet", lean),
        ("check, aarch64", arm),
    ])
}

/// Compiles the object as aya-build does, or clippy would look at other code than what is loaded. A
/// target folder of its own: flags that differ would make the builds undo each other.
fn bpf_clippy(workspace: &Workspace) -> Result<Command> {
    let endian = if cfg!(target_endian = "big") {
        "bpfeb"
    } else {
        "bpfel"
    };
    let mut clippy = toolchain::on_nightly(workspace, "cargo")?;
    clippy
        .args(["clippy", "--package", "tracer-ebpf", "--lib", "--bins"])
        .args(["--release", "--target", &format!("{endian}-unknown-none")])
        .args(["-Z", "build-std=core", "--target-dir"])
        .arg(workspace.target().join("bpf-clippy"))
        .args(["--", "-D", "warnings"])
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!("--cfg=bpf_target_arch=\"{ARCH}\"\x1f-Cdebuginfo=2"),
        )
        // Set by the cargo that runs this xtask; they name the stable toolchain.
        .env_remove("RUSTC")
        .env_remove("RUSTC_WORKSPACE_WRAPPER");
    Ok(clippy)
}

pub(super) fn passes(workspace: &Workspace, mut check: Command) -> Result<bool> {
    if check.get_args().any(|argument| argument == ARM) {
        toolchain::ensure_target(workspace, ARM)?;
    }
    command::succeeds(check.current_dir(workspace.root()))
}

/// Unit, golden, property and doc tests: whatever needs neither root nor nginx.
pub(super) fn host_tests(
    workspace: &Workspace,
    filter: Option<&str>,
    tally: &mut Tally,
) -> Result<bool> {
    let mut tests = Command::new("cargo");
    tests
        .args(["test", "--workspace", "--exclude", "tests"])
        .args(["--no-fail-fast", "--", "--show-output"])
        .args(filter)
        .current_dir(workspace.root());
    tally.follow(&mut tests)
}
