//! The buffer of the system call that the current task is in: `recvfrom(fd, buffer, …)`, `read`,
//! `sendto`, `write`, and of `writev` the first one.

use aya_ebpf::{
    bindings::pt_regs,
    helpers::generated::{bpf_get_current_task, bpf_get_current_task_btf, bpf_task_pt_regs},
};

use crate::{
    constants::{self, OFFSETS, STACK_REGISTERS},
    read,
};

#[cfg(bpf_target_arch = "x86_64")]
const WRITEV: u64 = 20;
#[cfg(not(bpf_target_arch = "x86_64"))]
const WRITEV: u64 = 66;

/// What is where it was just written from.
#[inline(always)]
pub fn written<T>() -> Option<T> {
    let buffer = buffer()?;
    if number()? == WRITEV {
        return read::user(read::user::<u64>(buffer)?);
    }
    read::user(buffer)
}

#[inline(always)]
fn registers() -> Option<*const pt_regs> {
    let on_stack = constants::number(&STACK_REGISTERS);
    if on_stack != 0 {
        // SAFETY: a helper without arguments.
        let task = unsafe { bpf_get_current_task() };
        let stack: u64 = read::kernel(task, &OFFSETS.stack)?;
        return Some(stack.wrapping_add(u64::from(on_stack)) as *const pt_regs);
    }
    // Since 5.15. Where they are absent the verifier does not come here: the number is a constant
    // to it. SAFETY: both helpers take the current task; the registers are those of its system
    // call.
    let registers = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as *const pt_regs;
    if registers.is_null() {
        None
    } else {
        Some(registers)
    }
}

/// The second argument.
#[inline(always)]
pub fn buffer() -> Option<u64> {
    let registers = registers()?;
    #[cfg(bpf_target_arch = "x86_64")]
    // SAFETY: an address is taken, nothing is read.
    let at = unsafe { &raw const (*registers).rsi };
    #[cfg(not(bpf_target_arch = "x86_64"))]
    let at = (registers as *const u64).wrapping_add(1);
    read::kernel_at(at as u64)
}

#[inline(always)]
fn number() -> Option<u64> {
    let registers = registers()?;
    #[cfg(bpf_target_arch = "x86_64")]
    // SAFETY: an address is taken, nothing is read.
    let at = unsafe { &raw const (*registers).orig_rax };
    // aarch64: user_pt_regs is followed by orig_x0 and syscallno.
    #[cfg(not(bpf_target_arch = "x86_64"))]
    let at = (registers as *const u64).wrapping_add(35);
    read::kernel_at::<u64>(at as u64).map(|number| number & 0xffff_ffff)
}
