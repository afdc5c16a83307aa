//! `cargo xtask bench`: figures with their targets, from real nginx and real captures. A figure
//! that misses its target fails the task.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum as _;

use crate::workspace::Workspace;
use crate::{build, command, instructions, privilege, setup, test, tree};

/// Measure: each figure is printed with its target
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench                     all of them, about an hour
  cargo xtask bench --quick             shorter and coarser, about ten minutes
  cargo xtask bench fresh keepalive     only these
  cargo xtask bench fleet               Parquet of 1,000 hosts and 24 hours: DuckDB, chDB and Spark
  cargo xtask bench capture             bytes a connection on disk, speed and memory of explain and report")]
pub(crate) struct Arguments {
    /// Only these
    #[arg(value_enum)]
    what: Vec<What>,
    /// Fewer and shorter repetitions: coarse, for a first look
    #[arg(long)]
    quick: bool,
    /// Compare with the sham only, not with bpftrace, tcplife, tcpdump, strace and nginx's debug
    /// log
    #[arg(long)]
    alone: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Throughput and CPU per request, a new upstream connection each
    Fresh,
    /// The same with kept-alive upstream connections
    Keepalive,
    /// The same with every request failing
    Failing,
    /// Every request failing of an nginx whose functions begin with `endbr64` (Debian 13's)
    #[value(name = "failing-endbr64")]
    FailingMarked,
    /// What each hook costs, as the kernel counts it (bpf_stats)
    Hooks,
    /// What share of the proxy's time, and of another server's, is spent in hooks (perf)
    Profile,
    /// p99 at 70 % of the peak rate
    Latency,
    /// Another server's connections, and system calls
    Unrelated,
    /// exec to `tracing`, a 502 to its verdict, Ctrl-C to the end
    Waiting,
    /// exec to `tracing`, a 502 to its verdict, with 100 masters and 1,000 workers on the host
    Crowd,
    /// Memory with 10,000 upstream connections open
    Memory,
    /// A ring of next to nothing: what is lost is counted exactly
    Loss,
    /// Every request fails for a minute
    Flood,
    /// Ten minutes of `record` at saturation
    Soak,
    /// Bytes a healthy connection takes in a capture; speed and memory of `tracer explain` and
    /// `tracer report`
    Capture,
    /// Parquet tables of 1,000 hosts and 24 hours, read by DuckDB, chDB and Spark; only by name
    Fleet,
    /// Instructions the collector takes for a healthy connection, with those committed (BLESS=1
    /// writes them)
    Instructions,
}

impl What {
    /// What the tests crate's `bench` program knows it by; `None`: it is measured otherwise.
    fn name(self) -> Option<String> {
        let value = self.to_possible_value()?;
        (!matches!(self, Self::Capture | Self::Fleet | Self::Instructions))
            .then(|| value.get_name().to_owned())
    }
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    setup::bench(workspace)?;
    let chosen: &[What] = match &arguments.what[..] {
        [] => What::value_variants(),
        chosen => chosen,
    };
    // It fetches half a gigabyte: only who asks for it.
    let is_fleet = arguments.what.contains(&What::Fleet);
    let names: Vec<String> = chosen.iter().filter_map(|what| what.name()).collect();
    let mut met = true;
    if chosen.contains(&What::Instructions) {
        met &= instructions::check(workspace)?;
    }
    if !names.is_empty() {
        met &= running(workspace, &build::release(workspace)?, &names, arguments)?;
    }
    if chosen.contains(&What::Capture) {
        met &= capture(workspace, &build::release(workspace)?)?;
    }
    if is_fleet {
        met &= fleet(workspace, arguments.quick)?;
    }
    Ok(if met {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What is measured on the running system.
fn running(
    workspace: &Workspace,
    tracer: &Path,
    names: &[String],
    arguments: &Arguments,
) -> Result<bool> {
    let alternatives = tree::alternatives::ensure(workspace)?;
    let bench = build::binary(
        workspace,
        "the benchmarks",
        &["--release", "--package", "tests", "--bin", "bench"],
    )?;
    let mut command = privilege::as_root("env", "attach to the kernel and load nginx")?;
    command
        .args(test::environment(workspace, tracer)?)
        .arg(assignment("TRACER_BENCH_ROOT", &alternatives))
        .arg(bench)
        .args(names);
    for (option, is_set) in [("--quick", arguments.quick), ("--alone", arguments.alone)] {
        if is_set {
            command.arg(option);
        }
    }
    command::succeeds(&mut command)
}

fn capture(workspace: &Workspace, tracer: &Path) -> Result<bool> {
    let multiply = build::binary(
        workspace,
        "what multiplies captures",
        &["--release", "--package", "tracer", "--example", "multiply"],
    )?;
    let bench = build::binary(
        workspace,
        "the benchmark of captures",
        &["--package", "tests", "--bin", "bench_capture"],
    )?;
    let mut command = privilege::as_root("env", "attach to the kernel and dump packets")?;
    command
        .args(test::environment(workspace, tracer)?)
        .arg(assignment("MULTIPLY", &multiply))
        .arg(bench);
    command::succeeds(&mut command)
}

fn fleet(workspace: &Workspace, is_quick: bool) -> Result<bool> {
    setup::fleet(workspace)?;
    let tracer = build::release(workspace)?;
    let bench = build::binary(
        workspace,
        "the benchmark of a fleet",
        &["--package", "tests", "--bin", "bench_fleet"],
    )?;
    let mut command = privilege::as_root("env", "attach to the kernel and load nginx")?;
    command
        .args(test::environment(workspace, &tracer)?)
        .arg(bench);
    if is_quick {
        command.arg("--quick");
    }
    command::succeeds(&mut command)
}

fn assignment(name: &str, value: &Path) -> OsString {
    let mut assignment = OsString::from(name);
    assignment.push("=");
    assignment.push(value);
    assignment
}
