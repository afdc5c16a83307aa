//! A path as a worker's user walks it: where it leads, what is missing, what stops.
//!
//! It is walked from the worker's own root, one component at a time and each held by a descriptor,
//! so no symbolic link and no rename meanwhile leads out of that root. Each is judged by the
//! permission bits as `generic_permission()` does. Where an ACL decides, nothing is claimed: the
//! path then counts as not blocked. Security modules are another question's matter.
//!
//! For use within [`bounded`](crate::process::bounded) alone: a file system may not answer.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::accounts::Accounts;
use crate::{
    event::fact::Inode,
    process::{Ids, Status, foreign::Place},
};

/// As many symbolic links as the kernel follows (`MAXSYMLINKS`), and no longer a path (`PATH_MAX`).
const LINKS: u32 = 40;
const PATH: usize = 4096;
/// Components held at a time; each takes a descriptor.
const DEPTH: usize = 128;
const WRITE: u32 = 0o2;
const SEARCH: u32 = 0o1;
const CAP_DAC_OVERRIDE: u64 = 1 << 1;
const CAP_DAC_READ_SEARCH: u64 = 1 << 2;

/// A component of the path as the worker sees it.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) path: PathBuf,
    pub(super) metadata: Metadata,
}

impl Step {
    pub(super) fn inode(&self, accounts: &Accounts) -> Inode {
        let (uid, gid) = (self.metadata.uid(), self.metadata.gid());
        Inode {
            path: self.path.to_string_lossy().into_owned(),
            mode: self.metadata.mode() & 0o7777,
            uid,
            gid,
            user: accounts.user(uid),
            group: accounts.group(gid),
            inside: accounts.inside(uid, gid),
        }
    }
}

/// Where a path leads.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// What the path leads to.
    pub(super) file: Option<Step>,
    /// The first component that is missing.
    pub(super) missing: Option<PathBuf>,
    /// The first component that stops the user.
    pub(super) blocked: Option<Step>,
    /// It has more symbolic links than the kernel follows.
    pub(super) is_circle: bool,
    /// What it leads to, held.
    pub(super) place: Option<Place>,
}

/// The way from the root to where the walk is.
struct Way {
    root: Place,
    below: Vec<(OsString, Place)>,
}

impl Way {
    fn here(&self) -> &Place {
        self.below.last().map_or(&self.root, |(_, place)| place)
    }

    fn end(mut self) -> Place {
        self.below.pop().map_or(self.root, |(_, place)| place)
    }

    fn path(&self) -> PathBuf {
        let names = self.below.iter().map(|(name, _)| name);
        Path::new("/").join(names.collect::<PathBuf>())
    }

    /// Goes on to an entry, or up; from the root there is no way up.
    fn enter(&mut self, name: OsString) -> io::Result<()> {
        if name == ".." {
            self.below.pop();
            return Ok(());
        }
        let place = self.here().entry(&name)?;
        self.below.push((name, place));
        Ok(())
    }
}

/// Follows `path` in the worker's root, for the user of `status`, whose user namespace has `ids`. A
/// relative path begins in the worker's directory.
///
/// # Errors
/// It is no path, or cannot be looked at.
pub(super) fn walk(worker: u32, path: &str, status: &Status, ids: Option<&Ids>) -> Result<Walk> {
    if path.is_empty() || path.len() > PATH {
        bail!("a path of {} bytes", path.len());
    }
    let path = Path::new(path);
    let mut way = Way {
        root: Place::root_of(worker).context("its root")?,
        below: Vec::new(),
    };
    if path.is_relative() {
        enter_directory(&mut way, worker).context("its directory")?;
    }
    let mut left: VecDeque<OsString> = names(path).collect();
    let mut walk = Walk::default();
    let mut links = 0;
    loop {
        let here = way.here();
        let metadata = here
            .metadata()
            .with_context(|| format!("look at {}", way.path().display()))?;
        if metadata.is_symlink() {
            links += 1;
            if links > LINKS {
                walk.is_circle = true;
                return Ok(walk);
            }
            let target = here.target().context("read a symbolic link")?;
            if target.as_os_str().len() > PATH || left.len() > PATH {
                bail!("{}: a symbolic link too long", way.path().display());
            }
            way.below.pop();
            if target.has_root() {
                way.below.clear();
            }
            for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
                left.push_front(name);
            }
        } else {
            let last = left.is_empty();
            let wanted = if last { WRITE } else { SEARCH };
            let is_blocked =
                walk.blocked.is_none() && !permits(here, &metadata, wanted, status, ids);
            let step = || Step {
                path: way.path(),
                metadata: metadata.clone(),
            };
            if is_blocked {
                walk.blocked = Some(step());
            }
            if last {
                walk.file = Some(step());
                walk.place = Some(way.end());
                return Ok(walk);
            }
        }
        let Some(name) = left.pop_front() else {
            // A link to the root itself, or to a folder above.
            continue;
        };
        if way.below.len() >= DEPTH {
            bail!("a path of more than {DEPTH} components");
        }
        match way.enter(name.clone()) {
            Ok(()) => {}
            Err(error) if is_missing(&error) => {
                walk.missing = Some(way.path().join(name));
                return Ok(walk);
            }
            Err(error) => {
                let path = way.path().join(name);
                return Err(error).with_context(|| format!("look at {}", path.display()));
            }
        }
    }
}

