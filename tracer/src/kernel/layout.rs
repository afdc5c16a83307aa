//! Member offsets for the BPF object, from the running kernel's BTF: rustc emits no CO-RE relocations.

use tracer_ebpf::abi::{ABSENT, Offsets};

use super::Btf;

/// The offsets in the order of [`Offsets::MEMBERS`], and the members that this kernel lacks.
#[must_use]
pub fn offsets(btf: &Btf) -> (Vec<u16>, Vec<String>) {
    let mut missing = Vec::new();
    let values = Offsets::MEMBERS
        .iter()
        .map(|&(_, structure, path)| {
            let found = btf
                .member(structure, path)
                .and_then(|offset| u16::try_from(offset).ok());
            found.unwrap_or_else(|| {
                missing.push(format!("{structure}.{path}"));
                ABSENT
            })
        })
        .collect();
    (values, missing)
}
