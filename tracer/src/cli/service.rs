//! What a service manager hears of a run (`sd_notify(3)`): that hooks are attached, what it does,
//! that it is alive, that it ends. Without `NOTIFY_SOCKET` nothing is sent; what cannot be sent is
//! lost, the run goes on.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{ffi::OsStrExt as _, net::SocketAddr, net::UnixDatagram},
    },
    time::{Duration, Instant},
};

use crate::clean;

/// How often a changed status is sent.
const STATUS: Duration = Duration::from_secs(2);

/// The service manager, if there is one.
#[derive(Debug)]
pub(super) struct Service {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants to hear that the run is alive.
    every: Option<Duration>,
    alive: Instant,
    status: String,
    said: Instant,
}

impl Service {
    /// As the environment says.
    pub(super) fn from_environment() -> Self {
        let now = Instant::now();
        Self {
            to: std::env::var_os("NOTIFY_SOCKET").and_then(|name| socket(name.as_bytes()).ok()),
            every: watchdog(),
            alive: now,
            status: String::new(),
            said: now,
        }
    }

    /// Hooks are attached.
    pub(super) fn ready(&mut self, status: &str) {
        self.status = status.to_owned();
        self.send(&format!("READY=1\nSTATUS={}", line(status)));
    }

    /// It ends.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// The event loop is alive. Is a new status due?
    pub(super) fn beat(&mut self) -> bool {
        if self.to.is_none() {
            return false;
        }
        let now = Instant::now();
        if self.every.is_some_and(|every| now - self.alive >= every) {
            self.alive = now;
            self.send("WATCHDOG=1");
        }
        let is_due = now - self.said >= STATUS;
        if is_due {
            self.said = now;
        }
        is_due
    }

    /// What it has done, sent if it is new.
    pub(super) fn status(&mut self, status: String) {
        if status != self.status {
            self.send(&format!("STATUS={}", line(&status)));
            self.status = status;
        }
    }

    fn send(&self, words: &str) {
        if let Some((socket, address)) = &self.to {
            let _ = socket.send_to_addr(words.as_bytes(), address);
        }
    }
}

/// A line feed would begin another assignment.
fn line(text: &str) -> String {
    clean::line(text)
}

fn socket(name: &[u8]) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
    };
    let socket = UnixDatagram::unbound()?;
    // A service manager that reads nothing holds nobody up.
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

/// Half of the time after which the service manager takes the run for dead.
fn watchdog() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    let after = number("WATCHDOG_USEC").filter(|&after| after > 0 && is_ours)?;
    Some(Duration::from_micros(after / 2))
}
