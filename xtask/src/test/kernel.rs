//! The tests crate: real nginx, real faults, the running kernel. Cargo builds it as the calling
//! user; the finished test programs run as root.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::tally::Tally;
use crate::workspace::Workspace;
use crate::{build, privilege};

/// One privileged command for all test programs: a program that fails does not stop the next.
const EACH: &str = r#"
filter=$1; shift
status=0
for program in "$@"; do
    printf '\n     Running %s\n' "$program"
    "$program" --show-output --test-threads=2 ${filter:+"$filter"} || status=1
done
exit $status
"#;

pub(super) fn tests(
    workspace: &Workspace,
    filter: Option<&str>,
    tally: &mut Tally,
) -> Result<bool> {
    let (tracer, programs) = built(workspace, &[]).inspect_err(|_| tally.lost())?;
    let mut run =
        privilege::as_root("env", "run the real-kernel tests").inspect_err(|_| tally.lost())?;
    run.args(environment(workspace, &tracer)?)
        .args(["sh", "-c", EACH, "sh"])
        .arg(filter.unwrap_or_default())
        .args(programs)
        // Where cargo itself would run them.
        .current_dir(workspace.root().join("tests"));
    tally.follow(&mut run)
}

/// The tracer under test and the test programs, those that `which` asks cargo for.
pub(super) fn built(workspace: &Workspace, which: &[&str]) -> Result<(PathBuf, Vec<PathBuf>)> {
    let tracer = build::release(workspace)?;
    let mut cargo = Command::new("cargo");
    cargo
        .args(["test", "--package", "tests", "--no-run"])
        .args(which);
    let built = build::executables(workspace, &mut cargo)?;
    let mut programs: Vec<PathBuf> = built
        .into_iter()
        .filter(|one| one.is_test)
        .map(|one| one.path)
        .collect();
    // Cargo names them as they get ready: another order each time.
    programs.sort();
    Ok((tracer, programs))
}

/// What the tests and the demo are told, as arguments of env(1):
///
/// - `TRACER_BIN`: the tracer under test;
/// - `TRACER_TEST_ROOT`: the tree of unpacked packages, see [`crate::tree`];
/// - `OPENSSL_CONF`: that tree's openssl looks for its configuration on the host otherwise;
/// - `PATH`: the caller's, which sudo replaces.
pub(crate) fn environment(workspace: &Workspace, tracer: &Path) -> Result<Vec<OsString>> {
    let tree = workspace.tree();
    let set = |name: &str, value: OsString| {
        let mut assignment = OsString::from(name);
        assignment.push("=");
        assignment.push(value);
        assignment
    };
    let mut assignments = vec![
        set("TRACER_BIN", tracer.into()),
        set("TRACER_TEST_ROOT", tree.clone().into()),
        set("OPENSSL_CONF", tree.join("etc/ssl/openssl.cnf").into()),
    ];
    for name in ["PATH", "CI", "RUST_BACKTRACE"] {
        assignments.extend(std::env::var_os(name).map(|value| set(name, value)));
    }
    Ok(assignments)
}
