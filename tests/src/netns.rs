//! A network namespace of a test's own.
//!
//! It has no name and no mount: it lives as long as this value, the sockets and the processes made
//! in it, so that nothing is left behind however a test ends. Other threads are not moved.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::container::{Container, GATEWAY, Placement};
use crate::programs;

/// A network namespace with its loopback up; clones share it.
#[derive(Clone, Debug)]
pub struct Netns {
    file: Arc<File>,
    backends: Option<Arc<Container>>,
}

fn set(netns: BorrowedFd<'_>) -> std::io::Result<()> {
    Ok(move_into_link_name_space(
        netns,
        Some(LinkNameSpaceType::Network),
    )?)
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        scope
            .spawn(work)
            .join()
            .unwrap_or_else(|_| Err(anyhow!("a thread in a network namespace panicked")))
    })
}

impl Netns {
    /// Makes a namespace. Needs CAP_SYS_ADMIN.
    pub fn new() -> Result<Self> {
        let file = on_own_thread(|| {
            // SAFETY: unshare takes a flag only, and moves this thread, which ends here.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(std::io::Error::last_os_error())
                    .context("cannot make a network namespace (these tests need root)");
            }
            File::open("/proc/thread-self/ns/net").context("cannot open the new namespace")
        })?;
        let netns = Self {
            file: Arc::new(file),
            backends: None,
        };
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// Runs `work` on a thread inside; threads and sockets made there belong to the namespace.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let netns = self.file.as_fd();
        on_own_thread(move || {
            set(netns).context("cannot enter the network namespace")?;
            work()
        })
    }

    /// Makes `command` start inside, and end (SIGTERM) when the thread that spawned it ends.
    pub fn place(&self, command: &mut Command) {
        let file = Arc::clone(&self.file);
        // SAFETY: between fork and exec only two system calls are made, on values copied before.
        unsafe {
            command.pre_exec(move || {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                set(file.as_fd())
            });
        }
    }

    /// A command for one of our tools, inside.
    pub fn command(&self, tool: &str) -> Result<Command> {
        let mut command = programs::command(tool)?;
        self.place(&mut command);
        Ok(command)
    }

    /// Runs `ip` with these words.
    pub fn ip(&self, words: &str) -> Result<()> {
        programs::output(self.command("ip")?.args(words.split_whitespace())).map(drop)
    }

    /// Writes a setting under `/proc/sys/net`, as in `ipv4/tcp_syn_retries`.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        self.enter(|| {
            std::fs::write(format!("/proc/sys/net/{name}"), value)
                .with_context(|| format!("cannot set net/{name} to {value}"))
        })
    }

    /// Has backends that are placed on this namespace's loopback run in a container of it instead.
    pub fn place_backends(&mut self, placement: Placement) -> Result<()> {
        self.backends = Container::placed(self, placement)?.map(Arc::new);
        Ok(())
    }

    /// Where the backends of this namespace run: here, unless they have a container.
    pub fn backends(&self) -> &Netns {
        match &self.backends {
            Some(container) => container.netns(),
            None => self,
        }
    }

    /// Where a backend has to listen that is meant to be on this loopback address.
    pub fn listens(&self, address: &str) -> String {
        match &self.backends {
            Some(container) => container.listens(address),
            None => address.to_owned(),
        }
    }

    /// The text with loopback addresses as nginx reaches those backends.
    pub fn reaches(&self, text: &str) -> String {
        match &self.backends {
            Some(container) => container.reaches(text),
            None => text.to_owned(),
        }
    }

    /// The address that backends see nginx's connections come from.
    pub fn client(&self) -> &'static str {
        match &self.backends {
            Some(_) => GATEWAY,
            None => "127.0.0.1",
        }
    }

    /// The lines of the TCP sockets (IPv4) of this namespace, as `/proc/net/tcp` has them.
    pub fn tcp_table(&self) -> Result<String> {
        self.enter(|| Ok(std::fs::read_to_string("/proc/thread-self/net/tcp")?))
    }

    /// The descriptor of the namespace, for `ip link … netns`.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }
}

/// An IPv4 address and port as `/proc/net/tcp` writes them.
pub fn in_table(address: &str) -> Result<String> {
    let address: std::net::SocketAddrV4 = address.parse().context("an IPv4 address and port")?;
    let number = u32::from_ne_bytes(address.ip().octets());
    Ok(format!("{number:08X}:{:04X}", address.port()))
}
