//! `tracer doctor`: what this kernel, host and nginx allow.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
};

use anyhow::{Context as _, Result};

use super::session::Kernel;
use crate::{
    kernel::Btf,
    nginx::{self, Binaries, Master},
    probe::{Attached, HOOKS, LoadError, Place, Probes},
};

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
    let mut out = io::stdout().lock();
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
    let mut binaries = Binaries::default();
    let masters = nginx::scan(&mut binaries);
    let mut probes = Probes::load(&args.kernel.btf, 0).context("attaching the hooks")?;
    for master in &masters {
        probes.attach_nginx(&master.exe_access, master.exe_id, &symbols(master));
    }
    writeln!(out, "\nhooks")?;
    for hook in HOOKS {
        let place = match hook.place {
            Place::Tracepoint { name, .. } => format!("tracepoint {name}"),
            Place::Entry(name) => format!("{name}()"),
            Place::Return(name) => format!("{name}() return"),
        };
        match probes.outcome(hook.program) {
            Some(Attached::Stands) => writeln!(
                out,
                "  attached  {:<20} {place}: {}",
                hook.program, hook.gives
            )?,
            Some(Attached::Absent(why)) if probes.absent().contains(&hook.program) => {
                writeln!(out, "  ABSENT    {:<20} {place}: {why}", hook.program)?;
                writeln!(out, "            lost: {}", hook.without)?;
            }
            Some(Attached::Absent(why)) => {
                writeln!(
                    out,
                    "  variant   {:<20} {place}: not needed here, {why}",
                    hook.program
                )?;
            }
            None => writeln!(
                out,
                "  waiting   {:<20} {place}: for an nginx",
                hook.program
            )?,
        }
    }
    for member in probes.missing_members() {
        writeln!(out, "  note      this kernel has no {member}")?;
    }
    writeln!(out, "\nnginx")?;
    if masters.is_empty() {
        writeln!(out, "  none is running; `tracer live` waits for one")?;
    }
    for master in &masters {
        describe(&mut out, master)?;
    }
    Ok(())
}

fn describe(out: &mut impl Write, master: &Master) -> Result<()> {
    let version = master.version.as_deref().unwrap_or("unknown version");
    writeln!(
        out,
        "  master {}: {version}, {} workers, {}",
        master.pid,
        master.workers.len(),
        master.exe.display()
    )?;
    let found = symbols(master);
    for hook in HOOKS {
        if let Place::Entry(function) = hook.place
            && !found.contains_key(function)
        {
            writeln!(out, "    {function} is not exported: {}", hook.without)?;
        }
    }
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
    if nginx::requests_offset(&master.exe_access).is_none() {
        writeln!(
            out,
            "    where it counts requests can not be found: those of one client within one millisecond may be taken for one"
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

fn symbols(master: &Master) -> BTreeMap<String, u64> {
    let functions: Vec<&str> = HOOKS
        .iter()
        .filter_map(|hook| match hook.place {
            Place::Entry(function) | Place::Return(function) => Some(function),
            Place::Tracepoint { .. } => None,
        })
        .collect();
    nginx::offsets(&master.exe_access, &functions).unwrap_or_default()
}
