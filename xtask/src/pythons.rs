//! `target/readers`, `target/collector` and `target/spark`: Pythons of their own with programs from
//! PyPI that read what tracer writes, in tests and a benchmark. A host without Python's venv, or
//! without PyPI, goes without; the tests that need one then skip.

use std::fs;
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
    // Rotel is an OpenTelemetry collector, the next two decode what it sends on; the last is the
    // language of Vector.
    Python {
        name: "collector",
        what: "the OpenTelemetry collector and the language of Vector",
        packages: &[
            "rotel==0.0.1a15",
            "opentelemetry-proto==1.45.2",
            "protobuf==7.36.2",
            "vrl-python==0.1.0",
        ],
        megabytes: 20,
    },
];

/// Spark, for a benchmark alone. PyPI has it as a source, and it needs a Java of the machine's.
const SPARK: Python = Python {
    name: "spark",
    what: "Spark",
    packages: &["pyspark==4.3.0", "py4j==0.10.9.9"],
    megabytes: 440,
};

/// Installs what tests use, unless it is there.
pub(crate) fn ensure(workspace: &Workspace) {
    for python in &PYTHONS {
        if let Err(error) = installed(workspace, python, &["--only-binary", ":all:"]) {
            eprintln!("setup: {} left out: {error:#}", python.what);
        }
    }
}

/// Installs Spark.
///
/// # Errors
/// It cannot be installed, or there is no Java.
pub(crate) fn spark(workspace: &Workspace) -> Result<()> {
    let java = command::output(Command::new("java").arg("-version"));
    java.context("Spark needs Java 17 or newer: apt install openjdk-17-jre-headless")?;
    installed(workspace, &SPARK, &[])
}

fn installed(workspace: &Workspace, python: &Python, options: &[&str]) -> Result<()> {
    let folder = workspace.target().join(python.name);
    let stamp = folder.join("packages");
    let wanted = python.packages.join(" ");
    if fs::read_to_string(&stamp).is_ok_and(|stamped| stamped == wanted) {
        return Ok(());
    }
    eprintln!(
        "setup: {wanted} into target/{} (about {} MB to fetch)",
        python.name, python.megabytes
    );
    command::output(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&folder),
    )?;
    let mut pip = Command::new(folder.join("bin/python3"));
    // What else they name as dependencies serves other uses than ours.
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps"]);
    pip.args(options).args(python.packages);
    command::output(&mut pip)?;
    fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))
}
