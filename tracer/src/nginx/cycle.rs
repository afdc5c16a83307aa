//! How many connections a worker uses, of how many: from `ngx_cycle` in its memory (src/core/ngx_cycle.h).
//!
//! The structure grew over time. What is read is believed only if its parts fit each other; else there is no answer.

use std::{fs::File, os::unix::fs::FileExt as _, path::PathBuf};

use object::{Object as _, ObjectSegment as _};

use super::symbols;
use crate::process;

// ngx_cycle_t, the same since 1.9.11.
const FREE_CONNECTIONS: usize = 120;
const FREE_CONNECTION_N: usize = 128;
const REUSABLE_CONNECTIONS_N: usize = 176;
/// `connection_n`: before 1.19.7 or so, and since. It is followed by `files_n` and the array itself.
const CONNECTION_N: [usize; 2] = [480, 488];
const CONNECTIONS: usize = 16;
const LENGTH: usize = 512;
/// `sizeof(ngx_connection_t)` is less.
const CONNECTION_SIZE: u64 = 1024;
/// More than any worker has.
const MOST: u64 = 1 << 24;

/// A worker's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// In use: neither free nor idle ones that nginx takes when it needs one.
    pub used: u64,
    /// `worker_connections`.
    pub limit: u64,
}

/// Where the pointer `ngx_cycle` lies in a process; `None` where that cannot be told.
#[must_use]
pub fn cycle_at(pid: u32) -> Option<u64> {
    let exe = PathBuf::from(format!("/proc/{pid}/exe"));
    let cache = symbols::open(&exe).ok()?;
    let elf = symbols::parse(&cache, &exe).ok()?;
    let symbol = symbols::address(&elf, "ngx_cycle")?;
    let first = elf
        .segments()
        .find_map(|segment| (segment.file_range().0 == 0).then(|| segment.address()))?;
    let path = std::fs::read_link(&exe).ok()?;
    let maps = process::read_start(format!("/proc/{pid}/maps"), 1 << 20).ok()?;
    let maps = String::from_utf8_lossy(&maps);
    let start = maps.lines().find_map(|line| {
        let mut fields = line.splitn(6, ' ');
        let start = fields.next()?.split('-').next()?;
        let is_first = u64::from_str_radix(fields.nth(1)?, 16).ok()? == 0;
        let name = fields.nth(2)?.trim_start();
        (is_first && path.to_str() == Some(name))
            .then(|| u64::from_str_radix(start, 16).ok())
            .flatten()
    })?;
    Some(start.wrapping_sub(first).wrapping_add(symbol))
}

/// The connections of a worker whose `ngx_cycle` lies there; `None` where it is gone or not what is expected.
#[must_use]
pub fn connections(pid: u32, cycle_at: u64) -> Option<Connections> {
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut pointer = [0; 8];
    memory.read_exact_at(&mut pointer, cycle_at).ok()?;
    let mut cycle = [0; LENGTH];
    memory
        .read_exact_at(&mut cycle, u64::from_ne_bytes(pointer))
        .ok()?;
    parse(&cycle)
}

fn parse(cycle: &[u8; LENGTH]) -> Option<Connections> {
    let number = |at: usize| Some(u64::from_ne_bytes(*cycle.get(at..)?.first_chunk()?));
    let next_free = number(FREE_CONNECTIONS)?;
    let (free, reusable) = (number(FREE_CONNECTION_N)?, number(REUSABLE_CONNECTIONS_N)?);
    let fits = |at: &usize| {
        let (limit, array) = (number(*at)?, number(at + CONNECTIONS)?);
        let within = array..array.saturating_add(limit * CONNECTION_SIZE);
        let is_element = (free == 0 && next_free == 0) || within.contains(&next_free);
        (limit > 0 && limit <= MOST && array != 0 && free + reusable <= limit && is_element)
            .then_some(limit)
    };
    let limit = CONNECTION_N.iter().find_map(fits)?;
    Some(Connections {
        used: limit - free - reusable,
        limit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycle(members: &[(usize, u64)]) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        for (at, value) in members {
            bytes[*at..at + 8].copy_from_slice(&value.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn both_layouts_are_read() {
        for at in CONNECTION_N {
            let cycle = cycle(&[
                (FREE_CONNECTIONS, 0x5000_0000 + 232),
                (FREE_CONNECTION_N, 100),
                (REUSABLE_CONNECTIONS_N, 12),
                (at, 512),
                (at + CONNECTIONS, 0x5000_0000),
            ]);
            let (used, limit) = (400, 512);
            assert_eq!(parse(&cycle), Some(Connections { used, limit }));
        }
    }

    #[test]
    fn what_does_not_fit_is_no_answer() {
        assert_eq!(parse(&[0; LENGTH]), None);
        let elsewhere = cycle(&[
            (FREE_CONNECTIONS, 0x9000_0000),
            (FREE_CONNECTION_N, 100),
            (CONNECTION_N[0], 512),
            (CONNECTION_N[0] + CONNECTIONS, 0x5000_0000),
        ]);
        assert_eq!(parse(&elsewhere), None);
    }
}
