//! The tests crate: real nginx, real faults, the running kernel. Cargo builds it as the calling
//! user; the finished test programs run as root.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::Result;

use super::tally::Tally;
use crate::workspace::Workspace;
use crate::{build, command, privilege};

/// One privileged command for all test programs: a program that fails does not stop the next. So
/// many at a time, as they mostly wait; each one's output is printed whole when it ends.
const EACH: &str = r#"
filter=$1 at_once=$2; shift 2
work=$(mktemp -d)
export filter work
printf '%s\n' "$@" | xargs -d '\n' -P "$at_once" -n 1 sh -c '
    said=$work/${0##*/}
    printf "\n     Running %s\n" "$0" >"$said"
    "$0" --show-output --test-threads=2 ${filter:+"$filter"} >>"$said" 2>&1
    status=$?
    flock "$work" cat "$said"
    exit $status
'
status=$?
rm -r "$work"
exit $status
"#;

/// The programs that measure time or memory, count every nginx of the host, or fill it with
/// thousands of processes: these run one at a time, after the others, in this order.
const ALONE: [&str; 7] = [
    "latency",
    "flood",
    "lifecycle",
    "long_run",
    "manners",
    "many_lives",
    "false_nginx",
];

/// Which of the real-kernel tests run.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Selection<'a> {
    All,
    /// Those whose name contains this.
    Named(&'a str),
    /// Without [`SLOW`], on an unoptimised tracer.
    Quick,
}

/// The test programs that take longest, and those that need an optimised tracer.
const SLOW: [&str; 12] = [
    "as_a_service",
    "behind_a_bridge",
    "behind_nat",
    "builds",
    "captures",
    "flood",
    "latency",
    "lifecycle",
    "long_run",
    "masked",
    "probes",
    "versions",
];

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
    // The longest first, so that none is left at the end.
    programs.sort_by_key(|program| !SLOW.contains(&name(program)));
    let turn = |program: &PathBuf| ALONE.iter().position(|one| *one == name(program));
    let (mut alone, others): (Vec<_>, Vec<_>) = programs
        .into_iter()
        .partition(|program| turn(program).is_some());
    alone.sort_by_key(turn);
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let mut passed = true;
    for (programs, at_once) in [(others, cpus), (alone, 1)] {
        if programs.is_empty() {
            continue;
        }
        let mut run =
            privilege::as_root("env", "run the real-kernel tests").inspect_err(|_| tally.lost())?;
        run.args(environment(workspace, &tracer)?)
            .args(["sh", "-c", EACH, "sh"])
            .arg(match selection {
                Selection::Named(filter) => filter,
                Selection::All | Selection::Quick => "",
            })
            .arg(at_once.to_string())
            .args(programs)
            // Where cargo itself would run them.
            .current_dir(workspace.root().join("tests"));
        passed &= tally.follow(&mut run)?;
    }
    Ok(passed)
}

/// A test program's name, without cargo's hash.
fn name(program: &Path) -> &str {
    let file = program.file_name().and_then(|name| name.to_str());
    let name = file.and_then(|file| Some(file.rsplit_once('-')?.0));
    name.unwrap_or_default()
}

fn without_slow(programs: Vec<PathBuf>, tally: &mut Tally) -> Result<Vec<PathBuf>> {
    let is_slow = |program: &PathBuf| SLOW.contains(&name(program));
    let (slow, kept) = programs.into_iter().partition::<Vec<_>, _>(is_slow);
    for program in slow {
        let list = command::output(Command::new(&program).args(["--list", "--format=terse"]))?;
        let tests = list.lines().filter(|line| line.ends_with(": test"));
        tally.leave_out_tests(name(&program), tests.count() as u64);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_are_named_are_there() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tests");
        for name in SLOW.iter().chain(&ALONE) {
            assert!(folder.join(name).with_extension("rs").is_file(), "{name}");
        }
    }

    #[test]
    fn a_program_is_known_without_cargos_hash() {
        assert_eq!(name(Path::new("/t/deps/long_run-0a1b2c")), "long_run");
    }
}
