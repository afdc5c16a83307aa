//! What a unix socket's path is to a worker: the answer to [`Question::UnixPath`].
//!
//! The path is walked as the worker would walk it; its listener is searched among the unix sockets
//! of the worker's network namespace, then of the others.
//!
//! [`Question::UnixPath`]: crate::event::Question::UnixPath

use std::{
    ffi::{OsStr, OsString},
    os::unix::{
        ffi::OsStringExt as _,
        fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    accounts::Accounts,
    owner::Owners,
    path_walk::{Step, Walk, walk},
    sock_diag::{self, UnixListener},
};
use crate::{
    event::{
        Time,
        fact::{Listener, PathKind, UnixPathView, UnseenListener},
    },
    process::{
        self, Status, bounded,
        netns::{self, Netns},
    },
};

const LISTENERS: usize = 16_384;
/// How long other network namespaces are searched for a file's listener.
const ELSEWHERE: Duration = Duration::from_millis(100);

/// Looks as a worker of this status would, with the process whose `/proc` entries count for it.
///
/// # Errors
/// The worker is gone, its root cannot be looked into, or the path is no path.
pub(super) fn view(
    (worker, status): (u32, &Status),
    path: &str,
    owners: &mut Owners,
    now: Time,
) -> Result<UnixPathView> {
    let netns =
        Netns::of(worker).with_context(|| format!("network namespace of worker {worker}"))?;
    let accounts = Accounts::of(worker);
    let inside = accounts.inside(status.uid, status.gid);
    let somaxconn = netns.number("core/somaxconn");
    let mut view = UnixPathView {
        kind: PathKind::Missing,
        file: None,
        missing: None,
        blocked: None,
        listener: None,
        unseen: None,
        worker_uid: status.uid,
        worker_gid: status.gid,
        worker_user: accounts.user(status.uid),
        worker_group: accounts.group(status.gid),
        worker_inside: inside,
        somaxconn,
    };

    let abstract_name = path.strip_prefix('@').or_else(|| path.strip_prefix('\0'));
    let wanted = if let Some(name) = abstract_name {
        Wanted::Abstract(name.as_bytes())
    } else {
        let found = walked(worker, path, status, &accounts)?;
        view.missing = found
            .missing
            .map(|path| path.to_string_lossy().into_owned());
        view.blocked = found.blocked.map(|step| step.inode(&accounts));
        let Some(file) = found.file else {
            if found.is_circle {
                view.kind = PathKind::Circle;
            } else {
                view.unseen = unseen(path, &netns, owners, now);
            }
            return Ok(view);
        };
        view.kind = if file.metadata.file_type().is_socket() {
            PathKind::Socket
        } else {
            PathKind::Other
        };
        view.file = Some(file.inode(&accounts));
        if view.kind == PathKind::Other {
            return Ok(view);
        }
        Wanted::File(file)
    };
    if let Some(found) = listener(&wanted, &netns)? {
        if abstract_name.is_some() {
            view.kind = PathKind::Socket;
        }
        owners.refresh();
        let mut holders = owners.find(&[found.inode], &[], netns.id(), now);
        let mut listener = Listener {
            address: None,
            v6_only: false,
            queue: found.queue,
            limit: found.limit,
            owner: holders.remove(&found.inode),
            others: Vec::new(),
        };
        if listener.queue > 0 {
            owners.crowd(&mut listener, found.inode);
        }
        view.listener = Some(listener);
    }
    Ok(view)
}

/// The key of all looks that no verdict waits for: a path that stalls one costs a single thread,
/// and no question about its worker.
const LOOKS: u32 = process::NO_PROCESS | 1 << 24;

/// The listener of a path as this worker reaches it, if somebody listens on it.
///
/// # Errors
/// As [`view`].
pub(super) fn accepting(worker: u32, path: &str) -> Result<Option<UnixListener>> {
    let netns =
        Netns::of(worker).with_context(|| format!("network namespace of worker {worker}"))?;
    if let Some(name) = path.strip_prefix('@').or_else(|| path.strip_prefix('\0')) {
        return listener(&Wanted::Abstract(name.as_bytes()), &netns);
    }
    let status = process::status(worker).with_context(|| format!("the user of worker {worker}"))?;
    match walked_by(LOOKS, worker, path, &status, &Accounts::of(worker))?.file {
        Some(file) if file.metadata.file_type().is_socket() => {
            listener(&Wanted::File(file), &netns)
        }
        _ => Ok(None),
    }
}

/// Who listens on a path of that name in a file system that the worker does not see (`PrivateTmp=`,
/// a container), or has lost its file.
fn unseen(path: &str, netns: &Netns, owners: &mut Owners, now: Time) -> Option<UnseenListener> {
    let wanted = Wanted::Name(path.as_bytes());
    let found = listener(&wanted, netns).ok()??;
    owners.refresh();
    let owner = owners
        .find(&[found.inode], &[], netns.id(), now)
        .remove(&found.inode)?;
    let status = process::status(owner.pid).ok()?;
    let there = walked(owner.pid, path, &status, &Accounts::of(owner.pid)).ok()?;
    let has_file = there
        .file
        .is_some_and(|file| file.metadata.file_type().is_socket());
    Some(UnseenListener { owner, has_file })
}

/// Walks on a thread that may be given up.
fn walked(worker: u32, path: &str, status: &Status, accounts: &Accounts) -> Result<Walk> {
    walked_by(worker, worker, path, status, accounts)
}

/// The same; a call that stalls makes the next with this key fail.
fn walked_by(
    key: u32,
    worker: u32,
    path: &str,
    status: &Status,
    accounts: &Accounts,
) -> Result<Walk> {
    let (path, status, ids) = (path.to_owned(), status.clone(), accounts.ids().cloned());
    bounded(key, move || Ok(walk(worker, &path, &status, ids.as_ref())))
        .context("look at the path")?
}

enum Wanted<'a> {
    File(Step),
    Abstract(&'a [u8]),
    /// Whatever file it is, by the name that it was bound to.
    Name(&'a [u8]),
}

/// The listener of a file may be in any network namespace (`unix_find_bsd()`), that of an abstract
/// name only in the worker's.
fn listener(wanted: &Wanted<'_>, netns: &Netns) -> Result<Option<UnixListener>> {
    let list = |netns: &Netns| -> Result<_> {
        let (listeners, _) = sock_diag::unix_listeners(netns, LISTENERS)
            .context("list unix listeners by sock_diag")?;
        Ok(listeners)
    };
    if let Some(found) = chosen(wanted, list(netns)?) {
        return Ok(Some(found));
    }
    if matches!(wanted, Wanted::Abstract(_)) {
        return Ok(None);
    }
    let deadline = Instant::now() + ELSEWHERE;
    Ok(netns::others(netns, deadline).find_map(|other| chosen(wanted, list(&other).ok()?)))
}

fn chosen(wanted: &Wanted<'_>, listeners: Vec<UnixListener>) -> Option<UnixListener> {
    listeners.into_iter().find(|listener| match wanted {
        Wanted::Abstract(name) => listener.name.strip_prefix(b"\0") == Some(*name),
        Wanted::Name(name) => listener.name.strip_suffix(b"\0").unwrap_or(&listener.name) == *name,
        Wanted::File(step) => listener.file.is_some_and(|(inode, device)| {
            // Stacked file systems show another device than the socket's own: there the name must
            // agree.
            let name = |path: &Path| path.file_name().map(OsStr::to_owned);
            let bound = PathBuf::from(OsString::from_vec(
                listener
                    .name
                    .strip_suffix(b"\0")
                    .unwrap_or(&listener.name)
                    .to_vec(),
            ));
            inode == step.metadata.ino() as u32
                && (device == kernel_device(step.metadata.dev())
                    || name(&bound) == name(&step.path))
        }),
    })
}

/// A device number as the kernel keeps it: 12 bits of major, 20 of minor.
fn kernel_device(device: u64) -> u32 {
    libc::major(device) << 20 | libc::minor(device)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::net::{UnixListener as Bound, UnixStream},
    };

    use super::*;
    use crate::{process::netns::in_new_netns, source::host::path_walk::Directory};

    fn ask(path: &str) -> UnixPathView {
        asked(std::process::id(), path).unwrap()
    }

    fn asked(pid: u32, path: &str) -> Result<UnixPathView> {
        let status = process::status(pid)?;
        view((pid, &status), path, &mut Owners::default(), Time(1))
    }

    #[test]
    fn a_listener_is_found_by_its_file_also_through_a_link() {
        let directory = Directory::new("unix-listener");
        let path = directory.file("a.sock");
        let listener = Bound::bind(&path).unwrap();
        let _waiting = UnixStream::connect(&path).unwrap();
        std::os::unix::fs::symlink("a.sock", directory.file("link")).unwrap();
        let view = ask(&directory.file("link"));
        assert_eq!(view.kind, PathKind::Socket);
        assert_eq!(view.file.unwrap().path, path);
        let found = view.listener.unwrap();
        assert_eq!(found.queue, 1);
        assert_eq!(found.owner.unwrap().pid, std::process::id());
        drop(listener);
        let stale = ask(&path);
        assert_eq!((stale.kind, stale.listener), (PathKind::Socket, None));
    }

    #[test]
    fn the_first_missing_component_is_named() {
        let directory = Directory::new("unix-missing");
        let view = ask(&directory.file("no/such.sock"));
        assert_eq!(view.kind, PathKind::Missing);
        assert_eq!(view.missing, Some(directory.file("no")));
        std::os::unix::fs::symlink("/no-such-directory/x", directory.file("dangling")).unwrap();
        let view = ask(&directory.file("dangling"));
        assert_eq!(view.missing.as_deref(), Some("/no-such-directory"));
    }

    #[test]
    fn a_plain_file_is_no_socket() {
        let directory = Directory::new("unix-other");
        fs::write(directory.file("a"), "").unwrap();
        assert_eq!(ask(&directory.file("a")).kind, PathKind::Other);
        assert_eq!(ask("/").kind, PathKind::Other);
    }

    #[test]
    fn an_abstract_name_is_found_in_its_namespace() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("tracer-test-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let _listener = Bound::bind_addr(&address).unwrap();
        let view = ask(&format!("@{name}"));
        assert_eq!(view.kind, PathKind::Socket);
        assert!(view.listener.is_some() && view.file.is_none());
        assert_eq!(ask("@no such name").kind, PathKind::Missing);
    }

    #[test]
    fn a_file_s_listener_is_found_in_whatever_namespace_it_is() {
        let directory = Directory::new("unix-netns");
        let path = directory.file("a.sock");
        let _listener = Bound::bind(&path).unwrap();
        if let Some(worker) = in_new_netns(
            "a_file_s_listener_is_found_in_whatever_namespace_it_is",
            || (),
        ) {
            let view = asked(worker.thread, &path).unwrap();
            let owner = view.listener.unwrap().owner;
            assert_eq!(owner.unwrap().pid, std::process::id());
        }
    }

    #[test]
    fn links_that_lead_nowhere_end() {
        let directory = Directory::new("unix-loop");
        std::os::unix::fs::symlink("loop", directory.file("loop")).unwrap();
        assert_eq!(ask(&directory.file("loop")).kind, PathKind::Circle);
    }
}
