//! BPF programs of tests: some instructions, loaded without an object file.

use std::fs::File;
use std::os::fd::FromRawFd;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, setrlimit};

/// include/uapi/linux/bpf.h
const PROG_LOAD: u32 = 5;

/// struct bpf_insn: code, registers, offset, immediate.
pub(super) type Instruction = [u8; 8];

pub(super) fn instruction(
    code: u8,
    target: u8,
    source: u8,
    offset: i16,
    immediate: i32,
) -> Instruction {
    let [o0, o1] = offset.to_ne_bytes();
    let [i0, i1, i2, i3] = immediate.to_ne_bytes();
    [code, target | source << 4, o0, o1, i0, i1, i2, i3]
}

pub(super) fn set(register: u8, value: i32) -> Instruction {
    instruction(0xb7, register, 0, 0, value)
}

pub(super) fn call(helper: i32) -> Instruction {
    instruction(0x85, 0, 0, 0, helper)
}

pub(super) fn exit() -> Instruction {
    instruction(0x95, 0, 0, 0, 0)
}

/// Loads a program of a kind, for a way of attaching it and, if not 0, a function of the kernel's
/// BTF.
pub(super) fn load(kind: u32, attach: u32, function: u32, code: &[Instruction]) -> Result<File> {
    let mut log = vec![0u8; 16384];
    let mut attr = [0u8; 128];
    attr[0..4].copy_from_slice(&kind.to_ne_bytes());
    attr[4..8].copy_from_slice(&(code.len() as u32).to_ne_bytes());
    attr[8..16].copy_from_slice(&(code.as_ptr() as u64).to_ne_bytes());
    attr[16..24].copy_from_slice(&(c"GPL".as_ptr() as u64).to_ne_bytes());
    attr[24..28].copy_from_slice(&1u32.to_ne_bytes());
    attr[28..32].copy_from_slice(&(log.len() as u32).to_ne_bytes());
    attr[32..40].copy_from_slice(&(log.as_mut_ptr() as u64).to_ne_bytes());
    attr[68..72].copy_from_slice(&attach.to_ne_bytes());
    attr[108..112].copy_from_slice(&function.to_ne_bytes());
    lock_memory();
    bpf(PROG_LOAD, &mut attr).with_context(|| {
        let log = String::from_utf8_lossy(&log);
        format!("cannot load: {}", log.trim_end_matches('\0'))
    })
}

/// Kernels before 5.11 count a program's memory as locked; where the limit may not be lifted, later
/// ones load it.
fn lock_memory() {
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    let _ = setrlimit(Resource::Memlock, unlimited);
}

/// One `bpf(2)` that gives a descriptor.
pub(super) fn bpf(command: u32, attr: &mut [u8]) -> std::io::Result<File> {
    // SAFETY: the attribute is as long as we say, and the pointers in it outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), attr.len()) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the commands used here give a new descriptor.
    Ok(unsafe { File::from_raw_fd(fd as i32) })
}
