//! The one thread that keeps `CAP_SYS_ADMIN`, and what it does for the others.
//!
//! Entering a network namespace needs `CAP_SYS_ADMIN`, and so does attaching a uprobe on some
//! kernels; what these bring is read on threads without it. The requests are few: a socket in a
//! namespace, a setting of one, a job that needs `CAP_SYS_ADMIN` ([`with_admin`]), and a thread for
//! [`bounded`](super::bounded()). A caller waits for two seconds at most, for a job as long as it
//! says. Without a keeper (`doctor`, unit tests) the calling thread does it itself.

use std::{
    fs::File,
    io,
    num::NonZeroU32,
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError},
    },
    thread,
    time::Duration,
};

use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, ipproto, socket_with};

use super::netns;

/// How long a caller waits: attaching a probe on a busy host takes a tenth of a second.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// Requests in flight.
const REQUESTS: usize = 64;
/// Jobs that may be stuck at a time, each on a thread of its own: the file of a uprobe may be one
/// that never answers.
const STUCK: usize = 16;
/// Bytes.
const STACK: usize = 256 << 10;

type Job = Box<dyn FnOnce() + Send>;

enum Request {
    Socket(Arc<File>, Socket, SyncSender<io::Result<OwnedFd>>),
    Setting(Arc<File>, &'static str, SyncSender<io::Result<String>>),
    Thread(&'static str, Job, SyncSender<io::Result<()>>),
}

/// A socket that can be opened in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Socket {
    /// Netlink, of this protocol.
    Netlink(i32),
    /// Raw ICMP, which does not block (needs `CAP_NET_RAW`).
    Icmp,
    /// The same for ICMPv6.
    Icmpv6,
}

static KEEPER: Mutex<Option<SyncSender<Request>>> = Mutex::new(None);

fn keeper() -> Option<SyncSender<Request>> {
    KEEPER
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

/// Starts the keeper's thread, which runs `prepare` first: it drops what the keeper does not need.
/// From now on the other threads can do without `CAP_SYS_ADMIN`.
///
/// # Errors
/// The thread cannot be started; all stays as it was.
pub(crate) fn start(prepare: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut keeper = KEEPER.lock().unwrap_or_else(PoisonError::into_inner);
    if keeper.is_some() {
        return Ok(());
    }
    let home = File::open("/proc/thread-self/ns/net")?;
    let (sender, requests) = mpsc::sync_channel(REQUESTS);
    thread::Builder::new()
        .name("keeper".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            prepare();
            serve(&home, &requests);
        })?;
    *keeper = Some(sender);
    Ok(())
}

fn serve(home: &File, requests: &Receiver<Request>) {
    while let Ok(request) = requests.recv() {
        // Whoever asked may have given up: the answer is dropped then, and closed.
        let is_home = match request {
            Request::Socket(netns, socket, answer) => {
                let (opened, is_home) = inside(&netns, home, || socket.open());
                let _ = answer.send(opened);
                is_home
            }
            Request::Setting(netns, name, answer) => {
                let (read, is_home) = inside(&netns, home, || netns::setting_here(name));
                let _ = answer.send(read);
                is_home
            }
            Request::Thread(name, job, answer) => {
                let spawned = thread::Builder::new().name(name.to_owned()).spawn(job);
                let _ = answer.send(spawned.map(drop));
                true
            }
        };
        // What is opened next would be opened in the wrong place: callers get an error instead.
        if !is_home {
            return;
        }
    }
}

/// Runs `work` in a namespace; `false` if the thread did not get back home.
fn inside<T>(
    netns: &File,
    home: &File,
    work: impl FnOnce() -> io::Result<T>,
) -> (io::Result<T>, bool) {
    match netns::enter(netns) {
        Ok(()) => {
            let outcome = work();
            (outcome, netns::enter(home).is_ok())
        }
        Err(error) => (Err(error), true),
    }
}

/// Opens a socket in a namespace.
///
/// # Errors
/// The namespace cannot be entered, or the socket not be opened; `ETIMEDOUT`.
pub(super) fn socket(netns: &Arc<File>, socket: Socket) -> io::Result<OwnedFd> {
    match keeper() {
        Some(keeper) => ask(&keeper, |answer| {
            Request::Socket(Arc::clone(netns), socket, answer)
        }),
        None => netns::within(netns, || socket.open()),
    }
}

/// Reads a setting of `/proc/sys/net` in a namespace.
///
/// # Errors
/// The namespace cannot be entered, or the setting is absent there; `ETIMEDOUT`.
pub(super) fn setting(netns: &Arc<File>, name: &'static str) -> io::Result<String> {
    match keeper() {
        Some(keeper) => ask(&keeper, |answer| {
            Request::Setting(Arc::clone(netns), name, answer)
        }),
        None => netns::within(netns, || netns::setting_here(name)),
    }
}

/// Starts a thread with the keeper's capabilities; `work` drops those that it does not need.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn spawn(name: &'static str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    match keeper() {
        Some(keeper) => ask(&keeper, |answer| {
            Request::Thread(name, Box::new(work), answer)
        }),
        None => thread::Builder::new()
            .name(name.to_owned())
            .spawn(work)
            .map(drop),
    }
}

