//! What another user may have chosen: the memory of a process, the files that it runs, maps or
//! names.
//!
//! This is the only way to them (`cargo xtask test` checks that no other is used). Everything is
//! opened as a path first (`O_PATH`), which involves no device and no FIFO, and for reading only
//! once it has turned out to be a regular file (or a folder, where the caller wants one): never as
//! a controlling terminal, never waiting, and never with more rights than the process itself has.
//! All of it is bounded in bytes, and in time by [`bounded`].

use std::{
    ffi::{OsStr, OsString},
    fs::{File, Metadata},
    io::{self, Read as _},
    os::{
        fd::{AsFd, AsRawFd as _},
        unix::{
            ffi::OsStringExt as _,
            fs::{FileExt as _, MetadataExt as _},
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatVfsMountFlags, StatxFlags},
    process::Gid,
    thread::set_thread_groups,
};

use crate::event::fact::Room;

use super::{
    Status,
    bounded::{bounded, bounded_by},
    status,
};

/// What is to be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file.
    File,
    /// A folder, for its names.
    Folder,
}

/// At most `limit` bytes of a file of `/proc/PID` that shows memory or mappings of the process
/// (`cmdline`, `maps`).
///
/// # Errors
/// The process is gone, or stalls.
pub(crate) fn proc_file(pid: u32, name: &'static str, limit: u64) -> io::Result<Vec<u8>> {
    bounded(pid, move || {
        super::read_start(format!("/proc/{pid}/{name}"), limit)
    })
}

/// `length` bytes of a process's memory, fewer where what follows is not there.
///
/// # Errors
/// The process is gone, nothing is there, or it stalls.
pub(crate) fn memory(pid: u32, address: u64, length: usize) -> io::Result<Vec<u8>> {
    bounded(pid, move || memory_of(pid, address, length))
}

fn memory_of(pid: u32, address: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let read = File::open(format!("/proc/{pid}/mem"))?.read_at(&mut bytes, address)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Much longer than a page of a program takes to come from a disk.
const SOON: Duration = Duration::from_millis(20);

/// The text at an address of a process: what comes before a NUL, at most `limit` bytes. For the
/// event loop: it waits no longer than 20 ms.
///
/// # Errors
/// As [`memory`].
pub(crate) fn text_at(pid: u32, address: u64, limit: usize) -> io::Result<String> {
    let bytes = bounded_by(SOON, pid, move || memory_of(pid, address, limit))?;
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// Has `read` look at the file that a process runs, on a thread that may be given up.
///
/// # Errors
/// The process is gone, its file is no regular one, or `read` fails or does not return in time.
pub(crate) fn with_exe<T: Send + 'static>(
    pid: u32,
    read: impl FnOnce(File) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    bounded(pid, move || read(link(pid, "exe")?))
}

/// Has `read` look at the very file that a process maps there, also if it was replaced.
///
/// # Errors
/// As [`with_exe`]; without `CAP_CHECKPOINT_RESTORE` it is not permitted.
pub(crate) fn with_mapped<T: Send + 'static>(
    pid: u32,
    range: (u64, u64),
    read: impl FnOnce(File) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (start, end) = range;
    bounded(pid, move || {
        read(link(pid, &format!("map_files/{start:x}-{end:x}"))?)
    })
}

/// Opens the file behind a descriptor of a process, with the rights of `owner` (who opened it). For
/// use within [`bounded`] alone.
///
/// # Errors
/// The descriptor is gone or of no regular file, or `owner` may not read it.
pub(crate) fn open_descriptor(pid: u32, descriptor: u32, owner: &Status) -> io::Result<File> {
    let path = descriptor_path(pid, descriptor)?;
    Rights::of(owner).borrowed(|| reopen(&path, Kind::File))
}

/// What is behind a descriptor of a process, without opening it. For use within [`bounded`] alone.
///
/// # Errors
/// The descriptor is gone.
pub(crate) fn descriptor_metadata(pid: u32, descriptor: u32) -> io::Result<Metadata> {
    descriptor_path(pid, descriptor)?.metadata()
}

