//! Unix sockets that cannot be used, each at a path.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context, Result};

/// A socket file whose listener has gone.
pub fn stale(path: &Path) -> Result<()> {
    // The standard library does not remove the file when the listener closes.
    drop(UnixListener::bind(path)?);
    allow(path, 0o666)
}

/// Sets the mode of a file or folder.
pub fn allow(path: &Path, mode: u32) -> Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", path.display()))
}

/// A listener that everyone may connect to and that nobody accepts from.
pub fn listener(path: &Path) -> Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    allow(path, 0o666)?;
    Ok(listener)
}

/// A listener whose queue is full, and the connections that fill it.
#[derive(Debug)]
pub struct Full {
    _listener: UnixListener,
    _waiting: Vec<UnixStream>,
}

/// Makes a listener with a queue of one and fills it.
pub fn full(path: &Path) -> Result<Full> {
    let listener = listener(path)?;
    rustix::net::listen(&listener, 1).context("cannot shrink a backlog")?;
    // A queue of one holds two (the kernel compares with >), a third connect() would wait.
    let waiting = (0..2)
        .map(|_| UnixStream::connect(path))
        .collect::<std::io::Result<_>>()?;
    Ok(Full {
        _listener: listener,
        _waiting: waiting,
    })
}
