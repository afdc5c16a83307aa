//! How often each BPF program of a process has run, as the kernel itself counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::FromRawFd;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::programs;

/// `BPF_ENABLE_STATS` with `BPF_STATS_RUN_TIME`, since 5.8: the kernel counts for as long as this
/// value lives.
#[derive(Debug)]
pub struct Counters {
    _switch: File,
}

const BPF_ENABLE_STATS: i64 = 32;

impl Counters {
    /// Has the kernel count.
    pub fn new() -> Result<Self> {
        let mut attributes = [0u8; 8];
        // SAFETY: the attributes are as long as we say; the kernel only reads them.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_ENABLE_STATS,
                attributes.as_mut_ptr(),
                attributes.len(),
            )
        };
        if fd < 0 {
            return Err(std::io::Error::last_os_error()).context("cannot count BPF programs' runs");
        }
        Ok(Self {
            // SAFETY: the command gives a new descriptor.
            _switch: unsafe { File::from_raw_fd(fd as i32) },
        })
    }

    /// How many runs of its programs the kernel skipped, as they ran already (`recursion_misses`).
    pub fn skipped(&self, pid: u32) -> Result<u64> {
        let held = programs_of(pid)?;
        let of = |program: &Value| {
            let is_held = held.contains(&program["id"].as_u64()?);
            is_held.then(|| program["recursion_misses"].as_u64())?
        };
        Ok(all()?.iter().filter_map(of).sum())
    }

    /// The programs that the process holds, and how often each ran since.
    pub fn of(&self, pid: u32) -> Result<BTreeMap<String, u64>> {
        let held = programs_of(pid)?;
        let runs = all()?.into_iter().filter_map(|program| {
            let name = program["name"].as_str()?.to_owned();
            let runs = program["run_cnt"].as_u64().unwrap_or(0);
            held.contains(&program["id"].as_u64()?)
                .then_some((name, runs))
        });
        Ok(runs.collect())
    }
}

/// The ids of the BPF programs that a process holds, itself or through a link.
pub fn programs_of(pid: u32) -> Result<BTreeSet<u64>> {
    let mut ids = BTreeSet::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let text = std::fs::read_to_string(entry?.path()).unwrap_or_default();
        let id = text.lines().find_map(|line| line.strip_prefix("prog_id:"));
        ids.extend(id.and_then(|id| id.trim().parse::<u64>().ok()));
    }
    Ok(ids)
}

/// The kinds of the BPF links that a process holds, as the kernel names them.
pub fn link_kinds(pid: u32) -> Result<BTreeSet<String>> {
    let mut kinds = BTreeSet::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let text = std::fs::read_to_string(entry?.path()).unwrap_or_default();
        let kind = text
            .lines()
            .find_map(|line| line.strip_prefix("link_type:"));
        kinds.extend(kind.map(|kind| kind.trim().to_owned()));
    }
    Ok(kinds)
}

/// How many instructions the kernel's verifier walked for the programs that a process holds; 0
/// before 5.16, which does not say.
pub fn verified(pid: u32) -> Result<u64> {
    let mut walked = 0;
    for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let text = std::fs::read_to_string(entry?.path()).unwrap_or_default();
        let mut lines = text.lines();
        let count = lines.find_map(|line| line.strip_prefix("verified_insns:"));
        walked += count
            .and_then(|n| n.trim().parse::<u64>().ok())
            .unwrap_or(0);
    }
    Ok(walked)
}

/// The ids of all BPF programs in the kernel.
pub fn all_programs() -> Result<BTreeSet<u64>> {
    Ok(all()?
        .iter()
        .filter_map(|program| program["id"].as_u64())
        .collect())
}

fn all() -> Result<Vec<Value>> {
    let text = programs::output(programs::command("bpftool")?.args(["-j", "prog", "show"]))?;
    Ok(serde_json::from_str(&text)?)
}
