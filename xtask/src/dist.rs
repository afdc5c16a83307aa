//! `cargo xtask dist`: what a release ships, in `target/shipped`: a static binary, a tarball and a
//! .deb around it, their checksums. The binary has to run where no library is, and in the oldest
//! and the newest Debian.

mod package;
mod smoke;

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};

use crate::workspace::Workspace;
use crate::{build, command, setup, toolchain};

/// Build what a release ships, under target/shipped: a static binary, a tarball, a .deb, checksums
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask dist                build, pack, and try the binary in empty, Debian 11 and Debian 13 roots
  cargo xtask dist --no-smoke     no trial, so no root")]
pub(crate) struct Arguments {
    /// Leave out the trial, which needs root
    #[arg(long)]
    no_smoke: bool,
}

/// The systemd unit of the always-on recorder.
const UNIT: &str = "contrib/tracer.service";

/// Bytes that the binary may have.
const LIMIT: u64 = 12_000_000;

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    make(workspace, !arguments.no_smoke)?;
    Ok(ExitCode::SUCCESS)
}

/// The same as a check of `cargo xtask test`.
pub(crate) fn check(workspace: &Workspace) -> Result<bool> {
    make(workspace, true)?;
    Ok(true)
}

fn make(workspace: &Workspace, is_tried: bool) -> Result<()> {
    setup::compiler(workspace)?;
    let binary = binary(workspace)?;
    let bytes = fs::metadata(&binary)
        .with_context(|| format!("the size of {}", binary.display()))?
        .len();
    ensure!(
        bytes <= LIMIT,
        "the binary has {bytes} bytes, more than {LIMIT}"
    );

    let folder = workspace.target().join("shipped");
    let stage = Stage::fill(workspace, &binary, &folder.join("stage"))?;
    let made = package::all(&stage, &folder)?;
    println!("{}: static, {}", stage.binary.display(), megabytes(bytes));
    for file in made {
        println!("{}", file.display());
    }
    if is_tried {
        setup::roots(workspace)?;
        smoke::run(workspace, &package::installed(&stage, &folder)?)?;
    }
    Ok(())
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

/// Builds tracer without any shared library; gives the binary's path.
pub(crate) fn binary(workspace: &Workspace) -> Result<PathBuf> {
    let target = toolchain::ensure_static(workspace)?;
    build::binary(
        workspace,
        "the static tracer (some minutes the first time)",
        &[
            "--profile",
            "dist",
            "--package",
            "tracer",
            "--bin",
            "tracer",
            "--target",
            &target,
        ],
    )
}

/// What Prometheus, Grafana and log shippers take: folders of `contrib`, and their files.
const EXAMPLES: [(&str, &[&str]); 3] = [
    (
        "prometheus",
        &[
            "prometheus.yml",
            "tracer.rules.yml",
            "tracer-dashboard.json",
        ],
    ),
    ("vector", &["tracer.yaml", "tracer.vrl"]),
    ("fluent-bit", &["tracer.yaml"]),
];

/// The files to pack.
struct Stage {
    folder: PathBuf,
    binary: PathBuf,
    version: String,
}

impl Stage {
    fn fill(workspace: &Workspace, binary: &Path, folder: &Path) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
        }
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let own = folder.join("tracer");
        fs::copy(binary, &own).with_context(|| format!("copying {}", binary.display()))?;
        command::run(Command::new(&own).arg("generate").arg(folder))?;
        for name in [
            "README.md",
            "CHANGELOG.md",
            "LICENSE-MIT",
            "LICENSE-APACHE",
            "LICENSE-GPL2",
            UNIT,
        ] {
            let to = folder.join(name);
            let above = to.parent().context("a file of a release is in a folder")?;
            fs::create_dir_all(above)
                .and_then(|()| fs::copy(workspace.root().join(name), &to))
                .with_context(|| format!("copying {name}"))?;
        }
        for (place, names) in EXAMPLES {
            let from = workspace.root().join("contrib").join(place);
            let into = folder.join(place);
            fs::create_dir_all(&into).with_context(|| format!("making {}", into.display()))?;
            for name in names {
                fs::copy(from.join(name), into.join(name))
                    .with_context(|| format!("copying {name}"))?;
            }
        }
        let said = command::output(Command::new(&own).arg("--version"))?;
        let version = said.split_whitespace().nth(1);
        let version = version.with_context(|| format!("the version in `{}`", said.trim()))?;
        Ok(Self {
            folder: folder.to_owned(),
            binary: own,
            version: version.to_owned(),
        })
    }

    /// Debian's word for this architecture.
    fn architecture() -> &'static str {
        match ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
    }
}
