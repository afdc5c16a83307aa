//! Whether a process's copy of nginx's functions has breakpoints in it.
//!
//! A breakpoint is set in a file's inode, and containers of one image show one file by an inode
//! each: what was set through one container's is in the memory of another's processes already.

use std::collections::BTreeSet;

use super::binary::Binary;
use crate::process::{Mapping, foreign};

/// What the kernel puts in an instruction's place: `int3`, or `brk #5` (`BRK64_OPCODE_UPROBES`).
const BREAKPOINT: &[u8] = if cfg!(target_arch = "aarch64") {
    &[0xa0, 0x00, 0x20, 0xd4]
} else {
    &[0xcc]
};
const MAPS_LIMIT: u64 = 1 << 20;

/// The functions of the binary's that have a breakpoint, at one of their entries at least, in the
/// process's memory; none where that can not be read.
#[must_use]
pub(crate) fn breakpoints(pid: u32, binary: &Binary) -> BTreeSet<String> {
    let Ok(maps) = foreign::proc_file(pid, "maps", MAPS_LIMIT) else {
        return BTreeSet::new();
    };
    let Ok(path) = std::fs::read_link(format!("/proc/{pid}/exe")) else {
        return BTreeSet::new();
    };
    let maps = String::from_utf8_lossy(&maps);
    let own: Vec<Mapping<'_>> = maps
        .lines()
        .filter_map(Mapping::parse)
        .filter(|mapping| path.to_str() == Some(mapping.path))
        .collect();
    let is_set = |offset: u64| {
        let address = own.iter().find_map(|mapping| {
            let inside = offset.checked_sub(mapping.offset)?;
            (inside < mapping.end - mapping.start).then_some(mapping.start + inside)
        });
        let bytes = address.and_then(|at| foreign::memory(pid, at, BREAKPOINT.len()).ok());
        bytes.is_some_and(|bytes| bytes == BREAKPOINT)
    };
    let set = binary
        .functions
        .iter()
        .filter(|(_, entries)| entries.all().any(is_set));
    set.map(|(name, _)| name.clone()).collect()
}
