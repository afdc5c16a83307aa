//! Unix sockets: a file that is not there, that nobody listens on, that may not be opened.

use std::os::unix::fs::{chown, symlink};
use std::path::Path;

use anyhow::Result;
use tests::expected::Expected;
use tests::faults::unix_files::{allow, listener, stale};
use tests::folder::Folder;
use tests::stage::{Fault, Stage};

fn fault(cause: &'static str, path: &Path, errno: &'static str) -> Expected {
    Expected::new(cause, &format!("unix:{}", path.display()), errno)
}

fn proxied(expected: Expected) -> Fault {
    let upstream = expected.upstream.clone().unwrap_or_default();
    Fault::location(format!("proxy_pass http://{upstream}:/;"), expected)
}

#[test]
fn a_missing_file_and_a_missing_folder() -> Result<()> {
    let folder = Folder::new()?;
    let file = fault("unix-socket-missing", &folder.join("app.sock"), "ENOENT");
    let deeper = fault(
        "unix-socket-missing",
        &folder.join("run/app.sock"),
        "ENOENT",
    );
    // Links in a circle lead nowhere either.
    let link = folder.join("link.sock");
    symlink(&link, &link)?;
    let circle = fault("unix-socket-missing", &link, "ELOOP");
    Stage::new()?
        .check(vec![proxied(file), proxied(deeper), proxied(circle)])
        .map(drop)
}

#[test]
fn a_file_without_a_listener_is_stale() -> Result<()> {
    let folder = Folder::new()?;
    let left = folder.join("left.sock");
    stale(&left)?;
    // No socket at all: the kernel gives the same errno.
    let plain = folder.join("plain");
    std::fs::write(&plain, "")?;
    allow(&plain, 0o666)?;
    Stage::new()?
        .check(vec![
            proxied(fault("unix-socket-stale", &left, "ECONNREFUSED")),
            proxied(fault("unix-socket-stale", &plain, "ECONNREFUSED")),
        ])
        .map(drop)
}

#[test]
fn a_mode_that_keeps_the_worker_out_is_named() -> Result<()> {
    let folder = Folder::new()?;
    let owned = folder.join("owned.sock");
    let _owned = listener(&owned)?;
    allow(&owned, 0o600)?;
    // Another user's and readable: connect() asks for write.
    let readable = folder.join("readable.sock");
    let _readable = listener(&readable)?;
    chown(&readable, Some(33), Some(33))?;
    allow(&readable, 0o744)?;
    // A path that is none's: to write to it would not help.
    let plain = folder.join("plain");
    std::fs::write(&plain, "")?;
    allow(&plain, 0o644)?;
    // The socket is open to all, the folder above it is not.
    let closed = folder.join("closed");
    std::fs::create_dir(&closed)?;
    let inside = closed.join("app.sock");
    let _inside = listener(&inside)?;
    allow(&closed, 0o700)?;
    let says = |path: &Path, text: &str| {
        proxied(fault("unix-socket-permission", path, "EACCES").says(text))
    };
    Stage::new()?
        .check(vec![
            says(&owned, "600"),
            // By the worker's own group, whatever its user is called.
            says(&readable, "chgrp nogroup "),
            says(&plain, "is not a socket"),
            says(&inside, &closed.display().to_string()),
        ])
        .map(drop)
}
