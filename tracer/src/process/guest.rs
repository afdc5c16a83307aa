//! A thread in another process's place: in its network namespace and its root, with the rights of
//! its user where files and sockets are opened. What it connects to is what that process would.
//!
//! Its cgroup, its security label and its seccomp filter are not taken over.

use std::{fs::File, io, sync::Arc};

use super::{Status, foreign, netns};

/// A process's place, held open.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    netns: Arc<File>,
    root: Arc<File>,
    rights: foreign::Rights,
}

impl Guest {
    /// That of a process, with the rights of `user`.
    ///
    /// # Errors
    /// The process is gone, or may not be looked at (needs `CAP_SYS_PTRACE`).
    pub(crate) fn of(pid: u32, user: &Status) -> io::Result<Self> {
        Ok(Self {
            netns: Arc::new(File::open(format!("/proc/{pid}/ns/net"))?),
            root: Arc::new(foreign::root_folder(pid)?),
            rights: foreign::Rights::of(user),
        })
    }

    /// Moves the calling thread there for good.
    ///
    /// # Errors
    /// Needs `CAP_SYS_ADMIN` and `CAP_SYS_CHROOT`.
    pub(crate) fn enter(&self) -> io::Result<()> {
        netns::enter(&self.netns)?;
        // Root and directory become this thread's own.
        // SAFETY: a flag alone.
        if unsafe { libc::unshare(libc::CLONE_FS) } != 0 {
            return Err(io::Error::last_os_error());
        }
        rustix::process::fchdir(&self.root)?;
        Ok(rustix::process::chroot(".")?)
    }

    /// Runs `work` with the user's rights, on a thread that has entered.
    ///
    /// # Errors
    /// Those of `work`; the rights cannot be taken (needs `CAP_SETUID` and `CAP_SETGID`).
    pub(crate) fn with_rights<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.rights.borrowed(work)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::process::{netns::in_new_netns, status};

    #[test]
    fn a_thread_sees_what_the_process_sees_and_may_do_no_more() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: a_thread_sees_what_the_process_sees: needs root");
            return;
        }
        let test = "a_thread_sees_what_the_process_sees_and_may_do_no_more";
        let listen = || std::net::TcpListener::bind("127.0.0.1:4711").unwrap();
        let Some(worker) = in_new_netns(test, listen) else {
            return;
        };
        let mut user = status(worker.thread).unwrap();
        (user.file_uid, user.file_gid, user.groups) = (65_534, 65_534, Vec::new());
        let folder = std::env::temp_dir().join(format!("tracer-guest-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("a.sock");
        let listener = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        let guest = Guest::of(worker.thread, &user).unwrap();
        let there = std::thread::spawn({
            let path = path.clone();
            move || {
                guest.enter().unwrap();
                let tcp = std::net::TcpStream::connect("127.0.0.1:4711").is_ok();
                let unix = guest.with_rights(|| std::os::unix::net::UnixStream::connect(&path));
                (tcp, unix.map_err(|error| error.kind()).err())
            }
        });
        let (tcp, unix) = there.join().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        drop(listener);
        assert!(tcp, "the listener is in that namespace");
        assert_eq!(unix, Some(io::ErrorKind::PermissionDenied));
    }
}
