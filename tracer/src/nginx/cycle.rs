//! How many connections a worker uses, of how many: from `ngx_cycle` in its memory
//! (src/core/ngx_cycle.h).
//!
//! The structure grew over time. What is read is believed only if its parts fit each other; else
//! there is no answer.

use super::binary::Binary;
use crate::process::foreign;

/// Where an `ngx_cycle_t` has its members.
struct Layout {
    /// `free_connections`, followed by `free_connection_n`.
    free: usize,
    /// `reusable_connections_n`
    reusable: usize,
    /// `connection_n`, followed by `files_n` and the array itself.
    all: usize,
}

/// Since 1.9.11, since 1.19.7 or so, and with the larger `ngx_log_t` of 1.30.
const LAYOUTS: [Layout; 3] = [
    Layout {
        free: 120,
        reusable: 176,
        all: 480,
    },
    Layout {
        free: 120,
        reusable: 176,
        all: 488,
    },
    Layout {
        free: 160,
        reusable: 216,
        all: 528,
    },
];
const LENGTH: usize = 560;
/// `sizeof(ngx_connection_t)` is less.
const CONNECTION_SIZE: u64 = 1024;
/// More than any worker has.
const MOST: u64 = 1 << 24;

/// A worker's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connections {
    /// In use: neither free nor idle ones that nginx takes when it needs one.
    pub used: u64,
    /// `worker_connections`.
    pub limit: u64,
}

/// Where the pointer `ngx_cycle` lies in a process that runs this binary; `None` where that is not
/// known.
#[must_use]
pub(crate) fn cycle_at(pid: u32, binary: &Binary) -> Option<u64> {
    binary.in_process(pid, binary.cycle?)
}

/// The connections of a worker whose `ngx_cycle` lies there; `None` where it is gone or not what is
/// expected.
#[must_use]
pub(crate) fn connections(pid: u32, cycle_at: u64) -> Option<Connections> {
    let pointer = foreign::memory(pid, cycle_at, 8).ok()?;
    let pointer = u64::from_ne_bytes(pointer.try_into().ok()?);
    let cycle = foreign::memory(pid, pointer, LENGTH).ok()?;
    parse(cycle.first_chunk()?)
}

fn parse(cycle: &[u8; LENGTH]) -> Option<Connections> {
    LAYOUTS.iter().find_map(|layout| {
        let number = |at: usize| Some(u64::from_ne_bytes(*cycle.get(at..)?.first_chunk()?));
        let (next_free, free) = (number(layout.free)?, number(layout.free + 8)?);
        let (limit, array) = (number(layout.all)?, number(layout.all + 16)?);
        let reusable = number(layout.reusable)?;
        let unused = free.checked_add(reusable)?;
        let within = array..array.saturating_add(limit.saturating_mul(CONNECTION_SIZE));
        let is_element = (free == 0 && next_free == 0) || within.contains(&next_free);
        let fits = limit > 0 && limit <= MOST && array != 0 && unused <= limit && is_element;
        fits.then_some(Connections {
            used: limit.saturating_sub(unused),
            limit,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycle(layout: &Layout, next_free: u64) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        for (at, value) in [
            (layout.free, next_free),
            (layout.free + 8, 100),
            (layout.reusable, 12),
            (layout.all, 512),
            (layout.all + 16, 0x5000_0000),
        ] {
            bytes[at..at + 8].copy_from_slice(&u64::to_ne_bytes(value));
        }
        bytes
    }

    #[test]
    fn each_layout_is_read() {
        let (used, limit) = (400, 512);
        for layout in &LAYOUTS {
            let cycle = cycle(layout, 0x5000_0000 + 232);
            assert_eq!(parse(&cycle), Some(Connections { used, limit }));
        }
    }

    #[test]
    fn what_does_not_fit_is_no_answer() {
        assert_eq!(parse(&[0; LENGTH]), None);
        for layout in &LAYOUTS {
            assert_eq!(parse(&cycle(layout, 0x9000_0000)), None);
        }
    }
}
