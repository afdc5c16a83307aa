//! What it means that a unix socket could not be connected to.

use super::{
    tcp::{Fault, queue_full},
    words::{owner_and_mode, quoted, who},
};
use crate::event::fact::{PathKind, UnixPathView};

/// `connect()` to the path failed with this error. `view`: what is there, as the worker sees it.
pub(super) fn failed(path: &str, errno: i32, view: Option<&UnixPathView>) -> Fault {
    let (peer, word) = (format!("unix:{path}"), quoted(path));
    match errno {
        libc::ENOENT | libc::ENOTDIR | libc::ELOOP => missing(path, view),
        libc::ECONNREFUSED | libc::EPROTOTYPE => stale(path, view),
        libc::EACCES => permission(path, view),
        libc::EAGAIN => match view.and_then(|view| view.listener.as_ref()) {
            Some(listener) => queue_full(&peer, listener, view.and_then(|view| view.somaxconn)),
            None => Fault::error(
                "accept-queue-full",
                format!("the accept queue of {peer} is full"),
                "Give the backend more workers or a larger backlog; see: ss -lx  (Recv-Q waits, Send-Q limits)".to_owned(),
            ),
        },
        _ => Fault::error(
            "unexplained",
            format!("connect() to {peer} fails: {}", std::io::Error::from_raw_os_error(errno)),
            format!("See: namei -l {word}"),
        ),
    }
}

fn missing(path: &str, view: Option<&UnixPathView>) -> Fault {
    let mut text = match view.and_then(|view| view.missing.as_deref()) {
        Some(missing) if missing != path => format!("{path} is missing: there is no {missing}"),
        _ => format!("{path} is missing"),
    };
    let word = quoted(path);
    let mut fix = format!("Start the backend, or correct the path; see: ls -l {word}");
    if view.is_some_and(|view| view.kind == PathKind::Circle) {
        text = format!("{path} leads nowhere: its symbolic links are a circle");
    }
    if let Some(unseen) = view.and_then(|view| view.unseen.as_ref()) {
        text += &format!(
            "; {} listens on that path in a file system that nginx does not see",
            who(&unseen.owner)
        );
        fix = "Put the socket where both see it: /run instead of /tmp (PrivateTmp=), or a volume that both mount".to_owned();
        if !unseen.has_file {
            text = format!(
                "{path} was removed; {} still listens on it",
                who(&unseen.owner)
            );
            fix = format!("Restart {}; see: ls -l {word}", unseen.owner.name);
        }
    }
    Fault::error("unix-socket-missing", text, fix)
}

fn stale(path: &str, view: Option<&UnixPathView>) -> Fault {
    let is_other = view.is_some_and(|view| view.kind == PathKind::Other);
    let text = match is_other {
        true => format!("{path} is not a socket"),
        false => format!("nothing listens on {path}: its program has ended and left the file"),
    };
    let word = quoted(path);
    let fix = match is_other {
        true => format!("Correct the path; see: ls -l {word}"),
        false => format!("Start the backend; see: ss -lxp src {word}"),
    };
    Fault::error("unix-socket-stale", text, fix)
}

fn permission(path: &str, view: Option<&UnixPathView>) -> Fault {
    let cause = "unix-socket-permission";
    let Some(view) = view else {
        let text = format!("the worker may not open {path}");
        return Fault::error(cause, text, format!("See: namei -l {}", quoted(path)));
    };
    let user = view
        .worker_user
        .clone()
        .unwrap_or(view.worker_uid.to_string());
    let group = view
        .worker_group
        .clone()
        .unwrap_or(view.worker_gid.to_string());
    let Some(blocked) = &view.blocked else {
        return Fault::error(
            "lsm-denied",
            format!(
                "{user} may not connect to {path}, though its mode permits it: an ACL or a security module"
            ),
            format!(
                "See its log; see: ausearch -m avc -ts recent; namei -l {}",
                quoted(path)
            ),
        );
    };
    let is_file = view
        .file
        .as_ref()
        .is_some_and(|file| file.path == blocked.path);
    let (what, mode) = match is_file {
        true => ("write", "g+rw"),
        false => ("search", "g+x"),
    };
    let file = quoted(&blocked.path);
    Fault::error(
        cause,
        format!(
            "{user} may not {what} {} ({})",
            blocked.path,
            owner_and_mode(blocked)
        ),
        format!(
            "Let the group {group} in where the backend sets it; for now: chgrp {} {file} && chmod {mode} {file}",
            quoted(&group)
        ),
    )
}