fn descriptor_path(pid: u32, descriptor: u32) -> io::Result<File> {
    path_at(
        None,
        &named(pid, &format!("fd/{descriptor}")),
        OFlags::empty(),
    )
}

/// Opens a regular file that the operator named. For use within [`bounded`] alone.
///
/// # Errors
/// Those of `openat2`; `EINVAL` if it is no regular file.
pub(crate) fn open_named(path: &Path) -> io::Result<File> {
    reopen(&path_at(None, path, OFlags::empty())?, Kind::File)
}

/// Device and inode number of the file that a process runs, as its mounts show it.
///
/// # Errors
/// As [`with_exe`].
pub(crate) fn exe_id(pid: u32) -> io::Result<(u64, u64)> {
    exe_metadata(pid).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Is the file that a process runs reached by the mount of this process's root, or by a copy of it
/// that is the other's root (a service may have mounts of its own)? No mount that is to be
/// unmounted is kept busy by it then. `false` where the kernel does not say (before 5.8).
#[must_use]
pub(crate) fn is_exe_at_root(pid: u32) -> bool {
    let mount = bounded(pid, move || {
        mount_of(&path_at(None, &named(pid, "exe"), OFlags::empty())?)
    });
    let own = path_at(None, Path::new("/"), OFlags::DIRECTORY).and_then(|root| mount_of(&root));
    let (Ok(mount), Ok(own)) = (mount, own) else {
        return false;
    };
    if mount == own {
        return true;
    }
    let mounts = |pid| proc_file(pid, "mountinfo", MOUNTS_LIMIT).unwrap_or_default();
    let (shown, here) = (mounts(pid), mounts(std::process::id()));
    let shown = mount_root(&shown, mount);
    shown.is_some() && shown == mount_root(&here, own)
}

/// Bytes of `/proc/PID/mountinfo`: some thousand mounts.
const MOUNTS_LIMIT: u64 = 1 << 20;

/// Which part of which file system is mounted by the mount of this number, if that is at `/`:
/// `major:minor` and the folder within (`proc_pid_mountinfo(5)`).
fn mount_root(mountinfo: &[u8], mount: u64) -> Option<(&[u8], &[u8])> {
    let number = mount.to_string();
    let mut lines = mountinfo.split(|&byte| byte == b'\n');
    lines.find_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ');
        let is_it = fields.next()? == number.as_bytes();
        let (device, root, at) = (fields.nth(1)?, fields.next()?, fields.next()?);
        (is_it && at == b"/").then_some((device, root))
    })
}

/// The mount that a path leads through, by its number.
fn mount_of(path: &File) -> io::Result<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let status = rustix::fs::statx(path, "", flags, StatxFlags::MNT_ID)?;
    match status.stx_mask & StatxFlags::MNT_ID.bits() {
        0 => Err(io::ErrorKind::Unsupported.into()),
        _ => Ok(status.stx_mnt_id),
    }
}

/// The kind of file system that the file of a process's program lies on (`statfs.f_type`).
///
/// # Errors
/// As [`with_exe`].
pub(crate) fn exe_file_system(pid: u32) -> io::Result<u64> {
    bounded(pid, move || {
        let path = path_at(None, &named(pid, "exe"), OFlags::empty())?;
        let status = rustix::fs::fstatfs(path)?;
        // Its type is the C library's choice.
        u64::try_from(status.f_type).map_err(|_| io::ErrorKind::InvalidData.into())
    })
}

/// What is known of the file that a process runs, as its mounts show it.
///
/// # Errors
/// As [`with_exe`].
pub(crate) fn exe_metadata(pid: u32) -> io::Result<Metadata> {
    bounded(pid, move || program(pid))
}

fn program(pid: u32) -> io::Result<Metadata> {
    path_at(None, &named(pid, "exe"), OFlags::empty())?.metadata()
}

/// Do two processes run the same file? For use within [`bounded`] alone.
#[must_use]
pub(crate) fn run_the_same(pid: u32, other: u32) -> bool {
    let id = |pid| {
        let program = program(pid).ok()?;
        Some((program.dev(), program.ino()))
    };
    id(pid).is_some_and(|own| id(other) == Some(own))
}

