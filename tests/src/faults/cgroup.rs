//! A cgroup of a test's own, with a BPF program that denies one port.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::bpf::{Instruction, bpf, call, exit, instruction, load, set};
use crate::wait;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// The cgroup; it goes away with its value, once its processes have gone.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    name: String,
    links: Vec<File>,
}

/// What a denied nginx meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// connect() over IPv4 fails with EPERM, the hook's own errno.
    Connect4,
    /// connect() over IPv6 fails with EPERM.
    Connect6,
    /// connect() over IPv4 fails with an errno that the program chose: ECONNREFUSED.
    Connect4Refused,
    /// Packets to the port are dropped on their way out, as by systemd's `IPAddressDeny=`.
    Egress,
}

impl Cgroup {
    /// Makes a cgroup below the host's cgroup2 mount.
    pub fn new() -> Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        let Some(mount) = mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (place, kind) = (words.next()?, words.next()?);
            (kind == "cgroup2").then_some(place)
        }) else {
            bail!("no cgroup2 is mounted");
        };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tracer-test-{}-{number}", std::process::id());
        let path = Path::new(mount).join(&name);
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self {
            path,
            name,
            links: Vec::new(),
        })
    }

    /// Its name below the mount.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What makes a command start in the cgroup.
    pub fn placing(&self) -> Result<impl FnOnce(&mut Command) -> Result<()> + 'static> {
        let processes = File::options()
            .write(true)
            .open(self.path.join("cgroup.procs"))?;
        Ok(move |command: &mut Command| {
            // SAFETY: between fork and exec one write is made; "0" is the writing process.
            unsafe {
                command.pre_exec(move || {
                    match libc::write(processes.as_raw_fd(), c"0".as_ptr().cast(), 1) {
                        1 => Ok(()),
                        _ => Err(std::io::Error::last_os_error()),
                    }
                });
            }
            Ok(())
        })
    }

    /// Denies `port` to the cgroup's processes for as long as the cgroup lives.
    pub fn deny(&mut self, port: u16, denial: Denial) -> Result<()> {
        let (kind, attach, code) = match denial {
            Denial::Connect4 => (SOCK_ADDR, INET4_CONNECT, deny_connect(port, None)),
            Denial::Connect6 => (SOCK_ADDR, INET6_CONNECT, deny_connect(port, None)),
            Denial::Connect4Refused => (
                SOCK_ADDR,
                INET4_CONNECT,
                deny_connect(port, Some(libc::ECONNREFUSED)),
            ),
            Denial::Egress => (SKB, INET_EGRESS, deny_egress(port)),
        };
        let program = load(kind, attach, 0, &code)?;
        let folder = File::open(&self.path)?;
        let mut attr = [0u8; 64];
        attr[0..4].copy_from_slice(&program.as_raw_fd().to_ne_bytes());
        attr[4..8].copy_from_slice(&folder.as_raw_fd().to_ne_bytes());
        attr[8..12].copy_from_slice(&attach.to_ne_bytes());
        // A link goes with its descriptor, an attachment would stay.
        self.links
            .push(bpf(LINK_CREATE, &mut attr).context("cannot attach to the cgroup")?);
        Ok(())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.links.clear();
        // The kernel lets go of the last process a moment after it was reaped.
        let removed = wait::until("an empty cgroup", Duration::from_secs(3), || {
            Ok(std::fs::remove_dir(&self.path).ok())
        });
        if let Err(error) = removed {
            eprintln!("{} stays: {error}", self.path.display());
        }
    }
}

// include/uapi/linux/bpf.h
const LINK_CREATE: u32 = 28;
const SKB: u32 = 8;
const SOCK_ADDR: u32 = 18;
const INET_EGRESS: u32 = 1;
const INET4_CONNECT: u32 = 10;
const INET6_CONNECT: u32 = 11;
const SET_RETVAL: i32 = 187;
/// Offset of user_port (network order) in struct bpf_sock_addr.
const USER_PORT: i16 = 24;
/// Helper skb_load_bytes: context, offset, destination, length.
const SKB_LOAD_BYTES: i32 = 26;

fn deny_connect(port: u16, errno: Option<i32>) -> Vec<Instruction> {
    let network_order = i32::from(port.to_be());
    let mut code = vec![
        instruction(0x61, 2, 1, USER_PORT, 0),
        instruction(0x15, 2, 0, 2, network_order),
        set(0, 1),
        exit(),
    ];
    if let Some(errno) = errno {
        code.extend([set(1, -errno), call(SET_RETVAL)]);
    }
    code.extend([set(0, 0), exit()]);
    code
}

/// Denies TCP over IPv4 without options to `port`: its bytes 22 and 23 are the target port.
fn deny_egress(port: u16) -> Vec<Instruction> {
    let network_order = i32::from(port.to_be());
    vec![
        set(2, 22),
        // r3 = r10 - 8: where the bytes go
        instruction(0xbf, 3, 10, 0, 0),
        instruction(0x07, 3, 0, 0, -8),
        set(4, 2),
        call(SKB_LOAD_BYTES),
        instruction(0x55, 0, 0, 4, 0),
        instruction(0x69, 2, 10, -8, 0),
        instruction(0x55, 2, 0, 2, network_order),
        set(0, 0),
        exit(),
        set(0, 1),
        exit(),
    ]
}
