//! TCP or unix: a listener, and connections as files, which is all that the modes need of them.

use std::fs::File;
use std::io::Read;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use anyhow::{Context, Result};

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
    let mut poll = libc::pollfd {
        fd: stream.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one pollfd, and the count says one.
    unsafe { libc::poll(&mut poll, 1, milliseconds) > 0 }
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
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: pointer and length describe `linger`.
    unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of_val(&linger) as u32,
        )
    };
    drop(stream);
}