/// Opens a file or folder by its name in a process's root, as that process would: no symbolic link
/// leads out of the root, and no more can be read than its user may.
///
/// # Errors
/// Those of `openat2`; `EINVAL` if it is not of that kind.
pub(crate) fn with_path<T: Send + 'static>(
    pid: u32,
    path: &Path,
    kind: Kind,
    read: impl FnOnce(File) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let path = path.to_owned();
    let owner = status(pid)?;
    bounded(pid, move || read(Root::of(pid, &owner)?.open(&path, kind)?))
}

/// At most `limit` bytes of a regular file in a process's root.
///
/// # Errors
/// As [`with_path`].
pub(crate) fn read_path(pid: u32, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    with_path(pid, path, Kind::File, move |file| {
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    })
}

/// A process's root, held as a path.
///
/// # Errors
/// The process is gone, or may not be looked at.
pub(super) fn root_folder(pid: u32) -> io::Result<File> {
    path_at(None, &named(pid, "root"), OFlags::DIRECTORY)
}

/// A process's root, held as a path, and the rights of its user. For use within [`bounded`] alone.
#[derive(Debug)]
pub(crate) struct Root {
    folder: File,
    rights: Rights,
}

impl Root {
    /// That of a process, as it is now, with the rights of `owner`.
    ///
    /// # Errors
    /// The process is gone, or may not be looked at (needs `CAP_SYS_PTRACE`).
    pub(crate) fn of(pid: u32, owner: &Status) -> io::Result<Self> {
        Ok(Self {
            folder: root_folder(pid)?,
            rights: Rights::of(owner),
        })
    }

    /// Opens a file or a folder, see [`with_path`].
    ///
    /// # Errors
    /// Those of `openat2`; `EINVAL` if it is not of that kind.
    pub(crate) fn open(&self, path: &Path, kind: Kind) -> io::Result<File> {
        self.rights.borrowed(|| {
            let path = path_at(Some(&self.folder), path, OFlags::empty())?;
            reopen(&path, kind)
        })
    }

    /// The names in a folder, at most `limit`.
    ///
    /// # Errors
    /// As [`Root::open`].
    pub(crate) fn names(
        &self,
        folder: &Path,
        limit: usize,
    ) -> io::Result<(Metadata, Vec<OsString>)> {
        self.rights.borrowed(|| {
            let path = path_at(Some(&self.folder), folder, OFlags::empty())?;
            let open = reopen(&path, Kind::Folder)?;
            let entries = std::fs::read_dir(own_descriptor(&open))?;
            let names = entries
                .take(limit)
                .map(|entry| Ok(entry?.file_name()))
                .collect::<io::Result<_>>()?;
            Ok((open.metadata()?, names))
        })
    }
}

/// A file, folder, link or socket, held as a path (`O_PATH`): it is looked at, never opened. For
/// use within [`bounded`] alone.
#[derive(Debug)]
pub(crate) struct Place(File);

impl Place {
    /// A process's root.
    ///
    /// # Errors
    /// The process is gone, or may not be looked at.
    pub(crate) fn root_of(pid: u32) -> io::Result<Self> {
        root_folder(pid).map(Self)
    }

    /// A process's directory.
    ///
    /// # Errors
    /// As [`Place::root_of`].
    pub(crate) fn directory_of(pid: u32) -> io::Result<Self> {
        path_at(None, &named(pid, "cwd"), OFlags::DIRECTORY).map(Self)
    }

