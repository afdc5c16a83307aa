//! The processes that share a listener whose connections wait: a prefork server's master and its
//! workers.

use super::{finding::Finding, programs};
use crate::event::fact::{Listener, Owner};

/// Adds who they are.
pub(super) fn described(listener: &Listener, finding: Finding) -> Finding {
    let finding = match listener.others.first() {
        Some(first) => finding.fact(
            "workers",
            format!(
                "its children that accept there too, none of which did: {} (pid {})",
                first.name,
                pids(listener, ", ")
            ),
        ),
        None => finding,
    };
    let finding = match left(listener) {
        Some(owner) => finding.fact(
            "orphan",
            format!(
                "the program that {} (pid {}) was started by is gone: it may only hold the listener that it inherited",
                owner.name, owner.pid
            ),
        ),
        None => finding,
    };
    match exhausted(listener) {
        Some((owner, (open, limit))) => finding.fact(
            "descriptors",
            format!(
                "{} (pid {}) holds {open} descriptors, and its limit is {limit}: accept() fails with EMFILE",
                owner.name, owner.pid
            ),
        ),
        None => finding,
    }
}

/// Who holds it without being a server that is known, and without the program that made it.
pub(super) fn left(listener: &Listener) -> Option<&Owner> {
    let owner = listener.owner.as_ref()?;
    let is_server = programs::known(&owner.name).is_some();
    (owner.is_left && listener.others.is_empty() && !is_server).then_some(owner)
}

/// What to do about that one.
pub(super) fn end(listener: &Listener) -> Option<String> {
    let owner = left(listener)?;
    Some(format!(
        "if {} is not the backend itself, end it (kill {}) and start the backend: it holds the listener that it inherited \
         from a program that is gone; see: ps -o pid,ppid,pgid,etime,args -p {}",
        owner.name, owner.pid, owner.pid
    ))
}

/// How to see what those do that should accept: the workers where there are any, as their master
/// only waits.
pub(super) fn see(listener: &Listener) -> Option<String> {
    let owner = listener.owner.as_ref()?;
    if listener.others.is_empty() {
        let Owner { name, pid, .. } = owner;
        return Some(format!(
            "see what {name} does: cat /proc/{pid}/stack; gdb -p {pid} -batch -ex bt; is it stopped (ps -o stat= -p {pid})?"
        ));
    }
    Some(format!(
        "see what its workers do: for p in {}; do ps -o pid=,stat=,wchan=,etime= -p $p; gdb -p $p -batch -ex bt; done",
        pids(listener, " ")
    ))
}

/// What to do where a process has no descriptor left for another connection.
pub(super) fn full(listener: &Listener) -> Option<String> {
    let (owner, (_, limit)) = exhausted(listener)?;
    Some(format!(
        "raise the descriptor limit of {} (LimitNOFILE=, ulimit -n: {limit} now), or find what it leaks; see: ls -l \
         /proc/{}/fd",
        owner.name, owner.pid
    ))
}

/// One of those that accept, and what it holds.
fn exhausted(listener: &Listener) -> Option<(&Owner, (u64, u64))> {
    let mut all = listener.others.iter().chain(listener.owner.as_ref());
    all.find_map(|owner| Some((owner, owner.descriptors?)))
}

fn pids(listener: &Listener, between: &str) -> String {
    let pids: Vec<String> = listener
        .others
        .iter()
        .map(|owner| owner.pid.to_string())
        .collect();
    pids.join(between)
}
