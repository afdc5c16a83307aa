//! `cargo xtask test`: every check there is. A failed check does not stop the ones after it; the end
//! names those that failed, repeats each skip, and gives the counts on the last line.

mod builds;
mod checks;
mod kernel;
mod tally;
mod vm;

use std::process::ExitCode;

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{dist, instructions, setup, toolchain};
pub(crate) use kernel::environment;
use tally::Tally;

/// Format, clippy (host and BPF), docs, instruction counts, unit, property and real-kernel tests, the static binary, guests
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask test            everything; the last line is the count
  cargo xtask test refused    only the tests whose name contains `refused`
  cargo xtask test --vm       the real-kernel tests on Debian's kernels from 5.10 on, in guests
  cargo xtask test refused --vm 5.10 6.1
  cargo xtask test --builds   the faults on nginx as compiled in every way we know of")]
pub(crate) struct Arguments {
    /// Run only the tests whose name contains this, and no other check
    filter: Option<String>,
    /// Run the real-kernel tests in guests with these kernels (all if none is named), and nothing else: more of them than
    /// without this
    #[arg(long, value_name = "KERNEL", num_args = 0..)]
    vm: Option<Vec<String>>,
    /// Build nginx in many ways (all if none is named), run the faults on each, and nothing else; all of them write
    /// docs/builds.md
    #[arg(long, value_name = "BUILD", num_args = 0.., conflicts_with_all = ["vm", "filter"])]
    builds: Option<Vec<String>>,
    /// In the guests run only what each hook and each fallback is driven by
    #[arg(long, requires = "vm")]
    short: bool,
}

/// A check and whether it passed.
struct Outcome {
    check: &'static str,
    passed: bool,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    let filter = arguments.filter.as_deref();
    if let Some(kernels) = &arguments.vm {
        return vm::run(workspace, kernels, filter, arguments.short);
    }
    if let Some(builds) = &arguments.builds {
        return builds::run(workspace, builds);
    }
    setup::everything(workspace)?;
    setup::backends(workspace)?;
    setup::builds(workspace, &builds::short(filter)?)?;
    let mut outcomes = Vec::new();
    if filter.is_none() {
        toolchain::ensure_checkers(workspace)?;
        toolchain::ensure_target(workspace, checks::ARM)?;
        for (check, command) in checks::all(workspace)? {
            outcomes.push(attempt(check, || checks::passes(workspace, command)));
        }
    }
    let mut tally = Tally::default();
    outcomes.push(attempt("unit, property and doc tests", || {
        checks::host_tests(workspace, filter, &mut tally)
    }));
    if filter.is_none() {
        outcomes.push(attempt("instructions a connection", || {
            instructions::check(workspace)
        }));
    }
    outcomes.push(attempt("real-kernel tests", || {
        kernel::tests(workspace, filter, &mut tally)
    }));

    if filter.is_none() {
        outcomes.push(attempt("static binary", || dist::check(workspace)));
        outcomes.push(attempt("Debian's kernels, in guests", || {
            vm::check(workspace, &mut tally)
        }));
    }

    Ok(summarise(&outcomes, &tally))
}

/// A check that cannot even run has failed: its reason is said here, the others still run.
fn attempt(check: &'static str, run: impl FnOnce() -> Result<bool>) -> Outcome {
    println!("\n== {check}");
    let passed = run().unwrap_or_else(|error| {
        eprintln!("xtask: {check}: {error:#}");
        false
    });
    Outcome { check, passed }
}

fn summarise(outcomes: &[Outcome], tally: &Tally) -> ExitCode {
    println!("\n== summary");
    for outcome in outcomes {
        let word = if outcome.passed { "ok" } else { "FAILED" };
        println!("{word:>6}  {}", outcome.check);
    }
    for skip in tally.skips() {
        println!("  skip  {skip}");
    }
    println!("{tally}");
    if outcomes.iter().all(|outcome| outcome.passed) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
