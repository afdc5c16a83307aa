//! What each thread may do once the first hooks are attached. Only the keeper keeps `CAP_SYS_ADMIN`; what reads files of
//! others may not open namespaces, nor the other way round.

use std::io;

/// Enters namespaces, attaches uprobes, names BPF programs (`CAP_NET_ADMIN` to list a cgroup's), opens raw sockets, and
/// starts the readers.
const KEEPER: [u32; 10] = [
    CAP_DAC_READ_SEARCH,
    CAP_SETGID,
    CAP_SETUID,
    CAP_NET_ADMIN,
    CAP_NET_RAW,
    CAP_SYS_PTRACE,
    CAP_SYS_ADMIN,
    CAP_PERFMON,
    CAP_BPF,
    CAP_CHECKPOINT_RESTORE,
];
/// Loads programs that an nginx needs later, uses maps, and finds nginx in `/proc`.
const MAIN: [u32; 4] = [CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_PERFMON, CAP_BPF];
/// Looks at processes.
const OBSERVER: [u32; 2] = [CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE];
/// Opens files with another's rights, and what a process maps.
const READER: [u32; 5] = [
    CAP_DAC_READ_SEARCH,
    CAP_SETGID,
    CAP_SETUID,
    CAP_SYS_PTRACE,
    CAP_CHECKPOINT_RESTORE,
];
const CAP_DAC_OVERRIDE: u32 = 1;
const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;
const CAP_CHECKPOINT_RESTORE: u32 = 40;
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Head {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// May this process load BPF programs? (`CAP_SYS_ADMIN`, or `CAP_BPF` with `CAP_PERFMON`.)
#[must_use]
pub(super) fn may_trace() -> bool {
    let Ok(data) = get() else { return false };
    let has = |capability: u32| {
        data[(capability / 32) as usize].effective & (1 << (capability % 32)) != 0
    };
    has(CAP_SYS_ADMIN) || (has(CAP_BPF) && has(CAP_PERFMON))
}

/// May it attach to nginx, whatever the kernel?
#[must_use]
pub(super) fn may_administrate() -> bool {
    let word = (CAP_SYS_ADMIN / 32) as usize;
    get().is_ok_and(|data| data[word].effective & (1 << (CAP_SYS_ADMIN % 32)) != 0)
}

// What cannot be dropped is kept: less safe, not less right.

/// For the thread that the others ask: see [`crate::process::keeper`].
pub(super) fn keeper() {
    let _ = keep(&KEEPER);
}

/// For the event loop.
pub(super) fn main_loop() {
    let _ = keep(&MAIN);
}

/// For the observer's thread.
pub(super) fn observer() {
    let _ = keep(&OBSERVER);
}

/// For threads that open what another user may have chosen.
pub(super) fn reader() {
    let _ = keep(&READER);
}

/// For a thread that writes to what is open.
pub fn keep_nothing() {
    let _ = keep(&[]);
}

/// For a thread that only writes files: wherever the caller could write, it can still.
pub fn keep_file_access_alone() {
    let _ = keep(&[CAP_DAC_OVERRIDE]);
}

/// Drops all other capabilities of this thread, and the way to get them back by executing something. Threads that it
/// starts have what it has.
fn keep(kept: &[u32]) -> io::Result<()> {
    // SAFETY: plain flags, no pointers.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut data = get()?;
    for (word, data) in data.iter_mut().enumerate() {
        let kept = kept
            .iter()
            .filter(|&&capability| (capability / 32) as usize == word);
        let mask = kept.fold(0, |mask, capability| mask | 1 << (capability % 32));
        data.effective &= mask;
        data.permitted &= mask;
        data.inheritable = 0;
    }
    let head = Head {
        version: VERSION_3,
        pid: 0,
    };
    // SAFETY: both point to structures of the layout that version 3 names.
    if unsafe { libc::syscall(libc::SYS_capset, &raw const head, data.as_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn get() -> io::Result<[Data; 2]> {
    let head = Head {
        version: VERSION_3,
        pid: 0,
    };
    let mut data = [Data::default(); 2];
    // SAFETY: as in `keep`; the kernel writes two structures.
    if unsafe { libc::syscall(libc::SYS_capget, &raw const head, data.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(data)
}
