//! What the terminal sends, read when it is there.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
};

use anyhow::{Context as _, Result};
use tokio::io::{Interest, unix::AsyncFd};

/// The terminal's keyboard.
pub(super) struct Keyboard(AsyncFd<File>);

impl Keyboard {
    /// The process's own terminal, else that of stdin. It is opened anew: what stdin is set to is
    /// also what the shell's is, and a capture may come from stdin.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn open() -> Result<Self> {
        let open = |path| {
            OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(path)
        };
        let file = open("/dev/tty").or_else(|_| open("/proc/self/fd/0"));
        let file = file.context("opening the terminal's keyboard")?;
        // SAFETY: the file owns its descriptor and keeps it for its life.
        let file = unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) };
        Ok(Self(
            file.map_err(io::Error::from).context("waiting for keys")?,
        ))
    }

    /// What came since; empty: the terminal is gone.
    pub(super) async fn read(&mut self) -> Vec<u8> {
        let mut bytes = [0; 256];
        let read = loop {
            let Ok(mut ready) = self.0.readable_mut().await else {
                break 0;
            };
            match ready.try_io(|file| file.get_mut().read(&mut bytes)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(read) => break read.unwrap_or(0),
                Err(_) => {}
            }
        };
        bytes[..read].to_vec()
    }
}
