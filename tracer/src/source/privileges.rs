//! What each thread may do once the first hooks are attached. Only the keeper keeps
//! `CAP_SYS_ADMIN`; what reads files of others may not open namespaces, nor the other way round.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs,
};

/// Enters namespaces, attaches uprobes, names BPF programs (`CAP_NET_ADMIN` to list a cgroup's),
/// opens raw sockets, and starts the readers.
const KEEPER: CapabilitySet = CapabilitySet::DAC_READ_SEARCH
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::BPF)
    .union(CapabilitySet::CHECKPOINT_RESTORE);
/// Loads programs that an nginx needs later, uses maps, and finds nginx in `/proc`.
const MAIN: CapabilitySet = OBSERVER
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::BPF);
/// Looks at processes.
const OBSERVER: CapabilitySet = CapabilitySet::DAC_READ_SEARCH.union(CapabilitySet::SYS_PTRACE);
/// Opens files with another's rights, and what a process maps.
const READER: CapabilitySet = OBSERVER
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::CHECKPOINT_RESTORE);

/// May this process load BPF programs? (`CAP_SYS_ADMIN`, or `CAP_BPF` with `CAP_PERFMON`.)
#[must_use]
pub(super) fn may_trace() -> bool {
    let tracing = CapabilitySet::BPF | CapabilitySet::PERFMON;
    capabilities(None).is_ok_and(|sets| {
        sets.effective.contains(CapabilitySet::SYS_ADMIN) || sets.effective.contains(tracing)
    })
}

/// May it attach to nginx, whatever the kernel?
#[must_use]
pub(super) fn may_administrate() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

// What cannot be dropped is kept: less safe, not less right.

/// For the thread that the others ask: see [`crate::process::keeper`].
pub(super) fn keeper() {
    let _ = keep(KEEPER);
}

/// For the event loop.
pub(super) fn main_loop() {
    let _ = keep(MAIN);
}

/// For the observer's thread.
pub(super) fn observer() {
    let _ = keep(OBSERVER);
}

/// For threads that open what another user may have chosen.
pub(super) fn reader() {
    let _ = keep(READER);
}

/// For a thread that writes to what is open.
pub(crate) fn keep_nothing() {
    let _ = keep(CapabilitySet::empty());
}

/// For a thread that only writes files: wherever the caller could write, it can still.
pub(crate) fn keep_file_access_alone() {
    let _ = keep(CapabilitySet::DAC_OVERRIDE);
}

/// Drops all other capabilities of this thread, and the way to get them back by executing
/// something. Threads that it starts have what it has.
fn keep(kept: CapabilitySet) -> io::Result<()> {
    set_no_new_privs(true)?;
    let own = capabilities(None)?;
    let kept = CapabilitySets {
        effective: own.effective & kept,
        permitted: own.permitted & kept,
        inheritable: CapabilitySet::empty(),
    };
    Ok(set_capabilities(None, kept)?)
}
