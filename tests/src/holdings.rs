//! What a running tracer holds: nothing of it may grow with what comes and goes.

use anyhow::{Context, Result};

/// Counts of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// All its descriptors.
    pub descriptors: usize,
    /// BPF maps.
    pub maps: usize,
    /// BPF links: what attaches a program.
    pub links: usize,
    /// Sockets.
    pub sockets: usize,
    /// Resident memory, in KiB.
    pub memory: u64,
}

impl Holdings {
    /// What the process holds now.
    pub fn of(pid: u32) -> Result<Self> {
        let mut held = Self {
            descriptors: 0,
            maps: 0,
            links: 0,
            sockets: 0,
            memory: resident(pid)?,
        };
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
            let entry = entry?;
            held.descriptors += 1;
            let number = entry.file_name();
            let info = format!("/proc/{pid}/fdinfo/{}", number.to_string_lossy());
            // One that is closed meanwhile is of neither kind.
            let info = std::fs::read_to_string(info).unwrap_or_default();
            let has = |name: &str| info.lines().any(|line| line.starts_with(name));
            held.maps += usize::from(has("map_id:"));
            held.links += usize::from(has("link_id:"));
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            held.sockets += usize::from(target.to_string_lossy().starts_with("socket:"));
        }
        Ok(held)
    }

    /// So many more of each, except memory.
    #[must_use]
    pub fn plus(self, more: usize) -> Self {
        Self {
            descriptors: self.descriptors + more,
            maps: self.maps + more,
            links: self.links + more,
            sockets: self.sockets + more,
            memory: self.memory,
        }
    }

    /// Whether no more is held than in `other`, except memory.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.descriptors <= other.descriptors
            && self.maps <= other.maps
            && self.links <= other.links
            && self.sockets <= other.sockets
    }
}

/// Memory that a process holds, in KiB.
pub fn resident(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.context("no VmRSS")?.parse().context("no number")
}
