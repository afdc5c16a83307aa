//! `cargo xtask test --vm`: the tests crate's own programs in guests with Debian's kernels, under emulation.
//!
//! Everything is fetched from Debian through a private apt state and kept under `target/vm`; delete a folder there to
//! have it fetched anew. A guest that dies, or hangs, is tried once more, and said; a test that fails never is.

mod image;
mod kernels;
mod machine;
mod table;

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};

use crate::workspace::Workspace;
use crate::{build, dist, setup, toolchain};
use image::Payload;
use kernels::{KERNELS, Kernel};
use machine::End;
use table::Table;

/// The test programs whose outcome depends on the kernel. The others (logs, nginx's versions, TLS, names, long runs …)
/// run on the host's kernel only: a guest under emulation is some twenty times slower.
const PROGRAMS: [&str; 14] = [
    "backend_closes",
    "backend_dies",
    "backend_stalls",
    "connect_refused",
    "denied",
    "keepalive",
    "limits",
    "passed_through",
    "probes",
    "queues",
    "routes",
    "timeouts",
    "unix_sockets",
    "unreachable",
];

/// Runs the guests one after the other.
pub(super) fn run(
    workspace: &Workspace,
    named: &[String],
    filter: Option<&str>,
) -> Result<ExitCode> {
    ensure!(
        std::env::consts::ARCH == "x86_64",
        "the guests are Debian's amd64 kernels: run this on x86-64"
    );
    let kernels = chosen(named)?;
    setup::compiler(workspace)?;
    let payload = payload(workspace)?;
    let base = image::base(workspace)?;
    let emulator = machine::emulator(workspace)?;

    let mut table = Table::default();
    for kernel in kernels {
        let unpacked = kernels::ensure(workspace, kernel)?;
        let image = image::build(workspace, kernel.name, &unpacked, &base, &payload, filter)?;
        table.begin(kernel.name);
        println!("\n== kernel {}: Linux {}", kernel.name, unpacked.release);
        let mut end = machine::boot(&emulator, &unpacked.vmlinuz, &image, |line| {
            table.read(kernel.name, line);
        })?;
        if let End::Died(how) = end {
            println!("GUEST DIED: kernel {}: {how}; once more", kernel.name);
            table.died(kernel.name);
            end = machine::boot(&emulator, &unpacked.vmlinuz, &image, |line| {
                table.read(kernel.name, line);
            })?;
        }
        match end {
            End::Ran(elapsed) => println!("kernel {}: {} s", kernel.name, elapsed.as_secs()),
            End::Died(how) => {
                println!("GUEST DIED AGAIN: kernel {}: {how}", kernel.name);
                table.died(kernel.name);
            }
        }
    }
    println!("\n{table}");
    if std::env::var_os("BLESS").is_some() && filter.is_none() && named.is_empty() {
        table.write(&workspace.root().join("docs/kernels.md"))?;
    }
    Ok(if table.is_right() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
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
fn payload(workspace: &Workspace) -> Result<Payload> {
    let tracer = dist::binary(workspace)?;
    let target = toolchain::ensure_static(workspace)?;
    let mut cargo = Command::new("cargo");
    cargo
        .args(["test", "--package", "tests", "--no-run", "--quiet"])
        .args(["--target", &target, "--bin", "backend"])
        .args(PROGRAMS.iter().flat_map(|name| ["--test", name]))
        // The guests hold them in memory.
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_PROFILE_DEV_STRIP", "debuginfo");
    let mut payload = Payload {
        programs: vec![("tracer".to_owned(), tracer)],
        tests: Vec::new(),
    };
    for built in build::executables(workspace, &mut cargo)? {
        let name = built.path.file_name().and_then(|name| name.to_str());
        let name = name.context("a test program's name")?.to_owned();
        if !built.is_test {
            payload.programs.push((name, built.path));
        } else if let Some((name, _hash)) = name.rsplit_once('-')
            && PROGRAMS.contains(&name)
        {
            payload.tests.push((name.to_owned(), built.path));
        }
    }
    payload.tests.sort();
    ensure!(
        payload.tests.len() == PROGRAMS.len(),
        "some of the tests crate's programs are missing: {}",
        PROGRAMS.join(", ")
    );
    Ok(payload)
}
