//! `tracer doctor`: what this kernel, host and nginx allow.

use std::{fs, io::Write};

use super::{found::found, session::Kernel};
use crate::{
    kernel::Btf,
    nginx::{self, Binaries, Master},
    probe::{Attached, ICMP_RECEIVE, LoadError, Probes, SIGHTS, Sight, Sizes, Way},
    say::Lines,
    source::{Described, host::IcmpListener, try_seccomp},
};
use anyhow::{Context as _, Result};

/// Arguments of `tracer doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    kernel: Kernel,
}

/// Runs it.
///
/// # Errors
/// Not permitted, or this kernel can not; what could be found out was printed before.
pub(super) fn run(args: &Args) -> Result<()> {
    let mut out = Lines::to_stdout();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    writeln!(out, "kernel   {}", release.trim())?;
    match Btf::read(&args.kernel.btf) {
        Ok(_) => writeln!(out, "BTF      {}", args.kernel.btf.display())?,
        Err(error) => {
            writeln!(out, "BTF      absent: without it no hook can be attached")?;
            return Err(LoadError::NoBtf(error).into());
        }
    }
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    if lockdown.contains("[confidentiality]") {
        writeln!(
            out,
            "lockdown confidentiality: BPF may not read kernel memory; boot with lockdown=integrity"
        )?;
    }
    let sizes = Sizes::of_host(None);
    writeln!(out, "sizes    {sizes}")?;
    writeln!(
        out,
        "memory   {} MiB of its own at most (--max-memory): towards it healthy connections, then failures are only counted",
        sizes.memory() >> 20
    )?;
    if let Err(error) = try_seccomp() {
        writeln!(
            out,
            "seccomp  not available ({error}): tracer runs without its filter of system calls"
        )?;
    }
    let mut binaries = Binaries::default();
    let masters = nginx::scan(|_, _| true, &mut binaries);
    let mut probes = Probes::load(&args.kernel.btf, 0, &args.kernel.without, &sizes, false)
        .context("attaching the hooks")?;
    for master in &masters {
        let described = Described::of(master.clone(), args.kernel.layout);
        described.attach(&mut probes, master.shown(), true);
    }
    writeln!(out)?;
    writeln!(out, "hooks")?;
    for sight in SIGHTS {
        tell(&mut out, &probes, sight)?;
    }
    tell_icmp(&mut out, &masters)?;
    for member in probes.missing_members() {
        writeln!(out, "  note      this kernel has no {member}")?;
    }
    writeln!(out)?;
    writeln!(out, "nginx")?;
    if masters.is_empty() {
        writeln!(out, "  none is running; `tracer live` waits for one")?;
    }
    for master in &masters {
        describe(&mut out, master)?;
        for line in found(master, args.kernel.layout) {
            writeln!(out, "    {line}")?;
        }
    }
    Ok(())
}

/// By which way something is seen, and why not by a better one.
fn tell(out: &mut Lines<impl Write>, probes: &Probes, sight: &Sight) -> Result<()> {
    let (word, way) = match probes.way(sight) {
        Some(0) => ("attached", sight.ways[0]),
        Some(way) => ("fallback", sight.ways[way]),
        None if !probes.absent().contains(&sight.name) => ("waiting", sight.ways[0]),
        None if sight.instead.is_some() => ("inferred", sight.ways[0]),
        None => ("LOST", sight.ways[0]),
    };
    let text = match (word, sight.instead) {
        ("waiting", _) => "for an nginx",
        ("inferred", Some(instead)) => instead,
        _ => sight.gives,
    };
    writeln!(
        out,
        "  {word:<8}  {:<16} {}: {text}",
        sight.name,
        place(way)
    )?;
    let is_aside = |name| probes.outcome(name) == Some(&Attached::Aside);
    if way.iter().any(|hook| is_aside(hook.program)) {
        writeln!(
            out,
            "              stands aside: each error_log lets errors through, and no upstream is a unix socket"
        )?;
    }
    for way in sight.ways {
        let why = way
            .iter()
            .find_map(|hook| match probes.outcome(hook.program) {
                Some(Attached::Absent(why)) => Some(why),
                _ => None,
            });
        if let Some(why) = why {
            writeln!(out, "              not by {}: {why}", place(way))?;
        }
    }
    if matches!(word, "inferred" | "LOST") {
        writeln!(out, "              so {}", sight.without)?;
    }
    Ok(())
}

/// Whether ICMP errors can be heard here, and where nginx runs.
fn tell_icmp(out: &mut Lines<impl Write>, masters: &[Master]) -> Result<()> {
    let mut listener = IcmpListener::default();
    listener.follow(std::process::id());
    for master in masters {
        listener.follow(master.pid);
    }
    let name = ICMP_RECEIVE.name;
    let Some(why) = listener.deaf() else {
        let gives = ICMP_RECEIVE.gives;
        writeln!(out, "  attached  {name:<16} {gives}")?;
        return Ok(());
    };
    writeln!(out, "  LOST      {name:<16} {why}")?;
    writeln!(out, "              so {}", ICMP_RECEIVE.without)?;
    Ok(())
}

/// `fentry tcp_v4_send_reset, tcp_v6_send_reset`.
fn place(way: Way) -> String {
    let kind = way.first().map_or("", |hook| hook.place.kind());
    let mut names: Vec<&str> = way.iter().map(|hook| hook.place.name()).collect();
    names.dedup();
    format!("{kind} {}", names.join(", "))
}

fn describe(out: &mut Lines<impl Write>, master: &Master) -> Result<()> {
    let version = master.version.as_deref().unwrap_or("unknown version");
    writeln!(
        out,
        "  master {}: {version}, {} workers, {}",
        master.pid,
        master.workers.len(),
        master.exe.display()
    )?;
    let errno = master
        .workers
        .first()
        .or(Some(&master.pid))
        .and_then(|&pid| nginx::errno_offset(pid));
    if errno.is_none() {
        writeln!(
            out,
            "    errno can not be found in its libc: connect() failures need error_log at `error`"
        )?;
    }
    let logs: Vec<String> = master
        .workers
        .first()
        .map(|&worker| {
            nginx::appended(worker)
                .iter()
                .map(|path| path.display().to_string())
                .collect()
        })
        .unwrap_or_default();
    if logs.is_empty() {
        writeln!(
            out,
            "    no log file is open: verdicts go without request lines (--error-log adds one)"
        )?;
    } else {
        writeln!(out, "    logs {}", logs.join(", "))?;
    }
    Ok(())
}
