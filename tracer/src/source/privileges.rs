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

/// What each of them is for: its name, and what is lost without it.
const NEEDED: [(CapabilitySet, &str, &str); 10] = [
    (
        CapabilitySet::SYS_ADMIN,
        "CAP_SYS_ADMIN",
        "hooks in nginx cannot be attached, and network namespaces of containers not be entered",
    ),
    (
        CapabilitySet::BPF,
        "CAP_BPF",
        "hooks may not be loaded for a later nginx, nor maps be used on kernels before 5.19",
    ),
    (
        CapabilitySet::PERFMON,
        "CAP_PERFMON",
        "hooks may not be loaded for a later nginx",
    ),
    (
        CapabilitySet::SYS_PTRACE,
        "CAP_SYS_PTRACE",
        "no process of another user can be recognised as nginx",
    ),
    (
        CapabilitySet::DAC_READ_SEARCH,
        "CAP_DAC_READ_SEARCH",
        "nginx's logs, unix sockets' folders and tracefs may not be readable",
    ),
    (
        CapabilitySet::NET_ADMIN,
        "CAP_NET_ADMIN",
        "BPF programs of cgroups that deny connections are not named",
    ),
    (
        CapabilitySet::NET_RAW,
        "CAP_NET_RAW",
        "ICMP errors are not visible",
    ),
    (
        CapabilitySet::SETUID,
        "CAP_SETUID",
        "files of an nginx that another user started are not read",
    ),
    (
        CapabilitySet::SETGID,
        "CAP_SETGID",
        "files of an nginx that another user started are not read",
    ),
    (
        CapabilitySet::CHECKPOINT_RESTORE,
        "CAP_CHECKPOINT_RESTORE",
        "libraries that nginx maps are not read",
    ),
];

/// A capability that this process lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lacking {
    /// Its name.
    pub name: &'static str,
    /// What is lost.
    pub lost: &'static str,
    /// Without it failures of any nginx are not visible.
    pub is_blinding: bool,
}

/// Which of those that tracer uses are not there, before any was dropped.
#[must_use]
pub(super) fn lacking() -> Vec<Lacking> {
    let Ok(sets) = capabilities(None) else {
        return Vec::new();
    };
    let absent = NEEDED
        .iter()
        .filter(|(capability, ..)| !sets.effective.contains(*capability));
    absent
        .map(|&(capability, name, lost)| Lacking {
            name,
            lost,
            is_blinding: capability == CapabilitySet::SYS_PTRACE,
        })
        .collect()
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_capability_that_a_thread_keeps_says_what_it_is_for() {
        let said = NEEDED
            .iter()
            .fold(CapabilitySet::empty(), |all, (one, ..)| all | *one);
        assert_eq!(said, KEEPER | MAIN | READER);
    }
}
