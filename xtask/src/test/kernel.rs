//! The tests crate: real nginx, real faults, the running kernel. Cargo builds it as the calling
//! user; the finished test programs run as root.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::tally::Tally;
use crate::workspace::Workspace;
use crate::{build, command, privilege};

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

/// Which of the real-kernel tests run.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Selection<'a> {
    All,
    /// Those whose name contains this.
    Named(&'a str),
    /// Without [`SLOW`], on an unoptimised tracer.
    Quick,
}

/// The test programs that take longest.
const SLOW: [&str; 0] = [];

pub(super) fn tests(
    workspace: &Workspace,
    selection: Selection<'_>,
    tally: &mut Tally,
) -> Result<bool> {
    let tracer = match selection {
        Selection::All | Selection::Named(_) => build::release(workspace),
        Selection::Quick => build::binary(workspace, "tracer", &["--package", "tracer"]),
    };
    let tracer = tracer.inspect_err(|_| tally.lost())?;
    let mut programs = built(workspace, &[]).inspect_err(|_| tally.lost())?;
    if selection == Selection::Quick {
        programs = without_slow(programs, tally)?;
    }
    let filter = match selection {
        Selection::Named(filter) => filter,
        Selection::All | Selection::Quick => "",
    };
    let mut run =
        privilege::as_root("env", "run the real-kernel tests").inspect_err(|_| tally.lost())?;
    run.args(environment(workspace, &tracer)?)
        .args(["sh", "-c", EACH, "sh"])
        .arg(filter)
        .args(programs)
        // Where cargo itself would run them.
        .current_dir(workspace.root().join("tests"));
    tally.follow(&mut run)
}

fn without_slow(programs: Vec<PathBuf>, tally: &mut Tally) -> Result<Vec<PathBuf>> {
    let mut kept = Vec::new();
    for program in programs {
        let name = program.file_name().and_then(|name| name.to_str());
        let name = name.and_then(|name| Some(name.rsplit_once('-')?.0));
        if let Some(name) = name.filter(|name| SLOW.contains(name)) {
            let list = command::output(Command::new(&program).args(["--list", "--format=terse"]))?;
            let tests = list.lines().filter(|line| line.ends_with(": test"));
            tally.leave_out_tests(name, tests.count() as u64);
        } else {
            kept.push(program);
        }
    }
    Ok(kept)
}

/// The test programs, those that `which` asks cargo for.
pub(super) fn built(workspace: &Workspace, which: &[&str]) -> Result<Vec<PathBuf>> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["test", "--package", "tests", "--no-run", "--quiet"])
        .args(which);
    let built = build::executables(workspace, "the real-kernel tests", &mut cargo)?;
    let mut programs: Vec<PathBuf> = built
        .into_iter()
        .filter(|one| one.is_test)
        .map(|one| one.path)
        .collect();
    // Cargo names them as they get ready: another order each time.
    programs.sort();
    Ok(programs)
}

/// The environment of the tests and the demo, as arguments of env(1):
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
