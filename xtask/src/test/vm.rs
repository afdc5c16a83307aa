//! `cargo xtask test --vm`: the tests crate's own programs in guests with Debian's kernels, under
//! emulation.
//!
//! Everything is fetched from Debian through a private apt state and kept under `target/vm`; delete
//! a folder there to have it fetched again. `BLESS=1` writes docs/notes/kernels.md, of what each
//! program said last on each kernel. A guest that dies, or hangs, is tried once more, and said; a
//! test that fails never is. There are as many guests at a time as this machine has CPUs.

mod heard;
mod image;
mod kernels;
mod machine;
mod results;
mod table;

use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::tally::Tally;
use crate::workspace::Workspace;
use crate::{build, dist, setup, toolchain};
use heard::Heard;
use image::Payload;
use kernels::{KERNELS, Kernel, Unpacked};
use machine::{End, Machine};
use table::{Column, Table};

/// The test programs whose outcome depends on the kernel. The others (logs, nginx's versions, TLS,
/// names, what backends themselves answer, long runs …) run on the host's kernel only: a guest
/// under emulation is some twenty times slower.
const PROGRAMS: [&str; 17] = [
    "backend_closes",
    "backend_dies",
    "backend_stalls",
    "connect_refused",
    "denied",
    "keepalive",
    "limits",
    "mixed",
    "probes",
    "queues",
    "routes",
    "signatures",
    "skipped",
    "start",
    "timeouts",
    "unix_sockets",
    "unreachable",
];

/// Of those, what drives each hook and each fallback, and the accept queues, which kernels show by
/// hooks that they do not share.
const SHORT: [&str; 4] = ["probes", "queues", "signatures", "start"];

/// Of [`SHORT`], what a whole run has on the kernels between the oldest and the newest: each BPF
/// program runs. Their fallbacks are those of one of the two.
const BETWEEN: &str = "each_program_runs";

/// `cargo xtask test --vm`: the guests and nothing else, with all the programs or those of each
/// test.
pub(super) fn run(
    workspace: &Workspace,
    named: &[String],
    filter: Option<&str>,
    is_short: bool,
) -> Result<ExitCode> {
    let programs: &[&str] = if is_short { &SHORT } else { &PROGRAMS };
    let table = guests(workspace, programs, named, |_| filter)?;
    println!("\n{table}");
    if std::env::var_os("BLESS").is_some() {
        results::kept(workspace)?.write(&workspace.root().join("docs/notes/kernels.md"))?;
    }
    Ok(if table.is_right() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What a whole run has of it: the shorter choice of programs, and of those between the oldest and
/// the newest kernel some tests alone.
pub(super) fn check(workspace: &Workspace, tally: &mut Tally) -> Result<bool> {
    let table = guests(workspace, &SHORT, &[], of_whole_run).inspect_err(|_| tally.lost())?;
    println!("\n{table}");
    let is_right = table.is_right();
    for column in table.columns {
        if !column.is_right() && !column.heard.tally.has_failed() {
            tally.lost();
        }
        if of_whole_run(column.kernel).is_some() {
            let count = column.heard.tally.filtered();
            tally.leave_out_tests(&format!("kernel {}", column.kernel), count);
        }
        tally.add(column.kernel, column.heard.tally);
    }
    Ok(is_right)
}

/// The filter of a kernel's tests in a whole run.
fn of_whole_run(kernel: &str) -> Option<&'static str> {
    let is_end = [KERNELS.first(), KERNELS.last()]
        .into_iter()
        .flatten()
        .any(|one| one.name == kernel);
    (!is_end).then_some(BETWEEN)
}

fn guests<'a>(
    workspace: &Workspace,
    programs: &[&str],
    named: &[String],
    filter: impl Fn(&str) -> Option<&'a str> + Sync,
) -> Result<Table> {
    ensure!(
        std::env::consts::ARCH == "x86_64",
        "the guests are Debian's amd64 kernels: run this on x86-64"
    );
    let kernels = chosen(named)?;
    setup::compiler(workspace)?;
    let payload = payload(workspace, programs)?;
    let base = image::base(workspace)?;
    let emulator = machine::emulator(workspace)?;
    let mut waiting = Vec::new();
    for kernel in kernels {
        waiting.push((kernel.name, kernels::ensure(workspace, kernel)?));
    }

    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let at_once = cpus.min(waiting.len());
    let machine = Machine(&emulator);
    waiting.reverse();
    let waiting = Mutex::new(waiting);
    let columns = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    while let Some((kernel, unpacked)) = next(&waiting) {
                        let filter = filter(kernel);
                        let image =
                            image::build(workspace, kernel, &unpacked, &base, &payload, filter)?;
                        let (column, said) = guest(&machine, kernel, unpacked, &image)?;
                        results::keep(workspace, &column, &said, filter)?;
                        lock(&columns).push(column);
                    }
                    Ok(())
                })
            })
            .collect();
        for worker in workers {
            match worker.join() {
                Ok(ended) => ended?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        anyhow::Ok(())
    })?;
    let mut columns = std::mem::take(&mut *lock(&columns));
    columns.sort_by_key(|column| KERNELS.iter().position(|one| one.name == column.kernel));
    Ok(Table { columns })
}

