//! Another process's network namespace, asked from outside.
//!
//! A socket belongs to the namespace of the thread that opened it, and `/proc/sys/net` shows that
//! of the thread that reads it. So the [keeper] enters the namespace, opens or reads, and comes
//! back. An open socket keeps the namespace alive: whoever asks for one closes it.

use std::{
    cell::RefCell,
    collections::HashSet,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    sync::Arc,
    time::Instant,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{
    keeper::{self, Socket},
    read_start,
};

/// A process's network namespace, held open.
#[derive(Debug)]
pub(crate) struct Netns {
    id: u32,
    file: Arc<File>,
    /// Netlink sockets whose last request is answered, by protocol: to open one in another
    /// namespace costs.
    idle: RefCell<Vec<(i32, OwnedFd)>>,
}

impl Netns {
    /// The namespace that a process is in now.
    ///
    /// # Errors
    /// The process is gone, or may not be looked at (needs `CAP_SYS_PTRACE`).
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        Self::at(&format!("/proc/{pid}/ns/net"))
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub(crate) fn own() -> io::Result<Self> {
        Self::at("/proc/thread-self/ns/net")
    }

    fn at(path: &str) -> io::Result<Self> {
        let file = File::open(path)?;
        let id = inode_number(&file.metadata()?)?;
        Ok(Self {
            id,
            file: Arc::new(file),
            idle: RefCell::default(),
        })
    }

    /// Its inode number, as in `net:[4026531840]`.
    #[must_use]
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// A netlink socket of this protocol, which asks about this namespace.
    ///
    /// # Errors
    /// The namespace cannot be entered (needs `CAP_SYS_ADMIN`), or the kernel lacks the protocol.
    pub(crate) fn netlink(&self, protocol: i32) -> io::Result<OwnedFd> {
        let mut idle = self.idle.borrow_mut();
        if let Some(at) = idle.iter().position(|(of, _)| *of == protocol) {
            return Ok(idle.swap_remove(at).1);
        }
        let socket = Socket::Netlink(protocol);
        if self.is_own() {
            return socket.open();
        }
        keeper::socket(&self.file, socket)
    }

    /// Keeps a netlink socket, to which no answer is to come, for the next request.
    pub(crate) fn keep(&self, protocol: i32, socket: OwnedFd) {
        self.idle.borrow_mut().push((protocol, socket));
    }

    /// A raw socket that receives ICMP of this namespace and does not block.
    ///
    /// # Errors
    /// The namespace cannot be entered, or raw sockets are not permitted (needs `CAP_NET_RAW`).
    pub(crate) fn icmp(&self) -> io::Result<OwnedFd> {
        keeper::socket(&self.file, Socket::Icmp)
    }

    /// The same for ICMPv6.
    ///
    /// # Errors
    /// As [`icmp`](Self::icmp); IPv6 is off.
    pub(crate) fn icmpv6(&self) -> io::Result<OwnedFd> {
        keeper::socket(&self.file, Socket::Icmpv6)
    }

    /// One setting of `/proc/sys/net` in this namespace, e.g. `ipv4/ip_local_port_range`; `None` if
    /// it is absent there or cannot be read.
    #[must_use]
    pub(crate) fn setting(&self, name: &'static str) -> Option<String> {
        if self.is_own() {
            return setting_here(name).ok();
        }
        keeper::setting(&self.file, name).ok()
    }

    /// A setting that is a number.
    #[must_use]
    pub(crate) fn number(&self, name: &'static str) -> Option<u32> {
        self.setting(name)?.trim().parse().ok()
    }

    fn is_own(&self) -> bool {
        Self::own().is_ok_and(|own| own.id == self.id)
    }
}

/// One setting in the namespace of the calling thread.
pub(super) fn setting_here(name: &str) -> io::Result<String> {
    let bytes = read_start(format!("/proc/sys/net/{name}"), 4096)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Runs `work` inside, on the calling thread, which is back in its own namespace afterwards.
///
/// # Errors
/// The namespace cannot be entered (needs `CAP_SYS_ADMIN`), or `work` fails.
pub(super) fn within<T>(netns: &File, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let home = Netns::own()?;
    if inode_number(&netns.metadata()?)? == home.id {
        return work();
    }
    enter(netns)?;
    let _back = Home(home);
    work()
}

/// Moves the calling thread alone.
pub(super) fn enter(netns: &File) -> io::Result<()> {
    Ok(move_into_link_name_space(
        netns.as_fd(),
        Some(LinkNameSpaceType::Network),
    )?)
}

/// Enters the thread's own namespace again when it goes, also where the work panicked.
struct Home(Netns);

impl Drop for Home {
    fn drop(&mut self) {
        // The namespace is held open, and whoever could leave it may enter it.
        let _ = enter(&self.0.file);
    }
}

/// The network namespaces of the host's processes, each once, but for this one; none beyond the
/// deadline.
pub(crate) fn others(than: &Netns, deadline: Instant) -> impl Iterator<Item = Netns> {
    let mut seen = HashSet::from([than.id]);
    super::pids()
        .unwrap_or_default()
        .into_iter()
        .take_while(move |_| Instant::now() <= deadline)
        .filter_map(|pid| Netns::of(pid).ok())
        .filter(move |netns| seen.insert(netns.id))
}

fn inode_number(metadata: &fs::Metadata) -> io::Result<u32> {
    u32::try_from(metadata.ino()).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "a namespace's inode number has more than 32 bits",
        )
    })
}

/// A thread in a network namespace of its own, with its loopback up; it lives as long as this
/// value.
#[cfg(test)]
pub(crate) struct NewNetns<T> {
    /// What its work gave.
    pub(crate) value: T,
    /// The thread's id: `/proc` shows it as it does a process.
    pub(crate) thread: u32,
    _leave: std::sync::mpsc::Sender<()>,
}

/// Runs `work` on a thread in a new namespace. `None`, and a line that says so, without the
/// privilege for it.
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
        let thread = rustix::thread::gettid().as_raw_nonzero().get() as u32;
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
        let inside = within(&netns.file, || Ok(Netns::own()?.id())).unwrap();
        assert_eq!(inside, netns.id());
        assert_eq!(Netns::own().unwrap().id(), before);
        let error = io::Error::other("its error");
        assert!(within(&netns.file, || Err::<(), _>(error)).is_err());
        assert_eq!(Netns::own().unwrap().id(), before);
    }
}
