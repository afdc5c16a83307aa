//! TCP or unix: a listener, and connections as files, which is all that the modes need of them.

use std::fs::File;
use std::io::Read;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_linger;

use crate::protocol::is_complete;

pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    pub(crate) fn bind(address: &str) -> Result<Self> {
        let listener = match address.strip_prefix("unix:") {
            Some(path) => {
                let listener = UnixListener::bind(path)?;
                // nginx's workers are another user.
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
                Self::Unix(listener)
            }
            None => Self::Tcp(
                TcpListener::bind(address).with_context(|| format!("cannot bind {address}"))?,
            ),
        };
        Ok(listener)
    }

    pub(crate) fn accept(&self) -> std::io::Result<File> {
        let stream = match self {
            Self::Tcp(listener) => OwnedFd::from(listener.accept()?.0),
            Self::Unix(listener) => OwnedFd::from(listener.accept()?.0),
        };
        Ok(stream.into())
    }
}

/// Waits until there is something to read, at most `milliseconds` (−1: for ever).
pub(crate) fn readable(stream: &File, milliseconds: i32) -> bool {
    let mut polled = [PollFd::new(stream, PollFlags::IN)];
    let limit = u64::try_from(milliseconds).ok().map(Duration::from_millis);
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    poll(&mut polled, limit.as_ref()).is_ok_and(|ready| ready > 0)
}

/// Reads one request with its body; `None` when the client has gone.
pub(crate) fn request(stream: &mut File) -> Option<Vec<u8>> {
    let mut request = Vec::new();
    let mut buffer = [0u8; 4096];
    while !is_complete(&request) {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(length) => request.extend(&buffer[..length]),
        }
    }
    Some(request)
}

/// Closes by RST.
pub(crate) fn reset(stream: File) {
    let _ = set_socket_linger(&stream, Some(Duration::ZERO));
    drop(stream);
}
