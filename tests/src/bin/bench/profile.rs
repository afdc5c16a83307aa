//! How much of a worker's time is the hooks': samples of where it is (`perf`), with what called it.
//! Requests a second show the same beneath the noise of a shared machine; a share does not depend
//! on how fast the machine is at the moment.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use tests::folder::Folder;
use tests::wait::{PATIENCE, until};
use tests::{process, programs};

use crate::Length;
use crate::beside::Beside;
use crate::figures::{Target, median, spread, told};
use crate::load;
use crate::scene::{Kind, Scene, aside};
use crate::throughput::Random;

/// What runs during the load.
const BESIDE: [Beside; 9] = [
    Beside::Empty,
    Beside::Filter,
    Beside::Behind,
    Beside::Live,
    Beside::Ceiling,
    Beside::Record,
    Beside::Bpftrace,
    Beside::Tcplife,
    Beside::Tcpdump,
];

/// What leads from the kernel to a program at a tracepoint, raw or not, or to a packet socket:
/// nothing else on this path is called so.
const HOOKS: [&str; 10] = [
    "__traceiter_",
    "__bpf_trace_",
    "call_trace_",
    "bpf_trace_run",
    "perf_trace_",
    "trace_call_bpf",
    "bpf_prog_",
    "dev_queue_xmit_nit",
    "packet_rcv",
    "tpacket_rcv",
];
/// A breakpoint of nginx's.
const BREAKPOINTS: [&str; 4] = [
    "asm_exc_int3",
    "exc_int3",
    "uprobe_notify_resume",
    "handle_swbp",
];

/// Prints what share of a worker's time is spent in hooks.
pub(crate) fn run(length: &Length) -> Result<()> {
    if programs::alternative("perf").is_err() {
        println!("\nthere is no perf here: where a worker's time goes is not known");
        return Ok(());
    }
    for (title, row) in [
        (
            "the proxy's, a new upstream connection each",
            Row {
                kind: Kind::Fresh,
                whose: Whose::Proxy,
                rest: 0.98,
            },
        ),
        (
            "the proxy's, kept-alive upstream connections",
            Row {
                kind: Kind::KeepAlive,
                whose: Whose::Proxy,
                rest: 0.99,
            },
        ),
        (
            "the proxy's, every request fails",
            Row {
                kind: Kind::Failing,
                whose: Whose::Proxy,
                rest: 0.93,
            },
        ),
        (
            "another server's, a connection each",
            Row {
                kind: Kind::Fresh,
                whose: Whose::Server,
                rest: 0.99,
            },
        ),
    ] {
        println!("\nwhose time goes where: {title}");
        let mut random = Random::seeded();
        let mut samples: [Vec<Shares>; BESIDE.len()] = Default::default();
        for _ in 0..length.repetitions {
            for at in random.order(BESIDE.len()) {
                let beside = BESIDE[at];
                if !row.has(beside) || (length.alone && beside.is_alternative()) {
                    continue;
                }
                samples[at].extend(one(row, beside, length.seconds)?);
            }
        }
        table(&samples);
        for (beside, samples) in BESIDE.iter().zip(&samples) {
            if matches!(beside, Beside::Live | Beside::Record) && !samples.is_empty() {
                told(
                    &format!("{}: its time that is its own", beside.name()),
                    1.0 - median(samples.iter().map(Shares::all)),
                    "",
                    Target::AtLeast(row.rest),
                );
            }
        }
    }
    Ok(())
}

/// What is measured.
#[derive(Clone, Copy)]
struct Row {
    kind: Kind,
    whose: Whose,
    /// What tracer has to leave of the time, at least.
    rest: f64,
}

/// Whose time is it?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// That of the proxy, which passes requests on.
    Proxy,
    /// That of the server behind it, which is asked directly, and which tracer does not follow.
    Server,
}

