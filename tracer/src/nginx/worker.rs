//! Who a worker is: what a verdict says of it.

use anyhow::{Context as _, Result};

use crate::{
    event::{Time, fact::Worker},
    process::{self, Netns},
};

/// Returns who it is at `at`, of one that runs this version. The unit may be unknown; all else is
/// there, or is an error.
///
/// # Errors
/// The worker is gone, or `/proc` hides it.
pub(crate) fn identity(pid: u32, at: Time, version: Option<String>) -> Result<Worker> {
    let status = process::status(pid).with_context(|| format!("status of worker {pid}"))?;
    let netns = Netns::of(pid).with_context(|| format!("network namespace of worker {pid}"))?;
    Ok(Worker {
        at,
        pid,
        own_pid: status.own_pid,
        master: status.parent,
        uid: status.uid,
        gid: status.gid,
        netns: netns.id(),
        unit: process::unit(pid),
        version,
        conf: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_s_identity_is_its_own() {
        let pid = std::process::id();
        let worker = identity(pid, Time(7), None).unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        assert_eq!((worker.uid, worker.gid, worker.at), (uid, gid, Time(7)));
        assert_eq!(worker.netns, Netns::own().unwrap().id());
    }
}
