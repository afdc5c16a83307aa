//! What each hook costs: the kernel's own count of runs and nanoseconds (`bpf_stats`), which itself costs most of what an
//! empty program seems to.

use std::os::fd::{FromRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::programs;

use crate::Length;
use crate::beside::Beside;
use crate::figures::{Target, told};
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
    name: String,
    runs: f64,
    nanoseconds: f64,
}

/// The programs that a process holds: by its descriptors, which the kernel lists with their numbers.
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
            name: name.unwrap_or("?").to_owned(),
            runs: runs as f64,
            nanoseconds: time as f64,
        });
    }
    ensure!(!counts.is_empty(), "process {pid} holds no BPF program");
    Ok(counts)
}

/// Prints each hook's runs and cost a request.
pub(crate) fn run(length: &Length) -> Result<()> {
    for (title, kind) in [
        ("a new upstream connection each", Kind::Fresh),
        ("kept-alive upstream connections", Kind::KeepAlive),
        ("every request fails", Kind::Failing),
    ] {
        let scene = Scene::new(kind, None)?;
        let running = Beside::Live.start(&scene)?.context("no tracer")?;
        load::wrk(&scene, 1, &[])?;
        let counting = counting()?;
        let before = counts(running.pid())?;
        let stretch = load::wrk(&scene, length.seconds, &[running.pid()])?;
        let after = counts(running.pid())?;
        drop(counting);
        running.end()?;
        println!("\nhooks, {title}: {:.0} requests/s", stretch.rate);
        println!(
            "  {:24} {:>14} {:>12} {:>14}",
            "program", "runs/request", "ns a run", "ns a request"
        );
        let mut total = 0.0;
        for now in &after {
            let Some(then) = before.iter().find(|one| one.name == now.name) else {
                continue;
            };
            let (runs, time) = (now.runs - then.runs, now.nanoseconds - then.nanoseconds);
            if runs > 0.0 {
                println!(
                    "  {:24} {:>14.2} {:>12.0} {:>14.0}",
                    now.name,
                    runs / stretch.requests,
                    time / runs,
                    time / stretch.requests
                );
                total += time;
            }
        }
        told(
            "all hooks, a request",
            total / stretch.requests,
            "ns",
            Target::None,
        );
    }
    Ok(())
}