impl Row {
    fn has(self, beside: Beside) -> bool {
        match self.whose {
            Whose::Proxy => beside.suits(self.kind),
            Whose::Server => matches!(beside, Beside::Empty | Beside::Filter | Beside::Live),
        }
    }
}

fn table(samples: &[Vec<Shares>]) {
    println!(
        "  {:18} {:>22} {:>14} {:>10}",
        "beside", "of it in hooks", "in breakpoints", "samples"
    );
    for (beside, samples) in BESIDE.iter().zip(samples) {
        if samples.is_empty() {
            continue;
        }
        let all: Vec<f64> = samples.iter().map(Shares::all).collect();
        println!(
            "  {:18} {:>22} {:>14.3} {:>10}",
            beside.name(),
            spread(&all),
            median(samples.iter().map(|one| one.breakpoints)),
            samples.iter().map(|one| one.samples).sum::<usize>(),
        );
    }
    println!("  medians, with quartiles");
}

/// Shares of the worker's time.
struct Shares {
    samples: usize,
    tracepoints: f64,
    breakpoints: f64,
}

impl Shares {
    fn all(&self) -> f64 {
        self.tracepoints + self.breakpoints
    }
}

fn one(row: Row, beside: Beside, seconds: u64) -> Result<Option<Shares>> {
    let scene = Scene::new(row.kind, None)?;
    let Some(running) = beside.start(&scene)? else {
        return Ok(None);
    };
    let (pid, load): (u32, &dyn Fn(u64) -> Result<load::Stretch>) = match row.whose {
        Whose::Proxy => (scene.worker, &|seconds| load::wrk(&scene, seconds, &[])),
        Whose::Server => (scene.server(), &|seconds| load::direct(&scene, seconds)),
    };
    load(1)?;
    let folder = Folder::new()?;
    let file = folder.join("perf");
    let mut perf = record(pid, &file)?;
    let load = load(seconds);
    process::end(&mut perf, libc::SIGINT);
    running.end()?;
    load?;
    let shares = shares(&file)?;
    // Hidden symbols would look like hooks that cost nothing.
    ensure!(
        shares.all() > 0.0 || beside.is_alternative(),
        "no sample of the worker's lies within a hook: does perf see the kernel's symbols (kptr_restrict)?"
    );
    Ok(Some(shares))
}

/// Samples a process until it is interrupted.
fn record(pid: u32, file: &Path) -> Result<Child> {
    let mut command = programs::alternative("perf")?;
    aside(&mut command);
    command
        .args(["record", "-q", "-e", "cpu-clock", "-F", "2000", "-g", "-o"])
        .arg(file)
        .arg("-p")
        .arg(pid.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let child = command.spawn().context("starting perf")?;
    until("perf's samples", PATIENCE, || {
        Ok(std::fs::metadata(file)
            .is_ok_and(|file| file.len() > 0)
            .then_some(()))
    })?;
    Ok(child)
}

/// Each sample is a block of lines, an address and a symbol each.
fn shares(file: &Path) -> Result<Shares> {
    let mut command: Command = programs::alternative("perf")?;
    command.args(["script", "-F", "ip,sym", "-i"]).arg(file);
    let text = programs::output(&mut command)?;
    let (mut samples, mut tracepoints, mut breakpoints) = (0, 0, 0);
    for sample in text.split("\n\n") {
        let leads = |names: &[&str]| {
            let mut symbols = sample
                .lines()
                .filter_map(|line| line.split_whitespace().nth(1));
            symbols.any(|symbol| names.iter().any(|name| symbol.starts_with(name)))
        };
        if sample.trim().is_empty() {
            continue;
        }
        samples += 1;
        if leads(&BREAKPOINTS) {
            breakpoints += 1;
        } else if leads(&HOOKS) {
            tracepoints += 1;
        }
    }
    ensure!(samples > 0, "perf took no sample of the worker");
    let share = |count: usize| count as f64 / samples as f64;
    Ok(Shares {
        samples,
        tracepoints: share(tracepoints),
        breakpoints: share(breakpoints),
    })
}
