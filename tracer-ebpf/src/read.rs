//! Reading kernel members and nginx's memory.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::{
    bpf_probe_read_kernel, bpf_probe_read_kernel_buf, bpf_probe_read_user, generated,
};

use crate::constants::offset;

/// The member of the kernel structure at `base`, `None` if absent or unreadable.
#[inline(always)]
pub fn kernel<T>(base: u64, field: &'static u16) -> Option<T> {
    let at = base.checked_add(offset(field)? as u64)?;
    // SAFETY: probe_read_kernel checks the address itself.
    unsafe { bpf_probe_read_kernel(at as *const T) }.ok()
}

/// The member's offset as an address counts it, `None` if absent.
#[inline(always)]
pub fn offset_of(field: &'static u16) -> Option<u64> {
    offset(field).map(|offset| offset as u64)
}

/// The kernel value at an address.
#[inline(always)]
pub fn kernel_at<T>(address: u64) -> Option<T> {
    // SAFETY: probe_read_kernel checks the address itself.
    unsafe { bpf_probe_read_kernel(address as *const T) }.ok()
}

/// The kernel's bytes at an address, into their place.
#[inline(always)]
pub fn kernel_into(address: u64, into: &mut [u8]) -> Option<()> {
    // SAFETY: probe_read_kernel checks the address itself.
    unsafe { bpf_probe_read_kernel_buf(address as *const u8, into) }.ok()
}

/// The value at an address of the current process.
#[inline(always)]
pub fn user<T>(address: u64) -> Option<T> {
    // SAFETY: probe_read_user checks the address itself.
    unsafe { bpf_probe_read_user(address as *const T) }.ok()
}

/// The same, zero where it cannot be read: the kernel clears what it does not fill. Without a
/// branch, of which the verifier would follow both ways.
#[inline(always)]
pub fn user_or_zero<const N: usize>(address: u64) -> [u64; N] {
    let mut value = MaybeUninit::<[u64; N]>::uninit();
    // SAFETY: the destination is valid for its size, which the helper fills or clears; it checks
    // the address itself.
    unsafe {
        generated::bpf_probe_read_user(
            value.as_mut_ptr().cast(),
            size_of::<[u64; N]>() as u32,
            address as *const core::ffi::c_void,
        );
        value.assume_init()
    }
}
