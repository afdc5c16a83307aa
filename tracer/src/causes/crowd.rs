//! The processes that share a listener whose connections wait: a prefork server's master and its workers.

use super::finding::Finding;
use crate::event::fact::{Listener, Owner};

/// Adds who they are.
pub(super) fn told(listener: &Listener, finding: Finding) -> Finding {
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
    match exhausted(listener) {
        Some((owner, (open, limit))) => finding.fact(
            "descriptors",
            format!(
                "{} (pid {}) holds {open} of the {limit} descriptors that it may: accept() fails with EMFILE",
                owner.name, owner.pid
            ),
        ),
        None => finding,
    }
}

/// How to see what those do that should accept: the workers where there are any, as their master only waits.
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
