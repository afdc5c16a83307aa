//! What a unix socket's path is to a worker: the answer to [`Question::UnixPath`].
//!
//! The path is walked in the worker's own root, component by component, and each is judged by the permission bits
//! as `generic_permission()` does for the worker's user. Where an ACL decides, nothing is claimed: the path is then
//! reported as not blocked. Security modules are another question's matter.
//!
//! [`Question::UnixPath`]: crate::event::Question::UnixPath

use std::{
    collections::VecDeque,
    ffi::{CString, OsStr, OsString},
    fs::{self, Metadata},
    io,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Component, Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    accounts::Accounts,
    owner::Owners,
    sock_diag::{self, UnixListener},
};
use crate::{
    event::{
        Time,
        fact::{Inode, Listener, PathKind, UnixPathView},
    },
    process::{
        self, Status,
        netns::{self, Netns},
    },
};

const LISTENERS: usize = 16_384;
/// How long other network namespaces are searched for a file's listener.
const ELSEWHERE: Duration = Duration::from_millis(100);
/// As many symbolic links as the kernel follows (`MAXSYMLINKS`), and no longer a path (`PATH_MAX`).
const LINKS: u32 = 40;
const PATH: usize = 4096;
const WRITE: u32 = 0o2;
const SEARCH: u32 = 0o1;
const CAP_DAC_OVERRIDE: u64 = 1 << 1;
const CAP_DAC_READ_SEARCH: u64 = 1 << 2;

/// Looks as the worker would.
///
/// # Errors
/// The worker is gone, its root cannot be looked into, or the path is no path.
pub(super) fn view(
    worker: u32,
    path: &str,
    owners: &mut Owners,
    now: Time,
) -> Result<UnixPathView> {
    let status = process::status(worker).with_context(|| format!("status of worker {worker}"))?;
    let netns =
        Netns::of(worker).with_context(|| format!("network namespace of worker {worker}"))?;
    let root = PathBuf::from(format!("/proc/{worker}/root"));
    let accounts = Accounts::of(&root);
    let somaxconn = netns.within(|| Ok(netns::sysctl("core/somaxconn")))?;
    let mut view = UnixPathView {
        kind: PathKind::Missing,
        file: None,
        missing: None,
        blocked: None,
        listener: None,
        worker_uid: status.uid,
        worker_gid: status.gid,
        worker_user: accounts.user(status.uid),
        somaxconn,
    };

    let abstract_name = path.strip_prefix('@').or_else(|| path.strip_prefix('\0'));
    let wanted = if let Some(name) = abstract_name {
        Wanted::Abstract(name.as_bytes())
    } else {
        let found = walk(&root, path, worker, &status)?;
        view.missing = found
            .missing
            .map(|path| path.to_string_lossy().into_owned());
        view.blocked = found.blocked.map(|step| step.inode(&accounts));
        let Some(file) = found.file else {
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
        let mut holders = owners.find(&[found.inode], netns.id(), now);
        view.listener = Some(Listener {
            address: None,
            v6_only: false,
            queue: found.queue,
            limit: found.limit,
            owner: holders.remove(&found.inode),
        });
    }
    Ok(view)
}

/// A component of the path as the worker sees it.
struct Step {
    path: PathBuf,
    metadata: Metadata,
}

impl Step {
    fn inode(&self, accounts: &Accounts) -> Inode {
        Inode {
            path: self.path.to_string_lossy().into_owned(),
            mode: self.metadata.mode() & 0o7777,
            uid: self.metadata.uid(),
            gid: self.metadata.gid(),
            user: accounts.user(self.metadata.uid()),
            group: accounts.group(self.metadata.gid()),
        }
    }
}

#[derive(Default)]
struct Walk {
    file: Option<Step>,
    missing: Option<PathBuf>,
    blocked: Option<Step>,
}

/// Follows `path` inside `root`. A relative path begins in the worker's directory.
fn walk(root: &Path, path: &str, worker: u32, status: &Status) -> Result<Walk> {
    if path.is_empty() || path.len() > PATH {
        bail!("a path of {} bytes", path.len());
    }
    let path = Path::new(path);
    let mut left: VecDeque<OsString> = names(path).collect();
    let mut here = PathBuf::from("/");
    if path.is_relative() {
        let directory = fs::read_link(format!("/proc/{worker}/cwd")).context("its directory")?;
        // What the link shows is the path in our view; in the worker's it lacks its root's part.
        let own_root = fs::read_link(root).unwrap_or_else(|_| PathBuf::from("/"));
        let inside = directory.strip_prefix(&own_root).unwrap_or(&directory);
        here = Path::new("/").join(inside);
    }
    let mut walk = Walk::default();
    let mut links = 0;
    loop {
        let step = match look(root, &here) {
            Ok(metadata) => Step {
                path: here.clone(),
                metadata,
            },
            Err(error) if is_missing(&error) => {
                walk.missing = Some(here);
                return Ok(walk);
            }
            Err(error) => return Err(error).with_context(|| format!("look at {}", here.display())),
        };
        if step.metadata.is_symlink() {
            links += 1;
            if links > LINKS {
                bail!("{}: too many symbolic links", path.display());
            }
            let target = fs::read_link(within(root, &here)).context("read a symbolic link")?;
            if target.as_os_str().len() > PATH {
                bail!("{}: a symbolic link too long", here.display());
            }
            here.pop();
            if target.has_root() {
                here = PathBuf::from("/");
            }
            for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
                left.push_front(name);
            }
        } else {
            let last = left.is_empty();
            let wanted = if last { WRITE } else { SEARCH };
            if walk.blocked.is_none() && !permits(root, &step, wanted, status) {
                walk.blocked = Some(Step {
                    path: step.path.clone(),
                    metadata: step.metadata.clone(),
                });
            }
            if last {
                walk.file = Some(step);
                return Ok(walk);
            }
        }
        match left.pop_front() {
            Some(name) if name == ".." => {
                here.pop();
            }
            Some(name) => here.push(name),
            // A link to the root itself.
            None => {}
        }
    }
}

fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    })
}

/// Every component before `here`'s last is no symbolic link, so the kernel follows none of the worker's.
fn look(root: &Path, here: &Path) -> io::Result<Metadata> {
    if here == Path::new("/") {
        // The magic link itself is to be followed.
        return fs::metadata(root);
    }
    fs::symlink_metadata(within(root, here))
}

fn within(root: &Path, here: &Path) -> PathBuf {
    root.join(here.strip_prefix("/").unwrap_or(here))
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR))
}

/// `generic_permission()` (`fs/namei.c`), but for ACLs: where one is set, `true`.
fn permits(root: &Path, step: &Step, wanted: u32, status: &Status) -> bool {
    let directory = step.metadata.is_dir();
    let overrides = if directory {
        CAP_DAC_OVERRIDE | CAP_DAC_READ_SEARCH
    } else {
        CAP_DAC_OVERRIDE
    };
    // In a user namespace of its own the capability may not count for this file: then nothing is claimed.
    if status.capabilities & overrides != 0 {
        return true;
    }
    let mode = step.metadata.mode();
    let group = step.metadata.gid();
    let bits = if step.metadata.uid() == status.file_uid {
        mode >> 6
    } else if has_acl(&within(root, &step.path)) {
        return true;
    } else if group == status.file_gid || status.groups.contains(&group) {
        mode >> 3
    } else {
        mode
    };
    bits & wanted != 0
}

fn has_acl(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    let name = c"system.posix_acl_access";
    // SAFETY: both strings end with NUL; a size of 0 asks for the length alone.
    unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) > 0 }
}

enum Wanted<'a> {
    File(Step),
    Abstract(&'a [u8]),
}

/// The listener of a file may be in any network namespace (`unix_find_bsd()`), that of an abstract name only in the
/// worker's.
fn listener(wanted: &Wanted<'_>, netns: &Netns) -> Result<Option<UnixListener>> {
    let list = || {
        let (listeners, _) =
            sock_diag::unix_listeners(LISTENERS).context("list unix listeners by sock_diag")?;
        Ok(listeners)
    };
    if let Some(found) = chosen(wanted, netns.within(list)?) {
        return Ok(Some(found));
    }
    if matches!(wanted, Wanted::Abstract(_)) {
        return Ok(None);
    }
    let deadline = Instant::now() + ELSEWHERE;
    Ok(netns::others(netns, deadline).find_map(|other| chosen(wanted, other.within(list).ok()?)))
}

fn chosen(wanted: &Wanted<'_>, listeners: Vec<UnixListener>) -> Option<UnixListener> {
    listeners.into_iter().find(|listener| match wanted {
        Wanted::Abstract(name) => listener.name.strip_prefix(b"\0") == Some(*name),
        Wanted::File(step) => listener.file.is_some_and(|(inode, device)| {
            // Stacked file systems show another device than the socket's own: there the name must agree.
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
        fs::Permissions,
        os::unix::{fs::PermissionsExt as _, net::UnixListener as Bound, net::UnixStream},
    };

    use super::*;
    use crate::process::netns::in_new_netns;

    struct Directory(PathBuf);

    impl Directory {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tracer-{test}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path.canonicalize().unwrap())
        }

        fn file(&self, name: &str) -> String {
            self.0.join(name).to_str().unwrap().to_owned()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn ask(path: &str) -> UnixPathView {
        view(std::process::id(), path, &mut Owners::default(), Time(1)).unwrap()
    }

    /// Walks as a plain user would who owns nothing.
    fn as_nobody(path: &str) -> Walk {
        let status = Status {
            file_uid: 54_321,
            file_gid: 54_321,
            ..Status::default()
        };
        let own = std::process::id();
        walk(
            &PathBuf::from(format!("/proc/{own}/root")),
            path,
            own,
            &status,
        )
        .unwrap()
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
    fn what_stops_the_worker_s_user_is_named() {
        let directory = Directory::new("unix-blocked");
        let path = directory.file("in/a.sock");
        fs::create_dir(directory.file("in")).unwrap();
        let _listener = Bound::bind(&path).unwrap();
        let set =
            |path: &str, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        set(directory.0.to_str().unwrap(), 0o755);

        set(&directory.file("in"), 0o755);
        set(&path, 0o660);
        assert_eq!(as_nobody(&path).blocked.unwrap().path, Path::new(&path));
        set(&path, 0o666);
        assert!(as_nobody(&path).blocked.is_none());
        set(&directory.file("in"), 0o750);
        let blocked = as_nobody(&path).blocked.unwrap();
        assert_eq!(blocked.path, Path::new(&directory.file("in")));
        assert_eq!(blocked.metadata.mode() & 0o7777, 0o750);
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
            let view = view(worker.thread, &path, &mut Owners::default(), Time(1)).unwrap();
            let owner = view.listener.unwrap().owner;
            assert_eq!(owner.unwrap().pid, std::process::id());
        }
    }

    #[test]
    fn links_that_lead_nowhere_end() {
        let directory = Directory::new("unix-loop");
        std::os::unix::fs::symlink("loop", directory.file("loop")).unwrap();
        let own = std::process::id();
        let error = view(
            own,
            &directory.file("loop"),
            &mut Owners::default(),
            Time(1),
        );
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("too many symbolic links")
        );
    }
}
