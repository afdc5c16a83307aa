//! What each hook costs: the kernel's own count of runs and nanoseconds (`bpf_stats`), which itself
//! costs most of what an empty program seems to.

use std::os::fd::{FromRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::programs;

use crate::Length;
use crate::beside::Beside;
use crate::figures::{Target, median, spread, told};
use crate::load;
use crate::scene::{Kind, Scene};

const BPF_ENABLE_STATS: libc::c_long = 32;

/// Has the kernel count while the descriptor lives.
pub(crate) fn counting() -> Result<OwnedFd> {
    // union bpf_attr: enable_stats.type = BPF_STATS_RUN_TIME.
    let attr = [0u64; 16];
    // SAFETY: the attribute outlives the call, which reads it.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_ENABLE_STATS,
            attr.as_ptr(),
            size_of_val(&attr),
        )
    };
    ensure!(
        fd >= 0,
        "BPF_ENABLE_STATS: {}",
        std::io::Error::last_os_error()
    );
    // SAFETY: a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) })
}

/// A program, and what the kernel counted of it so far.
struct Counted {
    id: u64,
    name: String,
    runs: f64,
    nanoseconds: f64,
}

/// The programs that a process holds: by its descriptors, which the kernel lists with their
/// numbers.
fn counts(pid: u32) -> Result<Vec<Counted>> {
    let text = programs::output(programs::command("bpftool")?.args(["-j", "prog", "show"]))?;
    let all: Value = serde_json::from_str(&text).context("reading bpftool's list")?;
    let mut counts = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let info = std::fs::read_to_string(entry?.path()).unwrap_or_default();
        let number = |name: &str| -> Option<u64> {
            let line = info.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse().ok()
        };
        let (Some(id), Some(runs), Some(time)) = (
            number("prog_id:"),
            number("run_cnt:"),
            number("run_time_ns:"),
        ) else {
            continue;
        };
        let program = all.as_array().into_iter().flatten();
        let mut named = program.filter(|program| program["id"] == id);
        let name = named.next().and_then(|program| program["name"].as_str());
        counts.push(Counted {
            id,
            name: name.unwrap_or("?").to_owned(),
            runs: runs as f64,
            nanoseconds: time as f64,
        });
    }
    ensure!(!counts.is_empty(), "process {pid} holds no BPF program");
    Ok(counts)
}

/// Prints each hook's runs and cost a request; and what a run costs, compared with empty programs.
pub(crate) fn run(length: &Length) -> Result<()> {
    const FRESH: &str = "a new upstream connection each";
    for (title, kind, beside) in [
        (FRESH, Kind::Fresh, Beside::Elsewhere),
        (FRESH, Kind::Fresh, Beside::Live),
        (
            "kept-alive upstream connections",
            Kind::KeepAlive,
            Beside::Live,
        ),
        ("every request fails", Kind::Failing, Beside::Live),
    ] {
        let scene = Scene::new(kind, None)?;
        let hooks = measured(beside, &scene, length.seconds)?;
        let hooks = hooks.context("no tracer")?;
        let name = beside.name();
        println!("\n{name}, {title}: {:.0} requests/s", hooks.load.rate);
        println!(
            "  {:24} {:>14} {:>12} {:>14}",
            "program", "runs/request", "ns a run", "ns a request"
        );
        let requests = hooks.load.requests;
        for one in &hooks.programs {
            println!(
                "  {:24} {:>14.2} {:>12.0} {:>14.0}",
                one.name,
                one.runs / requests,
                one.nanoseconds / one.runs,
                one.nanoseconds / requests
            );
        }
        told(
            "all hooks, a request",
            hooks.nanoseconds() / requests,
            "ns",
            Target::None,
        );
    }
    runs(length)
}

/// What a run costs on average, against empty programs on the same hooks: where no connection is
/// followed, and where the proxy's are, which half of the runs are about.
fn runs(length: &Length) -> Result<()> {
    println!("\na run of a hook, a new upstream connection each");
    let (mut filter, mut elsewhere, mut live) = (vec![], vec![], vec![]);
    for _ in 0..length.repetitions {
        let scene = Scene::new(Kind::Fresh, None)?;
        let a_run = |beside| -> Result<Option<f64>> {
            Ok(measured(beside, &scene, length.seconds)?.map(|hooks| hooks.a_run()))
        };
        let Some(empty) = a_run(Beside::Empty)? else {
            println!("  there is no bpftrace here: no empty programs to compare with");
            return Ok(());
        };
        filter.extend(a_run(Beside::Filter)?.map(|run| run / empty));
        elsewhere.extend(a_run(Beside::Elsewhere)?.map(|run| run / empty));
        live.extend(a_run(Beside::Live)?.map(|run| run / empty));
    }
    for (who, ratios, target) in [
        ("programs that ask for the pid", filter, Target::None),
        ("not followed", elsewhere, Target::AtMost(1.5)),
        ("the proxy's followed", live, Target::AtMost(4.0)),
    ] {
        println!(
            "  {:52} {:>12}",
            format!("{who}: times an empty run"),
            spread(&ratios)
        );
        told(
            &format!("{who}: times an empty run, median"),
            median(ratios),
            "",
            target,
        );
    }
    Ok(())
}

/// What the programs of one process did in a stretch of load.
struct Hooks {
    load: load::Stretch,
    programs: Vec<Counted>,
}

impl Hooks {
    fn nanoseconds(&self) -> f64 {
        self.programs.iter().map(|one| one.nanoseconds).sum()
    }

    /// Nanoseconds of a mean run.
    fn a_run(&self) -> f64 {
        self.nanoseconds() / self.programs.iter().map(|one| one.runs).sum::<f64>()
    }
}

/// `None`: this host does not have what is to run during the load.
fn measured(beside: Beside, scene: &Scene, seconds: u64) -> Result<Option<Hooks>> {
    let Some(running) = beside.start(scene)? else {
        return Ok(None);
    };
    load::wrk(scene, 1, &[])?;
    let counting = counting()?;
    let before = counts(running.pid())?;
    let load = load::wrk(scene, seconds, &[running.pid()])?;
    let mut programs = counts(running.pid())?;
    drop(counting);
    running.end()?;
    for now in &mut programs {
        if let Some(then) = before.iter().find(|one| one.id == now.id) {
            now.runs -= then.runs;
            now.nanoseconds -= then.nanoseconds;
        }
    }
    programs.retain(|one| one.runs > 0.0);
    Ok(Some(Hooks { load, programs }))
}
