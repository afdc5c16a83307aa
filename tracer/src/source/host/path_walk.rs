//! A path as a worker's user walks it: where it leads, what is missing, what stops.
//!
//! It is walked in the worker's own root, component by component, and each is judged by the permission bits as
//! `generic_permission()` does. Where an ACL decides, nothing is claimed: the path then counts as not blocked.
//! Security modules are another question's matter.

use std::{
    collections::VecDeque,
    ffi::{CString, OsString},
    fs::{self, Metadata},
    io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::accounts::Accounts;
use crate::{event::fact::Inode, process::Status};

/// As many symbolic links as the kernel follows (`MAXSYMLINKS`), and no longer a path (`PATH_MAX`).
const LINKS: u32 = 40;
const PATH: usize = 4096;
const WRITE: u32 = 0o2;
const SEARCH: u32 = 0o1;
const CAP_DAC_OVERRIDE: u64 = 1 << 1;
const CAP_DAC_READ_SEARCH: u64 = 1 << 2;

/// A component of the path as the worker sees it.
pub(super) struct Step {
    pub(super) path: PathBuf,
    pub(super) metadata: Metadata,
}

impl Step {
    pub(super) fn inode(&self, accounts: &Accounts) -> Inode {
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

/// Where a path leads.
#[derive(Default)]
pub(super) struct Walk {
    /// What the path leads to.
    pub(super) file: Option<Step>,
    /// The first component that is missing.
    pub(super) missing: Option<PathBuf>,
    /// The first component that stops the user.
    pub(super) blocked: Option<Step>,
    /// It has more symbolic links than the kernel follows.
    pub(super) is_circle: bool,
}

/// Follows `path` inside `root`, for the user of `status`. A relative path begins in the worker's directory.
///
/// # Errors
/// It is no path, or cannot be looked at.
pub(super) fn walk(root: &Path, path: &str, worker: u32, status: &Status) -> Result<Walk> {
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
                walk.is_circle = true;
                return Ok(walk);
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

/// A directory of the test's own.
#[cfg(test)]
pub(super) struct Directory(pub(super) PathBuf);

#[cfg(test)]
impl Directory {
    pub(super) fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tracer-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path.canonicalize().unwrap())
    }

    pub(super) fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

#[cfg(test)]
#[cfg(test)]
impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::Permissions,
        os::unix::{fs::PermissionsExt as _, net::UnixListener},
    };

    use super::*;

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
    fn what_stops_the_worker_s_user_is_named() {
        let directory = Directory::new("unix-blocked");
        let path = directory.file("in/a.sock");
        fs::create_dir(directory.file("in")).unwrap();
        let _listener = UnixListener::bind(&path).unwrap();
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
}
