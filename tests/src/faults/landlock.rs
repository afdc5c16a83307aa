//! A Landlock domain around nginx that lets TCP connect to some ports only.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

const CREATE_RULESET_VERSION: u32 = 1;
const ACCESS_NET_CONNECT_TCP: u64 = 1 << 1;
const RULE_NET_PORT: u32 = 2;

/// struct landlock_ruleset_attr, as of ABI 4.
#[repr(C)]
struct Ruleset {
    handled_fs: u64,
    handled_net: u64,
}

/// struct landlock_net_port_attr.
#[repr(C)]
struct Port {
    allowed: u64,
    port: u64,
}

/// Why this kernel cannot deny connect() by Landlock, or `None` if it can.
pub fn missing() -> Option<String> {
    // SAFETY: with the version flag the call takes no memory.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<Ruleset>(),
            0,
            CREATE_RULESET_VERSION,
        )
    };
    match abi {
        4.. => None,
        0.. => Some(format!("Landlock ABI {abi} has no rules for TCP, 4 has")),
        _ => Some(format!("no Landlock: {}", std::io::Error::last_os_error())),
    }
}

/// Makes `command` run in a domain whose TCP may connect to `ports` alone.
pub fn confine(command: &mut Command, ports: &[u16]) -> Result<()> {
    let ruleset = Ruleset {
        handled_fs: 0,
        handled_net: ACCESS_NET_CONNECT_TCP,
    };
    // SAFETY: the pointer and the size describe `ruleset`, which outlives the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const ruleset,
            size_of::<Ruleset>(),
            0,
        )
    };
    if fd < 0 {
        return Err(std::io::Error::last_os_error()).context("cannot make a Landlock ruleset");
    }
    // SAFETY: the call above gave us this descriptor.
    let domain = unsafe { File::from_raw_fd(fd as i32) };
    for port in ports {
        let rule = Port {
            allowed: ACCESS_NET_CONNECT_TCP,
            port: u64::from(*port),
        };
        // SAFETY: `rule` is of the type that RULE_NET_PORT asks for and outlives the call.
        let added = unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                domain.as_raw_fd(),
                RULE_NET_PORT,
                &raw const rule,
                0,
            )
        };
        if added != 0 {
            return Err(std::io::Error::last_os_error()).context("cannot add a Landlock rule");
        }
    }
    // SAFETY: between fork and exec one system call is made, on a descriptor moved in.
    unsafe {
        command.pre_exec(move || {
            match libc::syscall(libc::SYS_landlock_restrict_self, domain.as_raw_fd(), 0) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    Ok(())
}
