//! Whose stack a breakpoint's program runs on.
//!
//! Since 6.13 the JIT gives tracing programs a stack of each CPU's (`bpf_enable_priv_stack`,
//! kernel/bpf/verifier.c), as no program of theirs comes in between its own runs. That holds for
//! tracepoints and trampolines, which skip such a run, and not for uprobes
//! (`bpf_prog_run_array_uprobe`, include/linux/bpf.h, skips none): where a task may be preempted in
//! the midst of a run, the next worker's run on that CPU writes over its variables, and nginx's
//! memory is then read at another worker's addresses.

use aya_ebpf::helpers::generated::bpf_tail_call;
use core::ptr::{null_mut, read_volatile};

/// Never anything but 0, which the verifier knows and the compiler does not.
#[unsafe(no_mangle)]
static TAIL_CALLS: u32 = 0;

/// Keeps the program on its task's stack: no program with a tail call in it gets one of the CPU's.
/// This one is never made.
#[inline(always)]
pub fn of_task() {
    // SAFETY: a static.
    if unsafe { read_volatile(&raw const TAIL_CALLS) } != 0 {
        // SAFETY: not reached.
        unsafe { bpf_tail_call(null_mut(), null_mut(), 0) };
    }
}
