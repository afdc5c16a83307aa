//! The BPF object: entry points in `hooks`, one file a hook family. On the host this is an empty
//! program.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// For one instruction, see `maps::count`.
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics))]
// For `apart`.
#![cfg_attr(target_arch = "bpf", feature(macro_attr))]
#![cfg_attr(
    target_arch = "bpf",
    expect(internal_features, reason = "the nightly that compiles this is pinned")
)]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod apart;
#[cfg(target_arch = "bpf")]
mod constants;
#[cfg(target_arch = "bpf")]
mod emit;
#[cfg(target_arch = "bpf")]
mod framing;
#[cfg(target_arch = "bpf")]
mod hints;
#[cfg(target_arch = "bpf")]
mod hooks;
#[cfg(target_arch = "bpf")]
mod links;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod nginx;
#[cfg(target_arch = "bpf")]
mod packet;
#[cfg(target_arch = "bpf")]
mod read;
#[cfg(target_arch = "bpf")]
mod sock;
#[cfg(target_arch = "bpf")]
mod stack;
#[cfg(target_arch = "bpf")]
mod syscall;
#[cfg(target_arch = "bpf")]
mod task;
#[cfg(target_arch = "bpf")]
mod track;

#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
