//! `target/readers`: a Python of its own with the programs that read tracer's Parquet tables in the
//! tests, from PyPI. A host without Python's venv, or without PyPI, goes without; the test that
//! needs it then skips.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command;
use crate::workspace::Workspace;

/// chDB is ClickHouse in a library; it will not start without pyarrow.
const PACKAGES: [&str; 3] = ["duckdb==2.0.0", "chdb-core-lite==26.5.0", "pyarrow==26.0.1"];

/// Installs them, unless they are there.
pub(crate) fn ensure(workspace: &Workspace) {
    let folder = workspace.target().join("readers");
    let stamp = folder.join("packages");
    let wanted = PACKAGES.join(" ");
    if fs::read_to_string(&stamp).is_ok_and(|stamped| stamped == wanted) {
        return;
    }
    eprintln!("setup: {wanted} into target/readers (about 125 MB to fetch)");
    let made = install(&folder).and_then(|()| {
        fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))
    });
    if let Err(error) = made {
        eprintln!("setup: the readers of Parquet are left out: {error:#}");
    }
}

fn install(folder: &Path) -> Result<()> {
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
    pip.args(PACKAGES);
    command::output(&mut pip)?;
    Ok(())
}
