//! `cargo xtask test`: every check there is. A failed check does not stop the ones after it; the
//! end has each check's result and time, each skip, and the counts on the last line.

mod builds;
mod checks;
mod deny;
mod kernel;
mod tally;
mod vm;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{demo, dist, install, instructions, setup, toolchain};
use kernel::Selection;
pub(crate) use kernel::environment;
use tally::Tally;

/// Format, clippy (host and BPF), docs, instruction counts, unit, property and real-kernel tests,
/// the static binary, guests
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask test            everything; the last line is the count
  cargo xtask test --quick    what takes few minutes of it; names what is left out
  cargo xtask test refused    only the tests whose name contains `refused`
  cargo xtask test --vm       the real-kernel tests on Debian's kernels from 5.10 on, in guests
  cargo xtask test refused --vm 5.10 6.1
  cargo xtask test --builds   the faults on nginx as compiled in every way we know of")]
pub(crate) struct Arguments {
    /// Run only the tests whose name contains this, and no other check
    filter: Option<String>,
    /// Run the real-kernel tests in guests with these kernels (all if none is named), and nothing
    /// else: more of them than without this
    #[arg(long, value_name = "KERNEL", num_args = 0..)]
    vm: Option<Vec<String>>,
    /// Build nginx in many ways (all if none is named), run the faults on each, and nothing else;
    /// all of them write docs/builds.md
    #[arg(long, value_name = "BUILD", num_args = 0.., conflicts_with_all = ["vm", "filter"])]
    builds: Option<Vec<String>>,
    /// Leave out what takes long: guests, builds, optimised binaries, the longest tests
    #[arg(long, conflicts_with_all = ["vm", "builds", "filter"])]
    quick: bool,
    /// In the guests run only what each hook and each fallback is driven by
    #[arg(long, requires = "vm")]
    short: bool,
}

/// A check, whether it passed, and the time it took.
struct Outcome {
    check: &'static str,
    passed: bool,
    took: Duration,
}

/// The checks that are one command each and part of `--quick`.
const QUICK: [&str; 3] = ["format", "clippy, host", "clippy, BPF"];

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    let filter = arguments.filter.as_deref();
    if let Some(kernels) = &arguments.vm {
        return vm::run(workspace, kernels, filter, arguments.short);
    }
    if let Some(builds) = &arguments.builds {
        return builds::run(workspace, builds);
    }
    let mut tally = Tally::default();
    let mut outcomes = vec![attempt("setup", || {
        let builds = if arguments.quick {
            Vec::new()
        } else {
            builds::short(filter)?
        };
        setup::tests(workspace, &builds)?;
        Ok(true)
    })];
    if filter.is_none() {
        toolchain::ensure_checkers(workspace)?;
        for (check, command) in checks::all(workspace)? {
            if arguments.quick && !QUICK.contains(&check) {
                tally.leave_out(check);
            } else {
                outcomes.push(attempt(check, || checks::passes(workspace, command)));
            }
        }
    }
    outcomes.push(attempt("unit, property and doc tests", || {
        checks::host_tests(workspace, filter, &mut tally)
    }));
    let selection = match filter {
        Some(filter) => Selection::Named(filter),
        None if arguments.quick => Selection::Quick,
        None => Selection::All,
    };
    outcomes.push(attempt("real-kernel tests", || {
        kernel::tests(workspace, selection, &mut tally)
    }));
    if selection == Selection::All {
        for (check, run) in WHOLE {
            outcomes.push(attempt(check, || run(workspace)));
        }
        outcomes.push(attempt(GUESTS, || vm::check(workspace, &mut tally)));
    } else if selection == Selection::Quick {
        let checks = WHOLE.iter().map(|(check, _)| *check);
        checks
            .chain([GUESTS])
            .for_each(|check| tally.leave_out(check));
    }

    Ok(summarise(&outcomes, &tally))
}

type Check = fn(&Workspace) -> Result<bool>;

/// What only a whole run has.
const WHOLE: [(&str, Check); 5] = [
    ("licences, duplicates, advisories", deny::check),
    ("instructions a connection", instructions::check),
    ("the demo", demo::check),
    ("static binary", dist::check),
    ("installed binary", install::check),
];
const GUESTS: &str = "Debian's kernels, in guests";

/// A check that cannot even run has failed: its reason is said here, the others still run.
fn attempt(check: &'static str, run: impl FnOnce() -> Result<bool>) -> Outcome {
    println!("\n== {check}");
    let started = Instant::now();
    let passed = run().unwrap_or_else(|error| {
        eprintln!("xtask: {check}: {error:#}");
        false
    });
    Outcome {
        check,
        passed,
        took: started.elapsed(),
    }
}

fn summarise(outcomes: &[Outcome], tally: &Tally) -> ExitCode {
    println!("\n== summary");
    for outcome in outcomes {
        let word = if outcome.passed { "ok" } else { "FAILED" };
        let seconds = outcome.took.as_secs_f64();
        println!("{word:>6}  {seconds:>7.1} s  {}", outcome.check);
    }
    let all: Duration = outcomes.iter().map(|outcome| outcome.took).sum();
    println!("        {:>7.1} s  in all", all.as_secs_f64());
    for (seconds, program) in tally.slowest() {
        println!("        {seconds:>7.1} s  of them {program}");
    }
    for skip in tally.skips() {
        println!("  skip  {skip}");
    }
    for left_out in tally.left_out() {
        println!("   out  {left_out}");
    }
    println!("{tally}");
    if outcomes.iter().all(|outcome| outcome.passed) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