    /// What has this name in it; a symbolic link is given itself. `name` is one component, and not
    /// `..`.
    ///
    /// # Errors
    /// Those of `openat`.
    pub(crate) fn entry(&self, name: &OsStr) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let entry = rustix::fs::openat(&self.0, name, flags, Mode::empty())?;
        Ok(Self(entry.into()))
    }

    /// Its owner, mode and kind.
    ///
    /// # Errors
    /// Those of `fstat`.
    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        self.0.metadata()
    }

    /// How full its file system is.
    ///
    /// # Errors
    /// Those of `fstatvfs`.
    pub(crate) fn room(&self) -> io::Result<Room> {
        let stat = rustix::fs::fstatvfs(&self.0)?;
        Ok(Room {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            size: stat.f_blocks.saturating_mul(stat.f_frsize),
            free_files: (stat.f_files > 0).then_some(stat.f_favail),
            read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
        })
    }

    /// What a symbolic link says.
    ///
    /// # Errors
    /// Those of `readlinkat`; `ENOENT` if it is no link.
    pub(crate) fn target(&self) -> io::Result<PathBuf> {
        // An empty path means the descriptor itself.
        let target = rustix::fs::readlinkat(&self.0, "", Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }

    /// Whether it has an access ACL.
    #[must_use]
    pub(crate) fn has_acl(&self) -> bool {
        let name = "system.posix_acl_access";
        let size = rustix::fs::getxattr_query(own_descriptor(&self.0), name);
        size.is_ok_and(|size| size > 0)
    }
}

/// Whose rights count where files are opened (`fsuid`, `fsgid` and supplementary groups).
#[derive(Debug, Clone)]
pub(super) struct Rights {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Rights {
    pub(super) fn of(status: &Status) -> Self {
        Self {
            uid: status.file_uid,
            gid: status.file_gid,
            groups: status.groups.clone(),
        }
    }