fn next(waiting: &Mutex<Vec<(&'static str, Unpacked)>>) -> Option<(&'static str, Unpacked)> {
    lock(waiting).pop()
}

/// What another thread that panicked held is whole: entries are pushed and popped.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs one guest, and once more if it dies; gives its own words too.
fn guest(
    machine: &Machine<'_>,
    kernel: &'static str,
    unpacked: Unpacked,
    image: &std::path::Path,
) -> Result<(Column, String)> {
    println!("\n== kernel {kernel}: Linux {}", unpacked.release);
    let mut column = Column {
        kernel,
        release: unpacked.release,
        heard: Heard::default(),
        deaths: 0,
        took: Duration::ZERO,
        date: results::today()?,
    };
    let mut said = String::new();
    while column.deaths < 2 {
        // What a guest said before it died counts for nothing.
        column.heard = Heard::default();
        said.clear();
        let end = machine.boot(&unpacked.vmlinuz, image, |line| {
            println!("{kernel:>6} | {line}");
            column.heard.read(line);
            said.push_str(line);
            said.push('\n');
        })?;
        match end {
            End::Ran(took) => {
                println!("\n== kernel {kernel}: {} s", took.as_secs());
                column.took = took;
                break;
            }
            End::Died(how) => {
                column.deaths += 1;
                println!(
                    "\n== kernel {kernel}: GUEST DIED ({} of 2): {how}",
                    column.deaths
                );
            }
        }
    }
    Ok((column, said))
}

fn chosen(named: &[String]) -> Result<Vec<&'static Kernel>> {
    if named.is_empty() {
        return Ok(KERNELS.iter().collect());
    }
    named
        .iter()
        .map(|name| {
            let known = KERNELS.map(|kernel| kernel.name).join(", ");
            KERNELS
                .iter()
                .find(|kernel| kernel.name == name)
                .with_context(|| format!("no kernel `{name}`; there are {known}"))
        })
        .collect()
}

/// Builds what is tested and what tests it, without shared libraries.
fn payload(workspace: &Workspace, programs: &[&str]) -> Result<Payload> {
    let tracer = dist::binary(workspace)?;
    let target = toolchain::ensure_static(workspace)?;
    let mut cargo = Command::new("cargo");
    cargo
        .args(["test", "--package", "tests", "--no-run", "--quiet"])
        .args(["--target", &target, "--bin", "backend"])
        .args(programs.iter().flat_map(|name| ["--test", name]))
        // The guests hold them in memory.
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_PROFILE_DEV_STRIP", "debuginfo");
    let mut payload = Payload {
        programs: vec![("tracer".to_owned(), tracer)],
        tests: Vec::new(),
    };
    for built in build::executables(workspace, "the tests for the guests", &mut cargo)? {
        let name = built.path.file_name().and_then(|name| name.to_str());
        let name = name.context("a test program's name")?.to_owned();
        if !built.is_test {
            payload.programs.push((name, built.path));
        } else if let Some((name, _hash)) = name.rsplit_once('-')
            && programs.contains(&name)
        {
            payload.tests.push((name.to_owned(), built.path));
        }
    }
    payload.tests.sort();
    ensure!(
        payload.tests.len() == programs.len(),
        "some of the tests crate's programs are missing: {}",
        programs.join(", ")
    );
    Ok(payload)
}
