//! The BPF object, as the running kernel takes it.
//!
//! Breakpoints of nginx's functions are attached by links of their own kind (`uprobe.multi`, since
//! 6.6): they are detached several times sooner than perf events, and need no `CAP_SYS_ADMIN`. How
//! a program is attached is in its section's name, which a kernel without such links is not shown.

use std::io;

use aya::sys::{UProbeMultiFeature, is_uprobe_multi_supported};

/// What build.rs made of `tracer-ebpf`, compressed.
static BUILT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tracer-ebpf.zst"));
/// More bytes than it has.
const LIMIT: usize = 4 << 20;

/// These links, as `--without` names them.
pub(super) const MULTI: &str = "uprobe-multi";

/// The sections of the programs, as a string table holds their names.
const NAMES: [&[u8]; 2] = [b"uprobe.multi\0", b"uretprobe.multi\0"];

/// The object for this kernel, `without` some kinds of hooks.
///
/// # Errors
/// No memory.
pub(super) fn of_kernel(without: &[String]) -> io::Result<Vec<u8>> {
    let mut object = built()?;
    let is_left_out = without.iter().any(|word| word == MULTI);
    // A kernel that cannot be asked has them or not: perf events do as well.
    let has_links = || is_uprobe_multi_supported(UProbeMultiFeature::LinkCreation);
    if is_left_out || !has_links().unwrap_or(false) {
        attach_by_perf_events(&mut object);
    }
    Ok(object)
}

/// The object, as it was built.
pub(super) fn built() -> io::Result<Vec<u8>> {
    zstd::bulk::decompress(BUILT, LIMIT)
}

/// Has the object's breakpoints attached by perf events: each name ends at its dot, in the
/// sections' table as in BTF's.
fn attach_by_perf_events(object: &mut [u8]) {
    for name in NAMES {
        let dot = name.iter().position(|byte| *byte == b'.').unwrap_or(0);
        let mut from = 0;
        while let Some(at) = find(&object[from..], name) {
            object[from + at + dot] = 0;
            from += at + name.len();
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

    use super::*;

    /// `bpf_tail_call` (include/uapi/linux/bpf.h), as an instruction.
    const TAIL_CALL: [u8; 8] = [0x85, 0, 0, 0, 12, 0, 0, 0];

    #[test]
    fn breakpoints_programs_stay_on_their_task_s_stack() {
        let built = built().unwrap();
        let file = object::File::parse(&*built).unwrap();
        let mut programs = 0;
        for name in ["uprobe.multi", "uretprobe.multi"] {
            let section = file.section_by_name(name).unwrap();
            let of_section = |symbol: &object::Symbol<'_, '_>| {
                symbol.section_index() == Some(section.index()) && symbol.size() > 0
            };
            for program in file.symbols().filter(of_section) {
                let code = section
                    .data_range(program.address(), program.size())
                    .unwrap()
                    .unwrap();
                let has_tail_call = code.chunks(8).any(|instruction| instruction == TAIL_CALL);
                assert!(has_tail_call, "{:?}", program.name());
                programs += 1;
            }
        }
        assert!(programs > 3, "{programs}");
    }

    #[test]
    fn by_perf_events_the_object_is_the_same_but_for_the_sections_names() {
        let built = built().unwrap();
        let mut other = built.clone();
        attach_by_perf_events(&mut other);
        let (built, other) = (
            object::File::parse(&*built).unwrap(),
            object::File::parse(&*other).unwrap(),
        );
        for (one, other) in built.sections().zip(other.sections()) {
            let name = one.name().unwrap();
            assert_eq!(other.name().unwrap(), name.trim_end_matches(".multi"));
            let is_of_names = name.starts_with(".BTF") || name.ends_with("strtab");
            assert!(
                is_of_names || one.data().unwrap() == other.data().unwrap(),
                "{name}"
            );
        }
        let names: Vec<_> = other.sections().flat_map(|one| one.name()).collect();
        assert!(
            names.contains(&"uprobe") && names.contains(&"uretprobe"),
            "{names:?}"
        );
    }
}
