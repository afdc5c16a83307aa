//! The BPF programs that a cgroup and those above it put in the way of a connection
//! (`BPF_PROG_QUERY`, `bpf(2)`).
//!
//! Raw system calls: aya reads a cgroup's own programs, but not the effective ones that come from
//! above.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

use crate::process::keeper;

const BPF_PROG_GET_FD_BY_ID: i64 = 13;
const BPF_OBJ_GET_INFO_BY_FD: i64 = 15;
const BPF_PROG_QUERY: i64 = 16;
const BPF_F_QUERY_EFFECTIVE: u32 = 1;
/// `BPF_CGROUP_MAX_PROGS`.
const PROGRAMS: usize = 64;
/// `enum bpf_attach_type`: what runs between `socket()` and the SYN-ACK.
const ON_CONNECT: [(u32, &str); 6] = [
    (2, "sock_create"),
    (10, "connect4"),
    (11, "connect6"),
    (49, "unix_connect"),
    (1, "egress"),
    (0, "ingress"),
];

/// `ATTACH_TYPE NAME` of each, in the order they run; a program without a name is called by its
/// number.
///
/// # Errors
/// The cgroup is gone, or the kernel refuses every query (`CAP_NET_ADMIN`, `CAP_BPF`; for names
/// `CAP_SYS_ADMIN`).
pub(super) fn on_connect(cgroup: &Path) -> io::Result<Vec<String>> {
    let directory = File::open(cgroup)?;
    keeper::with_admin(keeper::PATIENCE, move || programs(&directory))?
}

fn programs(directory: &File) -> io::Result<Vec<String>> {
    let mut programs = Vec::new();
    let mut answer = Err(io::Error::from(io::ErrorKind::Unsupported));
    for (kind, attach_type) in ON_CONNECT {
        match query(directory, kind) {
            Ok(ids) => {
                answer = Ok(());
                programs.extend(
                    ids.into_iter()
                        .map(|id| format!("{attach_type} {}", name(id))),
                );
            }
            // An attach type that this kernel does not know.
            Err(error) if answer.is_err() => answer = Err(error),
            Err(_) => {}
        }
    }
    answer.map(|()| programs)
}

/// `query` in `union bpf_attr`, whole: 6.18 writes into its end also where it was given less.
#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    attach_type: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
    program_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

fn query(cgroup: &File, attach_type: u32) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; PROGRAMS];
    let mut query = Query {
        target: cgroup.as_raw_fd() as u32,
        attach_type,
        flags: BPF_F_QUERY_EFFECTIVE,
        ids: ids.as_mut_ptr() as u64,
        count: PROGRAMS as u32,
        ..Query::default()
    };
    // SAFETY: `ids` is writable for `count` numbers and outlives the call.
    unsafe { bpf(BPF_PROG_QUERY, &mut query)? };
    let count = usize::try_from(query.count).unwrap_or(0).min(PROGRAMS);
    Ok(ids[..count].to_vec())
}

#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoByFd {
    fd: u32,
    length: u32,
    info: u64,
}

/// `struct bpf_prog_info` as far as its name.
#[repr(C)]
#[derive(Default)]
struct Info {
    before: [u64; 8],
    name: [u8; 16],
}

fn name(id: u32) -> String {
    match program_name(id) {
        Ok(name) if !name.is_empty() => name,
        _ => format!("#{id}"),
    }
}

fn program_name(id: u32) -> io::Result<String> {
    let mut by_id = ById {
        id,
        ..ById::default()
    };
    // SAFETY: no pointers in the attributes.
    let fd = unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &mut by_id)? };
    // SAFETY: the kernel has just given this descriptor to us.
    let program = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = Info::default();
    let mut by_fd = InfoByFd {
        fd: program.as_raw_fd() as u32,
        length: size_of::<Info>() as u32,
        info: (&raw mut info) as u64,
    };
    // SAFETY: `info` is writable for `length` bytes and outlives the call.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut by_fd)? };
    let length = info.name.iter().position(|byte| *byte == 0);
    let name = &info.name[..length.unwrap_or(info.name.len())];
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// # Safety
/// The pointers inside `attributes` are valid for what the command does with them.
unsafe fn bpf<A>(command: i64, attributes: &mut A) -> io::Result<i32> {
    // SAFETY: `attributes` is readable and writable for its size; the caller answers for what it
    // points to.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<A>(),
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(answer as i32)
}

#[cfg(test)]
mod tests {
    use std::{ffi::CStr, fs, path::PathBuf};

    use super::*;

    #[repr(C)]
    #[derive(Default)]
    struct Load {
        kind: u32,
        instructions: u32,
        code: u64,
        licence: u64,
        log: [u32; 4],
        version: u32,
        flags: u32,
        name: [u8; 16],
        interface: u32,
        attach_type: u32,
    }

    #[repr(C)]
    #[derive(Default)]
    struct Attach {
        target: u32,
        program: u32,
        attach_type: u32,
        flags: u32,
    }

    /// A program that lets every IPv4 `connect()` pass, attached to a cgroup.
    fn attach(cgroup: &Path) -> io::Result<OwnedFd> {
        // mov r0, 1; exit
        let code: [u64; 2] = [0x0000_0001_0000_00b7, 0x95];
        let licence: &CStr = c"MIT";
        let mut load = Load {
            kind: 18,
            instructions: 2,
            code: code.as_ptr() as u64,
            licence: licence.as_ptr() as u64,
            name: *b"tracer_test\0\0\0\0\0",
            attach_type: 10,
            ..Load::default()
        };
        // SAFETY: code and licence outlive the call; the descriptor is new.
        let program = unsafe { OwnedFd::from_raw_fd(bpf(5, &mut load)?) };
        let directory = File::open(cgroup)?;
        let mut attach = Attach {
            target: directory.as_raw_fd() as u32,
            program: program.as_raw_fd() as u32,
            attach_type: 10,
            ..Attach::default()
        };
        // SAFETY: no pointers in the attributes.
        unsafe { bpf(8, &mut attach)? };
        Ok(program)
    }

    /// An empty cgroup within an empty cgroup; removed at the end.
    struct Cgroups(PathBuf);

    impl Cgroups {
        fn new() -> Option<Self> {
            let mount = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
                .into_iter()
                .find(|mount| Path::new(mount).join("cgroup.controllers").exists())?;
            let above = Path::new(mount).join(format!("tracer-test-{}", std::process::id()));
            fs::create_dir_all(above.join("below")).ok()?;
            Some(Self(above))
        }
    }

    impl Drop for Cgroups {
        fn drop(&mut self) {
            let _ = fs::remove_dir(self.0.join("below"));
            let _ = fs::remove_dir(&self.0);
        }
    }

    #[test]
    fn a_program_from_a_cgroup_above_is_named() {
        let Some(cgroups) = Cgroups::new() else {
            println!(
                "SKIPPED: a_program_from_a_cgroup_above_is_named: a cgroup v2 of its own needs root"
            );
            return;
        };
        let below = cgroups.0.join("below");
        let before = on_connect(&below).unwrap();
        if let Err(error) = attach(&cgroups.0) {
            println!("SKIPPED: a_program_from_a_cgroup_above_is_named: attach: {error}");
            return;
        }
        let mut added = on_connect(&below).unwrap();
        added.retain(|program| !before.contains(program));
        assert_eq!(added, ["connect4 tracer_test"]);
    }

    #[test]
    fn a_cgroup_that_is_gone_is_an_error() {
        assert!(on_connect(Path::new("/no/such/cgroup")).is_err());
    }
}