/// Jobs of [`with_admin`] that have not returned.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// One of [`RUNNING`].
struct Running;

impl Running {
    fn begin() -> io::Result<Self> {
        let more = |running| (running < STUCK).then_some(running + 1);
        match RUNNING.fetch_update(Ordering::AcqRel, Ordering::Acquire, more) {
            Ok(_) => Ok(Self),
            Err(_) => Err(timed_out()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Runs `work` with `CAP_SYS_ADMIN` (attaching a uprobe, BPF objects by their id) on a thread that
/// ends with it. What it returns is dropped if the caller has given up: a link is detached then.
///
/// # Errors
/// `ETIMEDOUT` if it does not return within `patience`, `EIO` if it panics.
pub(crate) fn with_admin<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    if keeper().is_none() {
        return Ok(work());
    }
    let running = Running::begin()?;
    let (done, result) = mpsc::sync_channel(1);
    spawn("admin", move || {
        let _running = running;
        let _ = done.send(catch_unwind(AssertUnwindSafe(work)));
    })?;
    match result.recv_timeout(patience) {
        Ok(Ok(outcome)) => Ok(outcome),
        Err(RecvTimeoutError::Timeout) => Err(timed_out()),
        Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => {
            Err(io::Error::from_raw_os_error(libc::EIO))
        }
    }
}

fn ask<T>(
    keeper: &SyncSender<Request>,
    request: impl FnOnce(SyncSender<io::Result<T>>) -> Request,
) -> io::Result<T> {
    let (answer, answered) = mpsc::sync_channel(1);
    match keeper.try_send(request(answer)) {
        Ok(()) => {}
        Err(TrySendError::Full(_)) => return Err(timed_out()),
        Err(TrySendError::Disconnected(_)) => return Err(gone()),
    }
    match answered.recv_timeout(PATIENCE) {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Timeout) => Err(timed_out()),
        Err(RecvTimeoutError::Disconnected) => Err(gone()),
    }
}

fn timed_out() -> io::Error {
    io::Error::from_raw_os_error(libc::ETIMEDOUT)
}

fn gone() -> io::Error {
    io::Error::other("the thread that keeps CAP_SYS_ADMIN has ended")
}

impl Socket {
    /// In the namespace of the calling thread.
    pub(super) fn open(self) -> io::Result<OwnedFd> {
        let (family, flags, protocol) = match self {
            Self::Netlink(protocol) => {
                let protocol = u32::try_from(protocol).ok().and_then(NonZeroU32::new);
                // NETLINK_ROUTE is 0.
                let protocol = protocol.map(Protocol::from_raw);
                (AddressFamily::NETLINK, SocketFlags::empty(), protocol)
            }
            Self::Icmp => (
                AddressFamily::INET,
                SocketFlags::NONBLOCK,
                Some(ipproto::ICMP),
            ),
            Self::Icmpv6 => (
                AddressFamily::INET6,
                SocketFlags::NONBLOCK,
                Some(ipproto::ICMPV6),
            ),
        };
        let flags = flags | SocketFlags::CLOEXEC;
        Ok(socket_with(family, SocketType::RAW, flags, protocol)?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::{
        process::{Netns, netns::in_new_netns},
        source::keep_nothing,
    };

    #[test]
    fn a_thread_without_capabilities_asks_about_another_namespace() {
        start(|| ()).unwrap();
        let name = "a_thread_without_capabilities_asks_about_another_namespace";
        let Some(other) = in_new_netns(name, || {
            std::fs::write("/proc/sys/net/ipv4/ip_default_ttl", "77").unwrap();
        }) else {
            return;
        };
        let netns = Netns::of(other.thread).unwrap();
        let asked = thread::spawn(move || {
            keep_nothing();
            let file = File::open(format!("/proc/self/task/{}/ns/net", other.thread)).unwrap();
            assert!(netns::enter(&file).is_err(), "it could do so by itself");
            assert!(netns.netlink(libc::NETLINK_ROUTE).is_ok());
            assert!(netns.icmp().is_ok());
            // What is read next is not read there any more.
            let own = Netns::own().unwrap().number("ipv4/ip_default_ttl");
            (netns.number("ipv4/ip_default_ttl"), own)
        });
        let (inside, own) = asked.join().unwrap();
        assert_eq!(inside, Some(77));
        assert_ne!(own, Some(77));
    }

    #[test]
    fn a_job_that_does_not_return_or_panics_costs_its_caller_alone() {
        start(|| ()).unwrap();
        let (release, released) = channel::<()>();
        let stuck = with_admin(PATIENCE, move || released.recv().is_err());
        assert_eq!(stuck.unwrap_err().raw_os_error(), Some(libc::ETIMEDOUT));
        let panicked = with_admin(PATIENCE, || -> () { panic!("hostile bytes") });
        assert_eq!(panicked.unwrap_err().raw_os_error(), Some(libc::EIO));
        assert_eq!(with_admin(PATIENCE, || 7).unwrap(), 7);
        drop(release);
    }
}
