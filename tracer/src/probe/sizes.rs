//! How large the kernel side's maps are: by the host's CPUs, within a share of its memory. What a
//! full map drops is what was used least of late; what a full ring drops is counted.

use std::{fmt, fs, num::NonZero, thread};

/// Entries of the maps that grow with the host, and bytes of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Bytes of the ring buffer, a power of two.
    pub ring: u32,
    /// Open upstream connections.
    pub connections: u32,
    /// Requests in flight.
    pub requests: u32,
}

/// A failed request's records take 1.7 KB, a worker that does nothing else fails some 13,000 a
/// second: a tenth of a second of a CPU each.
const RING_PER_CPU: u64 = 2 << 20;
const RING: std::ops::RangeInclusive<u64> = (4 << 20)..=(64 << 20);
/// nginx's default is 512 connections a worker, busy proxies have 16,384: half of them lead
/// upstream.
const CONNECTIONS_PER_CPU: u64 = 16 << 10;
const CONNECTIONS: std::ops::RangeInclusive<u64> = (64 << 10)..=(1 << 20);
/// Bytes of kernel memory a connection, with what the map adds.
const CONNECTION: u64 = 448;
/// The connections' map takes at most this part of the host's memory.
const PART: u64 = 128;

/// A failed request with all that is known of it takes eight times its records; half of the
/// limit is for requests in flight.
const RINGS: u64 = 16;
const LEAST_MEMORY: u64 = 64 << 20;

impl Sizes {
    /// Returns those of this host; `ring` sets the ring's size where it is given.
    #[must_use]
    pub(crate) fn of_host(ring: Option<u64>) -> Self {
        let cpus = thread::available_parallelism().map_or(1, NonZero::get);
        let sizes = Self::fitting(cpus as u64, memory().unwrap_or(4 << 30));
        let asked = ring.and_then(|bytes| u32::try_from(bytes.next_power_of_two()).ok());
        Self {
            ring: asked.unwrap_or(sizes.ring),
            ..sizes
        }
    }

    /// Bytes of its own that the collector may hold if nobody says otherwise: what a full ring
    /// becomes while the host is asked.
    #[must_use]
    pub(crate) fn memory(&self) -> u64 {
        (u64::from(self.ring) * RINGS).max(LEAST_MEMORY)
    }

    /// Those of a host with so many CPUs and bytes of memory.
    #[must_use]
    pub(crate) fn fitting(cpus: u64, memory: u64) -> Self {
        let ring = cpus * RING_PER_CPU;
        let connections = (cpus * CONNECTIONS_PER_CPU).min(memory / PART / CONNECTION);
        let connections = power(connections, &CONNECTIONS);
        Self {
            ring: power(ring, &RING),
            connections,
            requests: connections / 4,
        }
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ring {} KiB, {} open upstream connections, {} requests under way",
            self.ring >> 10,
            self.connections,
            self.requests
        )
    }
}

fn power(value: u64, range: &std::ops::RangeInclusive<u64>) -> u32 {
    let value = value
        .next_power_of_two()
        .clamp(*range.start(), *range.end());
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Bytes of memory that this host has.
fn memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_host_has_the_least_and_a_large_one_grows_to_a_million_connections() {
        let of = |cpus, gibibytes: u64| {
            let sizes = Sizes::fitting(cpus, gibibytes << 30);
            (
                sizes.ring >> 20,
                sizes.connections >> 10,
                sizes.requests >> 10,
            )
        };
        assert_eq!(of(1, 1), (4, 64, 16));
        assert_eq!(of(2, 8), (4, 64, 16));
        assert_eq!(of(16, 64), (32, 256, 64));
        assert_eq!(of(64, 256), (64, 1024, 256));
        assert_eq!(Sizes::fitting(2, 8 << 30).memory(), 64 << 20);
        assert_eq!(Sizes::fitting(64, 256 << 30).memory(), 1 << 30);
        // Many CPUs and little memory.
        assert_eq!(of(64, 2), (64, 64, 16));
    }
}