/// The worker's directory, by the names that lead there from its root.
fn enter_directory(way: &mut Way, worker: u32) -> Result<()> {
    let directory = Place::directory_of(worker)?.metadata()?;
    let shown = fs::read_link(format!("/proc/{worker}/cwd"))?;
    // What the link shows is the path in our view; in the worker's it lacks its root's part.
    let root = fs::read_link(format!("/proc/{worker}/root")).unwrap_or_else(|_| "/".into());
    for name in names(shown.strip_prefix(root).unwrap_or(&shown)) {
        way.enter(name)?;
    }
    let found = way.here().metadata()?;
    if (found.dev(), found.ino()) != (directory.dev(), directory.ino()) {
        bail!("{} is another one now", shown.display());
    }
    Ok(())
}

fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    })
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR))
}

/// `generic_permission()` (`fs/namei.c`), but for ACLs: where one is set, `true`.
fn permits(
    place: &Place,
    metadata: &Metadata,
    wanted: u32,
    status: &Status,
    ids: Option<&Ids>,
) -> bool {
    let overrides = if metadata.is_dir() {
        CAP_DAC_OVERRIDE | CAP_DAC_READ_SEARCH
    } else {
        CAP_DAC_OVERRIDE
    };
    let (user, group) = (metadata.uid(), metadata.gid());
    // In a user namespace it counts for files of users and groups that are mapped there
    // (`capable_wrt_inode_uidgid()`).
    let counts = ids.is_none_or(|ids| ids.user(user).is_some() && ids.group(group).is_some());
    if counts && status.capabilities & overrides != 0 {
        return true;
    }
    let mode = metadata.mode();
    let bits = if user == status.file_uid {
        mode >> 6
    } else if place.has_acl() {
        return true;
    } else if group == status.file_gid || status.groups.contains(&group) {
        mode >> 3
    } else {
        mode
    };
    bits & wanted != 0
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

/// A process that has a directory as its root; it ends with this value.
#[cfg(test)]
pub(super) struct Contained(pub(super) u32);

#[cfg(test)]
impl Contained {
    /// `None` where this process may not make one.
    pub(super) fn within(directory: &Directory) -> Option<Self> {
        use std::os::unix::ffi::OsStrExt as _;
        let root = std::ffi::CString::new(directory.0.as_os_str().as_bytes()).unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        // SAFETY: the child makes system calls alone, on values that were made before.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            use std::os::fd::AsRawFd as _;
            // SAFETY: the path ends with NUL, the byte is there.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if libc::chroot(root.as_ptr()) != 0 || libc::chdir(c"/".as_ptr()) != 0 {
                    libc::_exit(1);
                }
                libc::write(writer.as_raw_fd(), c"r".as_ptr().cast(), 1);
                loop {
                    libc::pause();
                }
            }
        }
        drop(writer);
        let contained = Self(u32::try_from(pid).unwrap());
        let mut byte = [0];
        let is_there = io::Read::read(&mut reader, &mut byte).unwrap() == 1;
        is_there.then_some(contained)
    }
}

#[cfg(test)]
impl Drop for Contained {
    fn drop(&mut self) {
        use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
        let pid = Pid::from_raw(self.0 as i32).unwrap();
        let _ = kill_process(pid, Signal::KILL);
        let _ = waitpid(Some(pid), WaitOptions::empty());
    }
}

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
        walk(std::process::id(), path, &status, None).unwrap()
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

    #[test]
    fn no_link_leads_out_of_the_worker_s_root() {
        let outside = Directory::new("walk-outside");
        let inside = Directory::new("walk-inside");
        fs::write(outside.file("secret"), "").unwrap();
        fs::write(inside.file("own"), "").unwrap();
        fs::create_dir(inside.file("folder")).unwrap();
        let link = |name: &str, target: &str| {
            std::os::unix::fs::symlink(target, inside.file(name)).unwrap();
        };
        link("absolute", &outside.file("secret"));
        link("up", "../../../../../../own");
        link("folder/up", "../own");
        link("root", "/");
        let Some(worker) = Contained::within(&inside) else {
            println!("SKIPPED: no_link_leads_out_of_the_worker_s_root: needs root");
            return;
        };
        let status = Status::default();
        let walk = |path: &str| walk(worker.0, path, &status, None).unwrap();
        let lost = walk("/absolute").missing.unwrap();
        assert_eq!(lost, Path::new("/tmp"), "the host's file is not there");
        for path in [
            "/up",
            "/folder/up",
            "/folder/../../own",
            "/root/root/own",
            "own",
            "folder/../own",
        ] {
            let file = walk(path).file.expect(path);
            assert_eq!(file.path, Path::new("/own"), "{path}");
        }
        assert_eq!(walk("/own/x").missing.unwrap(), Path::new("/own/x"));
        let deep = "/folder/..".repeat(300);
        assert_eq!(walk(&deep).file.unwrap().path, Path::new("/"));
    }

    #[test]
    fn a_capability_counts_for_what_is_mapped_alone() {
        let directory = Directory::new("walk-mapped");
        let path = directory.file("a.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let status = Status {
            file_uid: 54_321,
            file_gid: 54_321,
            capabilities: CAP_DAC_OVERRIDE | CAP_DAC_READ_SEARCH,
            ..Status::default()
        };
        let blocked = |ids: Option<&Ids>| {
            let walk = walk(std::process::id(), &path, &status, ids).unwrap();
            walk.blocked.map(|step| step.path)
        };
        let own = fs::metadata(&path).unwrap();
        let all = Ids::shifted(own.uid(), own.gid(), 65_536);
        assert_eq!(blocked(None), None);
        assert_eq!(blocked(Some(&all)), None);
        let none = Ids::shifted(own.uid() + 1, own.gid(), 65_536);
        assert_eq!(blocked(Some(&none)).as_deref(), Some(Path::new(&path)));
    }
}
