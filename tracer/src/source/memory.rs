//! What this process holds of its own, without its files and what the kernel shares with it (the
//! ring), and how much of its ceiling that leaves.

use std::{fs::File, io, os::unix::fs::FileExt as _};

/// Bytes of this process in memory, its files' and shared ones included.
pub(crate) fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Its ceiling, and how much it holds.
#[derive(Debug)]
pub(super) struct Memory {
    ceiling: u64,
    /// `None` where /proc does not say: nothing is held to a ceiling then.
    statm: Option<File>,
    page: u64,
}

impl Memory {
    /// Within so many bytes.
    pub(super) fn new(ceiling: u64) -> Self {
        Self {
            ceiling,
            statm: File::open("/proc/self/statm").ok(),
            page: rustix::param::page_size() as u64,
        }
    }

    /// How far it is from half of the ceiling, 0.0, to all of it, 1.0.
    pub(super) fn pressure(&self) -> f64 {
        let used = self.used().unwrap_or(0) as f64;
        let half = self.ceiling as f64 / 2.0;
        ((used - half) / half).max(0.0)
    }

    /// Bytes.
    fn used(&self) -> io::Result<u64> {
        let mut text = [0; 128];
        let Some(statm) = &self.statm else {
            return Ok(0);
        };
        let length = statm.read_at(&mut text, 0)?;
        // Pages: all of the address space, those in memory, of them those of files and shared ones.
        let text = String::from_utf8_lossy(&text[..length]);
        let mut pages = text.split(' ').skip(1).map(|number| number.parse::<u64>());
        match (pages.next(), pages.next()) {
            (Some(Ok(resident)), Some(Ok(shared))) => {
                Ok(resident.saturating_sub(shared) * self.page)
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Bytes.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 128 << 10;

/// For a process that holds little: one heap, not one for each thread that was there for a moment.
pub(super) fn keep_together() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        // Set, it does not grow with what is freed: a large piece goes back to the kernel at once.
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// What was freed goes back to the kernel; glibc keeps it for a next time that may never come.
pub(super) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it only touches memory that is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_presses_and_what_is_given_back_does_not() {
        const MUCH: usize = 64 << 20;
        let before = Memory::new(0).used().unwrap();
        let taken = vec![1_u8; MUCH];
        let memory = Memory::new(before + MUCH as u64);
        assert!(memory.pressure() > 0.0, "{before} {:?}", memory.used());
        assert_eq!(Memory::new(16 * (before + MUCH as u64)).pressure(), 0.0);
        drop(taken);
        give_back();
        let after = memory.used().unwrap();
        assert!(after < before + MUCH as u64 / 2, "{before} {after}");
    }
}
