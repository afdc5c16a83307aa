//! Member offsets for the BPF object, from the running kernel's BTF: rustc emits no CO-RE
//! relocations.

use tracer_ebpf::abi::{ABSENT, Offsets};

use super::Btf;

/// The offsets in the order of [`Offsets::MEMBERS`], and the members that this kernel lacks.
#[must_use]
pub(crate) fn offsets(btf: &Btf) -> (Vec<u16>, Vec<String>) {
    let mut missing = Vec::new();
    let values = Offsets::MEMBERS
        .iter()
        .map(|&(_, structure, path)| {
            let found = path
                .split('|')
                .find_map(|path| offset(btf, structure, path))
                .and_then(|offset| u16::try_from(offset).ok());
            found.unwrap_or_else(|| {
                missing.push(format!("{structure}.{path}"));
                ABSENT
            })
        })
        .collect();
    (values, missing)
}

/// Bytes from a task's stack to the registers of its system call, where this kernel has no helper
/// that finds them (before 5.15); 0 where it has, or where they can not be found.
#[must_use]
pub(crate) fn stack_registers(btf: &Btf) -> u32 {
    let has_helper = btf
        .enumerators("bpf_func_id")
        .iter()
        .any(|(_, name)| name == "BPF_FUNC_task_pt_regs");
    if has_helper {
        return 0;
    }
    // The registers are pushed first: they lie at the stack's end. BTF leaves its type out where
    // nothing uses it.
    let stack = btf.size("thread_union").unwrap_or(STACK);
    btf.size("pt_regs")
        .map_or(0, |registers| stack.saturating_sub(registers))
}

fn offset(btf: &Btf, structure: &str, path: &str) -> Option<u32> {
    let Some((array, index)) = path.split_once('[') else {
        return btf.member(structure, path);
    };
    let (enumeration, name) = index.trim_end_matches(']').split_once('.')?;
    let named = btf.enumerators(enumeration).into_iter();
    let (index, _) = named.into_iter().find(|(_, known)| known == name)?;
    Some(btf.member(structure, array)? + index * size_of::<u64>() as u32)
}

/// `THREAD_SIZE` of x86-64, and of aarch64 with pages of 4 KiB.
const STACK: u32 = 16 << 10;
