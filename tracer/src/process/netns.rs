//! Work done in another process's network namespace.
//!
//! A socket belongs to the namespace of the thread that opened it, and `/proc/sys/net` shows that of the thread that
//! reads it. So the calling thread enters the namespace and comes back; nothing is kept open afterwards, as an open
//! socket would keep a dead container's namespace alive.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    time::Instant,
};

use anyhow::{Context as _, Result};

/// A process's network namespace, held open.
#[derive(Debug)]
pub struct Netns {
    id: u32,
    file: File,
}

impl Netns {
    /// The namespace that a process is in now.
    ///
    /// # Errors
    /// The process is gone, or may not be looked at (needs `CAP_SYS_PTRACE`).
    pub fn of(pid: u32) -> io::Result<Self> {
        let file = File::open(format!("/proc/{pid}/ns/net"))?;
        let id = inode_number(&file.metadata()?)?;
        Ok(Self { id, file })
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn own() -> io::Result<Self> {
        let file = File::open("/proc/thread-self/ns/net")?;
        let id = inode_number(&file.metadata()?)?;
        Ok(Self { id, file })
    }

    /// Its inode number, as in `net:[4026531840]`.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Runs `work` inside, on the calling thread, which is back in its own namespace afterwards.
    ///
    /// # Errors
    /// The namespace cannot be entered (needs `CAP_SYS_ADMIN`), or `work` fails.
    pub fn within<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let home = Self::own().context("this thread's network namespace")?;
        if home.id == self.id {
            return work();
        }
        self.enter()
            .with_context(|| format!("enter network namespace {}", self.id))?;
        let _back = Home(home);
        work()
    }

    fn enter(&self) -> io::Result<()> {
        // SAFETY: the descriptor is open; only the calling thread changes its namespace.
        if unsafe { libc::setns(self.file.as_raw_fd(), libc::CLONE_NEWNET) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// Enters the thread's own namespace again when it goes, also where the work panicked.
struct Home(Netns);

impl Drop for Home {
    fn drop(&mut self) {
        // The namespace is held open, and whoever could leave it may enter it.
        let _ = self.0.enter();
    }
}

/// The network namespaces of the host's processes, each once, but for this one; none beyond the deadline.
pub fn others(than: &Netns, deadline: Instant) -> impl Iterator<Item = Netns> {
    let mut seen = HashSet::from([than.id]);
    super::pids()
        .unwrap_or_default()
        .into_iter()
        .take_while(move |_| Instant::now() <= deadline)
        .filter_map(|pid| Netns::of(pid).ok())
        .filter(move |netns| seen.insert(netns.id))
}

/// One number of `/proc/sys/net` in the namespace of the calling thread; `None` if it is absent there.
#[must_use]
pub fn sysctl(name: &str) -> Option<u32> {
    sysctl_text(name)?.trim().parse().ok()
}

/// One setting of `/proc/sys/net` in the namespace of the calling thread, e.g. `ipv4/ip_local_port_range`.
#[must_use]
pub fn sysctl_text(name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/net/{name}")).ok()
}

fn inode_number(metadata: &fs::Metadata) -> io::Result<u32> {
    u32::try_from(metadata.ino()).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "a namespace's inode number has more than 32 bits",
        )
    })
}

/// A thread in a network namespace of its own, with its loopback up; it lives as long as this value.
#[cfg(test)]
pub(crate) struct NewNetns<T> {
    /// What its work gave.
    pub(crate) value: T,
    /// The thread's id: `/proc` shows it as it does a process.
    pub(crate) thread: u32,
    _leave: std::sync::mpsc::Sender<()>,
}

/// Runs `work` on a thread in a new namespace. `None`, and a line that says so, without the privilege for it.
#[cfg(test)]
pub(crate) fn in_new_netns<T: Send + 'static>(
    test: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<NewNetns<T>> {
    use std::sync::mpsc;

    let (leave, left) = mpsc::channel::<()>();
    let (give, given) = mpsc::channel();
    std::thread::spawn(move || {
        // SAFETY: only this thread's namespace changes; the request outlives the calls.
        let ready = unsafe {
            libc::unshare(libc::CLONE_NEWNET) == 0 && {
                let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
                let mut request: libc::ifreq = std::mem::zeroed();
                request.ifr_name[0] = b'l' as libc::c_char;
                request.ifr_name[1] = b'o' as libc::c_char;
                request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
                let up = libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request);
                libc::close(socket);
                up == 0
            }
        };
        // SAFETY: gettid has no preconditions.
        let thread = unsafe { libc::gettid() } as u32;
        let _ = give.send(ready.then(|| (work(), thread)));
        let _ = left.recv();
    });
    let Some((value, thread)) = given.recv().ok().flatten() else {
        println!("SKIPPED: {test}: a network namespace of its own needs root");
        return None;
    };
    Some(NewNetns {
        value,
        thread,
        _leave: leave,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_runs_inside_and_leaves_the_caller_where_it_was() {
        let Some(other) =
            in_new_netns("work_runs_inside_and_leaves_the_caller_where_it_was", || ())
        else {
            return;
        };
        let before = Netns::own().unwrap().id();
        let netns = Netns::of(other.thread).unwrap();
        assert_ne!(netns.id(), before);
        let inside = netns.within(|| Ok(Netns::own()?.id())).unwrap();
        assert_eq!(inside, netns.id());
        assert_eq!(Netns::own().unwrap().id(), before);
        assert!(
            netns
                .within(|| -> Result<()> { anyhow::bail!("its error") })
                .is_err()
        );
    }
}
