//! Which of a program's breakpoints counts. Containers of one image run one file by several mounts,
//! and a breakpoint is the file's: it is set through one mount and, when that goes, set through
//! another before it is taken away. For that moment each run comes twice, and the later generation
//! counts.

use aya_ebpf::{EbpfContext, helpers::generated::bpf_get_attach_cookie, macros::map, maps::Array};
use tracer_ebpf::abi::TARGETS;

use crate::constants::{HAS_COOKIES, number};

/// The generation that counts of each file.
#[map]
static GENERATIONS: Array<u32> = Array::with_max_entries(TARGETS, 0);

/// Does this run count? The link's cookie is the file's number and the generation; 0: there is but
/// one.
#[inline(always)]
pub fn counts(ctx: &impl EbpfContext) -> bool {
    if number(&HAS_COOKIES) == 0 {
        return true;
    }
    // SAFETY: the context that the kernel gave.
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    let (file, generation) = ((cookie >> 32) as u32, cookie as u32);
    generation == 0
        || GENERATIONS
            .get_ptr(file)
            // SAFETY: an element of a map lives as long as the program runs; the collector writes
            // it meanwhile.
            .is_some_and(|counting| unsafe { counting.read_volatile() } == generation)
}
