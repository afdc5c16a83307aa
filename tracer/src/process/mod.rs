//! One process of the host, as `/proc` shows it now.
//!
//! Every read is bounded, and a process may vanish between two of them: all of these give an error
//! (or `None`) then, never a half-read answer. Pids are the host's (the ones of the `/proc` that
//! tracer sees).

mod bounded;
pub(crate) mod foreign;
mod guest;
mod ids;
pub(crate) mod keeper;
mod maps;
pub(crate) mod netns;
mod status;
mod unit;

pub(crate) use self::{
    bounded::{NO_PROCESS, bounded, bounded_by, prepare_with, stalling},
    guest::Guest,
    ids::Ids,
    maps::Mapping,
    netns::Netns,
    status::{Status, age, has_lost_its_leader, name, start_time, status},
    unit::{unified_path, unit, unit_of},
};

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

/// Bytes; what `/proc` shows is seldom longer.
const PAGE: u64 = 4096;

/// At most `limit` bytes from the start of a file.
///
/// # Errors
/// Those of opening and reading it; for a vanished process that is `ENOENT` or `ESRCH`.
pub(crate) fn read_start(path: impl AsRef<Path>, limit: u64) -> io::Result<Vec<u8>> {
    // In one read, mostly: by itself a vector begins with 32 bytes.
    let mut bytes = Vec::with_capacity(limit.min(PAGE) as usize);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether this kernel sets `mm_struct.start_code` to the first address of a program's code, as
/// newer ones do, or of all that it maps (`load_elf_binary`, fs/binfmt_elf.c). Shown by this
/// process, which has something before its code.
#[must_use]
pub(crate) fn starts_at_code() -> bool {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let start = stat.rsplit_once(')').and_then(|(_, rest)| {
        let start: u64 = rest.split_ascii_whitespace().nth(23)?.parse().ok()?;
        Some(start)
    });
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut mappings = maps.lines().filter_map(Mapping::parse);
    start.is_none_or(|start| {
        mappings.any(|mapping| mapping.is_code && (mapping.start..mapping.end).contains(&start))
    })
}

/// Where the file that this process runs has its first instruction, in bytes from its beginning.
#[must_use]
pub(crate) fn own_entry() -> Option<u64> {
    // SAFETY: no preconditions.
    let entry = unsafe { libc::getauxval(libc::AT_ENTRY) };
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let mut mappings = maps.lines().filter_map(Mapping::parse);
    mappings.find_map(|mapping| {
        let inside = entry.checked_sub(mapping.start)?;
        (entry < mapping.end && mapping.is_code).then(|| mapping.offset + inside)
    })
}

/// A random number of the kernel's.
#[must_use]
pub(crate) fn random_number() -> u32 {
    u32::from_ne_bytes(random())
}

/// Random bytes of the kernel's, at most 256: so many come whole.
#[must_use]
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // It fails for none but a kernel without it, which runs no BPF ring buffer either.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes
}

/// Is this process in the host's own pid namespace (`PROC_PID_INIT_INO`, include/linux/proc_ns.h)?
/// Elsewhere pids are other numbers than those that the kernel side sees.
#[must_use]
pub(crate) fn is_in_first_pid_namespace() -> bool {
    let link = std::fs::read_link("/proc/self/ns/pid");
    link.is_ok_and(|link| link.to_str() == Some("pid:[4026531836]"))
}

/// The children of a process, of all its threads; none if it is gone.
#[must_use]
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let of_thread = |thread: std::fs::DirEntry| {
        let bytes = read_start(thread.path().join("children"), CHILDREN_LIMIT).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    threads
        .flatten()
        .take(THREADS)
        .filter_map(of_thread)
        .flat_map(|text| {
            let pids = text
                .split_ascii_whitespace()
                .filter_map(|pid| pid.parse().ok());
            pids.collect::<Vec<u32>>()
        })
        .collect()
}

/// nginx forks from its one thread; another program may have many.
const THREADS: usize = 16;
/// More children than nginx has.
const CHILDREN_LIMIT: u64 = 256 << 10;

/// For the fuzz targets: reads a file of `/proc/PID`, whatever it is.
pub fn read_proc(text: &str) {
    status::read(text);
    unit::read(text);
    for mapping in text.lines().filter_map(Mapping::parse) {
        assert!(mapping.start <= mapping.end, "{mapping:?}");
    }
}

/// The pids of the host now, ascending.
///
/// # Errors
/// `/proc` cannot be read.
pub(crate) fn pids() -> io::Result<Vec<u32>> {
    let mut pids: Vec<u32> = std::fs::read_dir("/proc")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    Ok(pids)
}
