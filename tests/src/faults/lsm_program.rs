//! A BPF LSM program that denies connect() to one port, to every process of the host.

use std::fs::{self, File};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};

use super::bpf::{Instruction, bpf, call, exit, instruction, load, set};
use crate::kernel;

// include/uapi/linux/bpf.h
const RAW_TRACEPOINT_OPEN: u32 = 17;
const LSM: u32 = 29;
const LSM_MAC: u32 = 27;
const PROBE_READ_KERNEL: i32 = 113;
/// The security hook `int socket_connect(struct socket *sock, struct sockaddr *address, int
/// addrlen)`.
const HOOK: &str = "bpf_lsm_socket_connect";

/// It denies for as long as this value lives.
#[derive(Debug)]
pub struct LsmProgram {
    _link: File,
}

/// Returns why no such program can be attached here, or `None` if one can.
pub fn missing() -> Option<String> {
    let modules = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    if !modules.trim().split(',').any(|module| module == "bpf") {
        return Some("bpf is not among the security modules".to_owned());
    }
    kernel::function(HOOK)
        .is_none()
        .then(|| format!("the kernel has no {HOOK}"))
}

/// Denies connect() to the port with EACCES.
pub fn deny(port: u16) -> Result<LsmProgram> {
    let function = kernel::function(HOOK).with_context(|| format!("no {HOOK}"))?;
    let program = load(LSM, LSM_MAC, function, &denying(port))?;
    let mut attr = [0u8; 16];
    attr[8..12].copy_from_slice(&program.as_raw_fd().to_ne_bytes());
    let link = bpf(RAW_TRACEPOINT_OPEN, &mut attr).context("cannot attach to the hook")?;
    Ok(LsmProgram { _link: link })
}

/// The address is copied to the stack: its port is in bytes 2 and 3, of IPv4 and IPv6 alike.
fn denying(port: u16) -> Vec<Instruction> {
    let network_order = i32::from(port.to_be());
    vec![
        // r3 = address
        instruction(0x79, 3, 1, 8, 0),
        // r1 = r10 - 8
        instruction(0xbf, 1, 10, 0, 0),
        instruction(0x07, 1, 0, 0, -8),
        set(2, 8),
        call(PROBE_READ_KERNEL),
        instruction(0x55, 0, 0, 4, 0),
        instruction(0x69, 2, 10, -6, 0),
        instruction(0x55, 2, 0, 2, network_order),
        set(0, -libc::EACCES),
        exit(),
        set(0, 0),
        exit(),
    ]
}