    /// Runs `work` with these rights on the calling thread alone, which has its own again
    /// afterwards. The host's root keeps what tracer has.
    pub(super) fn borrowed<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let own = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        if self.uid == own.0 {
            return work();
        }
        let before = rustix::process::getgroups()?;
        let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
        set_thread_groups(&groups)?;
        let _back = Back {
            uid: own.0,
            gid: own.1,
            groups: before,
        };
        set_file_ids(self.uid, self.gid);
        // They return the value of before, whatever comes of it: asked once more, they say what
        // holds now.
        let now = set_file_ids(u32::MAX, u32::MAX);
        if now != (i64::from(self.uid), i64::from(self.gid)) {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        work()
    }
}

/// Restores the thread's own rights, also where the work panicked.
struct Back {
    uid: u32,
    gid: u32,
    groups: Vec<Gid>,
}

impl Drop for Back {
    fn drop(&mut self) {
        set_file_ids(self.uid, self.gid);
        let _ = set_thread_groups(&self.groups);
    }
}

/// Sets both ids of the calling thread alone, unlike the C library, and returns those of before.
/// The group first: a user may not change it any more.
fn set_file_ids(uid: u32, gid: u32) -> (i64, i64) {
    // SAFETY: integers alone.
    let (gid, uid) = unsafe {
        (
            libc::syscall(libc::SYS_setfsgid, gid),
            libc::syscall(libc::SYS_setfsuid, uid),
        )
    };
    (uid, gid)
}

fn named(pid: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

fn own_descriptor(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// A regular file behind a magic link of `/proc`, for reading.
fn link(pid: u32, name: &str) -> io::Result<File> {
    reopen(
        &path_at(None, &named(pid, name), OFlags::empty())?,
        Kind::File,
    )
}

/// A path alone (`O_PATH`); below `root` where one is given, from which no link leads out
/// (`openat2`, 5.6).
fn path_at(root: Option<&File>, path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | flags;
    let resolve = match root {
        Some(_) => ResolveFlags::IN_ROOT,
        None => ResolveFlags::empty(),
    };
    let root = root.map_or(CWD, AsFd::as_fd);
    Ok(rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?.into())
}

/// Opens for reading what a path turned out to be.
fn reopen(path: &File, kind: Kind) -> io::Result<File> {
    let mode = path.metadata()?.mode() & libc::S_IFMT;
    let wanted = match kind {
        Kind::File => libc::S_IFREG,
        Kind::Folder => libc::S_IFDIR,
    };
    if mode != wanted {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(own_descriptor(path), flags, Mode::empty())?.into())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use rustix::fs::FileType;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tracer-{test}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn own() -> (u32, Status) {
        let pid = std::process::id();
        (pid, status(pid).unwrap())
    }

    fn text(mut file: File) -> io::Result<String> {
        let mut text = String::new();
        file.read_to_string(&mut text).map(|_| text)
    }

    #[test]
    fn no_link_leads_out_of_a_root() {
        let folder = Folder::new("root");
        fs::write(folder.0.join("file"), "inside").unwrap();
        symlink("/file", folder.0.join("link")).unwrap();
        symlink("../../../../../file", folder.0.join("up")).unwrap();
        let root = Root {
            folder: File::open(&folder.0).unwrap(),
            rights: Rights::of(&own().1),
        };
        for name in ["/file", "link", "/up"] {
            let file = root.open(Path::new(name), Kind::File).unwrap();
            assert_eq!(text(file).unwrap(), "inside");
        }
        assert_eq!(root.names(Path::new("/"), 10).unwrap().1.len(), 3);
    }

    #[test]
    fn only_regular_files_are_opened() {
        let (pid, _) = own();
        let folder = Folder::new("kinds");
        let fifo = folder.0.join("fifo");
        let mode = Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, mode, 0).unwrap();
        for path in [
            &fifo,
            Path::new("/dev/null"),
            Path::new("/dev/ptmx"),
            &folder.0,
        ] {
            let error = read_path(pid, path, 10).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{path:?}");
        }
    }

    #[test]
    fn no_more_is_read_than_the_process_may() {
        let (pid, mut status) = own();
        if status.uid != 0 {
            println!("SKIPPED: no_more_is_read_than_the_process_may: needs root");
            return;
        }
        let folder = Folder::new("rights");
        let secret = folder.0.join("secret");
        fs::write(&secret, "secret").unwrap();
        for (mode, group, expected) in [
            (0o600, 65_534, Err(Some(libc::EACCES))),
            (0o640, 65_534, Err(Some(libc::EACCES))),
            (0o640, 0, Ok("secret".to_owned())),
            (0o604, 65_534, Ok("secret".to_owned())),
        ] {
            fs::set_permissions(&secret, PermissionsExt::from_mode(mode)).unwrap();
            fs::set_permissions(&folder.0, PermissionsExt::from_mode(0o755)).unwrap();
            (status.file_uid, status.file_gid) = (65_534, group);
            status.groups.clear();
            let path = secret.clone();
            let owner = status.clone();
            let read = bounded(pid, move || {
                text(Root::of(pid, &owner)?.open(&path, Kind::File)?)
            });
            let read = read.map_err(|error| error.raw_os_error());
            assert_eq!(read, expected, "{mode:o}");
        }
        // The thread is its own again.
        assert_eq!(read_path(pid, &secret, 6).unwrap(), b"secret");
    }

    #[test]
    fn this_process_s_own_parts_are_read() {
        let (pid, _) = own();
        let name = proc_file(pid, "cmdline", 4096).unwrap();
        assert!(!name.is_empty());
        let mark = *b"a mark in memory\0 and more";
        let read = text_at(pid, mark.as_ptr() as u64, 64).unwrap();
        assert_eq!(read, "a mark in memory");
        let head = with_exe(pid, |mut file| {
            let mut head = [0; 4];
            file.read_exact(&mut head).map(|()| head)
        });
        assert_eq!(head.unwrap(), *b"\x7fELF");
        assert!(exe_metadata(pid).unwrap().is_file());
    }

    /// What opens or looks at a file by its name.
    const WAYS: [&str; 14] = [
        "File::open",
        "File::create",
        "OpenOptions",
        "fs::read(",
        "fs::read_to_string",
        "fs::read_dir",
        "fs::write",
        "fs::metadata",
        "fs::symlink_metadata",
        "canonicalize",
        "libc::open(",
        "libc::openat(",
        "rustix::fs::open",
        "read_start(",
    ];
    /// Who may, and why no other user chose what is opened there.
    const EXEMPT: [(&str, &str); 11] = [
        ("check/confined.rs", "booleans of SELinux's own file system"),
        (
            "source/host/descriptors.rs",
            "counts the names of /proc/PID/fd",
        ),
        ("process/foreign.rs", "the door itself"),
        (
            "process/mod.rs",
            "read_start, of /proc; this process's own maps",
        ),
        (
            "process/netns.rs",
            "namespaces of /proc, settings of /proc/sys",
        ),
        ("source/descriptors.rs", "this process's own"),
        ("source/presence.rs", "files of its own in /run, checked"),
        ("source/system.rs", "the kernel's BTF and names"),
        (
            "source/host/confinement.rs",
            "attributes of /proc, its own mounts",
        ),
        (
            "source/host/cgroup_programs.rs",
            "folders of the cgroup file system",
        ),
        (
            "nginx/logs.rs",
            "metadata of --error-log, the operator's choice",
        ),
    ];

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name() != Some("tests".as_ref()) {
                sources(&path, found);
            } else if path.extension() == Some("rs".as_ref()) && !path.ends_with("tests.rs") {
                found.push(path);
            }
        }
    }

