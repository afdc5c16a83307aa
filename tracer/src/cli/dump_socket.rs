//! Where `tracer dump` asks a running recorder for a file: a socket next to the file that says that
//! tracer runs, `/run/tracer/PID.dump`, in a folder that only root can enter.
//!
//! To connect is to ask; nothing is read. The answer is `+` and the file's path, or `-` and why
//! there is none. Without the folder there is no socket, and SIGUSR1 remains.

use std::{
    fs::{self, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
};

use tokio::net::{UnixListener, UnixStream};

use crate::{capture::Reply, source::runtime_folder};

/// The ending of the sockets' names; before it is the recorder's pid.
pub(super) const ENDING: &str = ".dump";
pub(super) const FILE: u8 = b'+';
pub(super) const FAILED: u8 = b'-';

/// The socket, removed with this value.
#[derive(Debug)]
pub(super) struct DumpSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl DumpSocket {
    /// Opens it; `None` where there is no folder for it.
    pub(super) fn open() -> Option<Self> {
        let path = runtime_folder()?.join(format!("{}{ENDING}", std::process::id()));
        // Left by one that had this pid.
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).ok()?;
        let socket = Self { listener, path };
        fs::set_permissions(&socket.path, Permissions::from_mode(0o600)).ok()?;
        Some(socket)
    }

    /// Waits for the next who asks.
    ///
    /// # Errors
    /// No more can be accepted.
    pub(super) async fn next(&self) -> io::Result<Reply> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let user = rustix::process::geteuid().as_raw();
            if stream.peer_cred().is_ok_and(|peer| peer.uid() == user) {
                return reply(stream);
            }
        }
    }
}

impl Drop for DumpSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Writes the answer from whatever thread has it. It is less than a socket's buffer takes, so it
/// never waits.
fn reply(stream: UnixStream) -> io::Result<Reply> {
    let mut stream = stream.into_std()?;
    Ok(Box::new(move |result| {
        let (kind, text) = match result {
            Ok(path) => (FILE, path.display().to_string()),
            Err(why) => (FAILED, why),
        };
        let mut answer = vec![kind];
        answer.extend_from_slice(text.as_bytes());
        // Who asked may be gone; the line on stderr names the file.
        let _ = stream.write_all(&answer);
    }))
}
