//! `target/readers` and `target/collector`: Pythons of their own with programs from PyPI that read
//! in the tests what tracer writes. A host without Python's venv, or without PyPI, goes without; the
//! tests that need one then skip.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command;
use crate::workspace::Workspace;

/// A folder below `target`, and what it has.
struct Python {
    name: &'static str,
    what: &'static str,
    packages: &'static [&'static str],
    /// To fetch.
    megabytes: u32,
}

const PYTHONS: [Python; 2] = [
    // chDB is ClickHouse in a library; it will not start without pyarrow.
    Python {
        name: "readers",
        what: "the readers of Parquet",
        packages: &["duckdb==2.0.0", "chdb-core-lite==26.5.0", "pyarrow==26.0.1"],
        megabytes: 125,
    },
    // Rotel is an OpenTelemetry collector; the others decode what it sends on.
    Python {
        name: "collector",
        what: "the OpenTelemetry collector",
        packages: &[
            "rotel==0.0.1a15",
            "opentelemetry-proto==1.45.2",
            "protobuf==7.36.2",
        ],
        megabytes: 11,
    },
];

/// Installs them, unless they are there.
pub(crate) fn ensure(workspace: &Workspace) {
    for python in &PYTHONS {
        let folder = workspace.target().join(python.name);
        let stamp = folder.join("packages");
        let wanted = python.packages.join(" ");
        if fs::read_to_string(&stamp).is_ok_and(|stamped| stamped == wanted) {
            continue;
        }
        eprintln!(
            "setup: {wanted} into target/{} (about {} MB to fetch)",
            python.name, python.megabytes
        );
        let made = install(&folder, python.packages).and_then(|()| {
            fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))
        });
        if let Err(error) = made {
            eprintln!("setup: {} left out: {error:#}", python.what);
        }
    }
}

fn install(folder: &Path, packages: &[&str]) -> Result<()> {
    command::output(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(folder),
    )?;
    let mut pip = Command::new(folder.join("bin/python3"));
    // What else they name as dependencies serves other uses than ours.
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
    ]);
    pip.args(packages);
    command::output(&mut pip)?;
    Ok(())
}