    /// The lines of a source that open a file otherwise than by the door, but for those of `/proc`
    /// that the kernel makes and that show no memory of a process's.
    fn others(text: &str) -> Vec<&str> {
        const STALLING: [&str; 6] = ["cmdline", "environ", "/maps", "smaps", "/mem\"", "/exe\""];
        let end = text.find("#[cfg(test)]").unwrap_or(text.len());
        let lines = text[..end].lines().map(str::trim);
        let opens = lines
            .filter(|line| !line.starts_with("//") && WAYS.iter().any(|way| line.contains(way)));
        opens
            .filter(|line| {
                !line.contains("\"/proc/") || STALLING.iter().any(|name| line.contains(name))
            })
            .collect()
    }

    #[test]
    fn a_copy_of_the_root_is_known_by_what_is_mounted_there() {
        let host = b"22 27 0:21 / /proc rw - proc proc rw\n27 1 254:0 / / rw - ext4 /dev/vda rw\n";
        let copy = b"70 60 254:0 / / ro - ext4 /dev/vda rw\n71 70 0:21 / /proc ro - proc proc rw\n";
        let own = mount_root(host, 27);
        assert_eq!(own, Some((&b"254:0"[..], &b"/"[..])));
        assert_eq!(mount_root(copy, 70), own);
        // Another file system, a folder of the same one, the same one elsewhere, none at all.
        for other in [
            &b"70 60 0:40 / / rw - overlay overlay rw\n"[..],
            b"70 60 254:0 /var/lib/machines/a / rw - ext4 /dev/vda rw\n",
            b"70 60 254:0 / /mnt rw - ext4 /dev/vda rw\n",
            b"70 60 254:0 /",
            b"700 60 254:0 / / rw - ext4 /dev/vda rw\n",
            b"",
        ] {
            assert_ne!(
                mount_root(other, 70),
                own,
                "{}",
                String::from_utf8_lossy(other)
            );
        }
    }

    #[test]
    fn nothing_else_opens_what_another_user_may_have_chosen() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        for folder in ["check", "nginx", "process", "source"] {
            sources(&source.join(folder), &mut files);
        }
        assert!(files.len() > 50, "{} files", files.len());
        let mut used = Vec::new();
        for file in &files {
            let text = fs::read_to_string(file).unwrap();
            let name = file.strip_prefix(&source).unwrap().to_str().unwrap();
            let others = others(&text);
            if EXEMPT.iter().any(|(exempt, _)| *exempt == name) {
                used.extend((!others.is_empty()).then(|| name.to_owned()));
            } else {
                assert_eq!(others, Vec::<&str>::new(), "{name}");
            }
        }
        // None is exempt for nothing.
        let unused = EXEMPT
            .iter()
            .filter(|(name, _)| !used.iter().any(|one| one == name));
        assert_eq!(unused.count(), 0, "{used:?}");
        // It finds what it looks for.
        assert_eq!(others("let a = File::open(path)?;").len(), 1);
        assert_eq!(
            others("read_start(format!(\"/proc/{pid}/cmdline\"), 9)").len(),
            1
        );
        assert_eq!(
            others("read_start(format!(\"/proc/{pid}/stat\"), 9)").len(),
            0
        );
    }
}
