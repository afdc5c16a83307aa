//! Addresses that a worker resolved when its configuration was read: nginx keeps each as text
//! (`ngx_inet_add_addr`, src/core/ngx_inet.c). What is not read is no answer.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use crate::process::{Mapping, foreign};

/// Of a worker so much memory is read.
const MOST: u64 = 64 << 20;
const PIECE: u64 = 1 << 20;
/// Longer than any address.
const OVERLAP: u64 = 64;
const MAPS: u64 = 1 << 20;
/// Addresses that are not asked for.
const OTHERS: usize = 64;
/// Comparisons: a worker chooses what is in its memory, a configuration how many names it has.
const LOOKS: usize = 1 << 28;

/// What a worker's memory names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// Those asked for that are there.
    pub(crate) there: BTreeSet<SocketAddr>,
    /// IPv4 addresses with one of their ports that were not asked for.
    pub(crate) others: BTreeSet<SocketAddr>,
}

/// Searches a worker's memory for these addresses; `None` if not all of it could be read.
#[must_use]
pub(crate) fn remembered(worker: u32, wanted: &[SocketAddr]) -> Option<Remembered> {
    let maps = foreign::proc_file(worker, "maps", MAPS).ok()?;
    let maps = String::from_utf8_lossy(&maps);
    let is_own = |line: &&str| line.split(' ').nth(1) == Some("rw-p");
    let mappings = maps.lines().filter(is_own).filter_map(Mapping::parse);
    let mappings: Vec<_> = mappings
        .filter(|one| one.path.is_empty() || one.path == "[heap]")
        .map(|one| (one.start, one.end))
        .collect();
    let size: u64 = mappings.iter().map(|(start, end)| end - start).sum();
    (size <= MOST).then_some(())?;
    let search = Search::new(wanted);
    let mut found = Remembered::default();
    let mut looks = 0;
    for (start, end) in mappings {
        let mut at = start;
        while at < end {
            let length = (end - at).min(PIECE + OVERLAP);
            let bytes = foreign::memory(worker, at, length as usize).ok()?;
            (bytes.len() as u64 == length).then_some(())?;
            let colons = bytes.iter().filter(|byte| **byte == b':').count();
            looks += colons * wanted.len();
            (looks <= LOOKS).then_some(())?;
            search.look(&bytes, &mut found);
            at += PIECE;
        }
    }
    Some(found)
}

struct Search {
    /// What is before the colon of the port, the port, and what they are of.
    wanted: Vec<(String, String, SocketAddr)>,
    ports: BTreeSet<u16>,
}

impl Search {
    fn new(wanted: &[SocketAddr]) -> Self {
        let text = |address: &SocketAddr| {
            let host = match address.ip() {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            };
            (host, address.port().to_string(), *address)
        };
        Self {
            wanted: wanted.iter().map(text).collect(),
            ports: wanted.iter().map(SocketAddr::port).collect(),
        }
    }

    fn look(&self, bytes: &[u8], found: &mut Remembered) {
        for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b':') {
            let (before, after) = (&bytes[..at], &bytes[at + 1..]);
            if !after.first().is_some_and(u8::is_ascii_digit) {
                continue;
            }
            for (host, port, address) in &self.wanted {
                // nginx's texts have no end: what follows may be the next text's.
                if before.ends_with(host.as_bytes()) && after.starts_with(port.as_bytes()) {
                    found.there.insert(*address);
                }
            }
            if found.others.len() < OTHERS
                && let Some(other) = self.other(before, after)
            {
                found.others.insert(other);
            }
        }
    }

    /// An IPv4 address that is not wanted, with a wanted port, whole as it is written.
    fn other(&self, before: &[u8], after: &[u8]) -> Option<SocketAddr> {
        let digits = after
            .iter()
            .take(6)
            .take_while(|byte| byte.is_ascii_digit());
        let port = std::str::from_utf8(&after[..digits.count()]).ok()?;
        let port: u16 = port.parse().ok()?;
        self.ports.contains(&port).then_some(())?;
        let is_part = |byte: &&u8| byte.is_ascii_digit() || **byte == b'.';
        let length = before.iter().rev().take(16).take_while(is_part).count();
        let ip = std::str::from_utf8(&before[before.len() - length..]).ok()?;
        let ip: Ipv4Addr = ip.parse().ok()?;
        let other = SocketAddr::new(ip.into(), port);
        let is_wanted = self.wanted.iter().any(|(_, _, wanted)| *wanted == other);
        (!is_wanted && !ip.is_unspecified()).then_some(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(bytes: &[u8], wanted: &[&str]) -> (Vec<String>, Vec<String>) {
        let wanted: Vec<SocketAddr> = wanted.iter().map(|one| one.parse().unwrap()).collect();
        let mut found = Remembered::default();
        Search::new(&wanted).look(bytes, &mut found);
        let texts = |set: BTreeSet<SocketAddr>| set.iter().map(ToString::to_string).collect();
        (texts(found.there), texts(found.others))
    }

    #[test]
    fn texts_without_an_end_are_found() {
        let memory = b"xx10.0.0.1:800010.0.0.2:8000\0[::1]:8000y 10.0.0.9:8001";
        let (there, others) = look(memory, &["10.0.0.1:8000", "10.0.0.3:8000", "[::1]:8000"]);
        assert_eq!(there, ["10.0.0.1:8000", "[::1]:8000"]);
        assert_eq!(
            others,
            Vec::<String>::new(),
            "what is not whole is left out"
        );
        let (_, others) = look(b"\x0010.0.0.2:8000\0", &["10.0.0.1:8000"]);
        assert_eq!(others, ["10.0.0.2:8000"]);
    }

    #[test]
    fn this_process_s_memory_is_read() {
        let wanted: SocketAddr = "10.99.88.77:6655".parse().unwrap();
        let text = std::hint::black_box(format!("{wanted}"));
        // Other tests' memory may be more than is read.
        if let Some(found) = remembered(std::process::id(), &[wanted]) {
            assert!(found.there.contains(&wanted));
        }
        drop(text);
    }
}
