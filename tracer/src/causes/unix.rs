//! Unix sockets that cannot be connected to: `unix-socket-missing`, `unix-socket-stale`,
//! `unix-socket-permission`.

use super::{
    cause::{ByHand, Cause},
    errno::{EACCES, ECONNREFUSED, ELOOP, ENOENT, ENOTDIR, EPROTOTYPE},
    finding::Finding,
    logged, programs,
    scene::Scene,
    wording,
};
use crate::event::fact::{Inode, Inside, PathKind, UnixPathView, UnseenListener};

pub(super) static UNIX_SOCKET_MISSING: Cause = Cause {
    id: "unix-socket-missing",
    title: "the socket file does not exist where the worker looks",
    split: "connect() gives ENOENT, ENOTDIR or ELOOP, and nothing is at the path, seen from the worker's root.",
    log_lines: &["connect() to unix:/run/app.sock failed (2: No such file or directory)"],
    logged: &[logged::connect(&[ENOENT, ENOTDIR, ELOOP]).unix()],
    by_hand: ByHand {
        command: "sudo ls -l PATH",
        shows: "it answers No such file or directory",
    },
    client_gets: "502",
    fix: "Start the backend that makes it, or correct the path; in a container or with PrivateTmp the worker sees \
          another file tree.",
    matches: Some(missing),
};

pub(super) static UNIX_SOCKET_STALE: Cause = Cause {
    id: "unix-socket-stale",
    title: "the file is there, but no stream socket listens on it",
    split: "connect() gives ECONNREFUSED: a socket file left by a process that is gone, a socket without listen(), or \
            no socket at all; EPROTOTYPE: a socket of another type.",
    log_lines: &["connect() to unix:/run/app.sock failed (111: Connection refused)"],
    logged: &[logged::connect(&[ECONNREFUSED, EPROTOTYPE]).unix()],
    by_hand: ByHand {
        command: "ss -lxp src PATH",
        shows: "it lists no socket",
    },
    client_gets: "502",
    fix: "Start the backend; a crashed one leaves its file behind and must remove it before it binds again.",
    matches: Some(stale),
};

pub(super) static UNIX_SOCKET_PERMISSION: Cause = Cause {
    id: "unix-socket-permission",
    title: "the worker's user may not connect to the socket file",
    split: "connect() gives EACCES and a component of the path stops the worker: a directory without x, or the socket \
            without w. If none does, a security module refused.",
    log_lines: &["connect() to unix:/run/app.sock failed (13: Permission denied)"],
    logged: &[logged::connect(&[EACCES]).unix()],
    by_hand: ByHand {
        command: "namei -l PATH",
        shows: "a directory lacks x, or the socket lacks w, for the worker's user",
    },
    client_gets: "502",
    fix: "Let the worker's user write to the socket and pass its directories: a common group and mode 0660.",
    matches: Some(permission),
};

fn see_path(path: &str) -> String {
    let path = wording::quoted(path);
    format!("see: ls -l {path}; namei -l {path}; ss -lxp src {path}")
}

fn missing(scene: &Scene<'_>) -> Option<Finding> {
    let (f, path) = scene
        .unix_failure()
        .filter(|(f, _)| matches!(f.errno, ENOENT | ENOTDIR | ELOOP))?;
    let finding = match scene.facts().unix_path.as_deref() {
        Some(view) if f.errno == ELOOP && view.kind == PathKind::Circle => Finding::proven(
            format!("{path} leads nowhere: its symbolic links go in a circle, or are too many"),
        )
        .advise("correct the links, or the path in nginx"),
        seen if f.errno == ELOOP => Finding::inferred(
            format!("{path} led nowhere: symbolic links in a circle, or too many"),
            match seen {
                Some(_) => "the path as it was then; its links are others now",
                None => "the path: it could not be looked at",
            },
        )
        .advise("correct the links, or the path in nginx"),
        Some(UnixPathView {
            unseen: Some(unseen),
            kind: PathKind::Missing,
            ..
        }) => elsewhere(path, unseen, f.at),
        Some(view) if view.kind == PathKind::Missing => {
            let finding = Finding::proven(format!("{path} does not exist"));
            match view.missing.as_deref().filter(|first| *first != path) {
                Some(first) => finding
                    .fact("path", format!("{first} is the first part that is missing"))
                    .advise(format!("{first} is missing: make it (RuntimeDirectory=, tmpfiles.d, a volume), or correct the path")),
                None => finding.advise(format!("start the backend that makes {path}, or correct the path in nginx")),
            }
        }
        Some(view) => exists_now(
            Finding::inferred(
                format!("{path} did not exist at that moment"),
                "the path as it was then; it exists now",
            ),
            view,
            f.at,
        ),
        None if f.errno == ENOTDIR => Finding::inferred(
            format!("a part of {path} is no directory"),
            "the path: it could not be looked at",
        ),
        None => Finding::inferred(
            format!("{path} did not exist"),
            "the path: it could not be looked at",
        )
        .advise(format!(
            "start the backend that makes {path}, or correct the path in nginx"
        )),
    };
    Some(finding.advise(see_path(path)))
}

/// A program listens on a path of that name, and nginx sees no file.
fn elsewhere(path: &str, unseen: &UnseenListener, now: crate::event::Time) -> Finding {
    let owner = &unseen.owner;
    let who = wording::owner(owner, now);
    let shown = wording::quoted(path);
    if unseen.has_file {
        return Finding::proven(format!(
            "{path} does not exist where nginx looks: {} has its own in another mount namespace",
            owner.name
        ))
        .fact("listener", format!("{who} listens on {path} in its own file system (PrivateTmp=, a container)"))
        .advise(format!(
            "move the socket to a folder that both see (RuntimeDirectory= below /run, a shared volume), or set PrivateTmp=no; \
             confirm: nsenter -t {} -m ls -l {shown}",
            owner.pid
        ));
    }
    Finding::proven(format!(
        "{path} does not exist: its file was removed while {} listens on it",
        owner.name
    ))
    .fact("listener", format!("{who} listens on {path}, which no path leads to any more"))
    .advise(format!(
        "restart {}: it creates the file again; find what removes it (a cleaner of /tmp, a second instance); confirm: ls -l {shown}",
        owner.name
    ))
}

fn exists_now(finding: Finding, view: &UnixPathView, now: crate::event::Time) -> Finding {
    match &view.listener {
        Some(listener) => finding
            .fact("listener", format!("{} listens on it now", wording::holder(listener, now)))
            .advise("the backend makes its socket after nginx asks: wait for readiness, or use socket activation"),
        None => finding.advise("the backend removes and makes the file again: a restart, or two of them on one path"),
    }
}

fn stale(scene: &Scene<'_>) -> Option<Finding> {
    let (f, path) = scene.unix_failure()?;
    if f.errno == EPROTOTYPE {
        return Some(
            Finding::proven(format!(
                "{path} is not a stream socket (datagram or seqpacket)"
            ))
            .advise("let the backend listen with SOCK_STREAM, or point nginx at its stream socket")
            .advise(see_path(path)),
        );
    }
    if f.errno != ECONNREFUSED {
        return None;
    }
    let abstract_name = path.starts_with('@');
    let finding = match scene.facts().unix_path.as_deref() {
        Some(view) if view.listener.is_some() => exists_now(
            Finding::inferred(
                format!("nobody listened on {path} at that moment"),
                "the socket as it was then; a process listens on it now",
            ),
            view,
            f.at,
        ),
        Some(_) if abstract_name => Finding::proven(format!("no process listens on the abstract socket {path}"))
            .advise("start the backend; abstract names are of one network namespace: nginx must share the backend's"),
        Some(view) => match view.kind {
            PathKind::Socket => {
                let finding = Finding::proven(format!("{path} exists, but nobody listens on it"));
                let finding = match &view.file {
                    Some(file) => finding.fact("path", format!("{path} is a socket of {}", wording::owner_and_mode(file))),
                    None => finding,
                };
                finding.advise("start the backend: the file is left from a process that is gone, or that has not called listen()")
            }
            PathKind::Other => Finding::proven(format!("{path} is not a socket"))
                .advise(format!("remove {path} and restart the backend, or correct the path in nginx")),
            PathKind::Missing | PathKind::Circle => Finding::inferred(
                format!("nobody listened on {path}"),
                "the file as it was then; it has been removed since",
            )
            .advise("start the backend; its old socket file was removed after nginx asked"),
        },
        None => Finding::inferred(
            format!("{path} is there, but no socket listens on it"),
            "the path: it could not be looked at",
        )
        .advise("start the backend that listens on it"),
    };
    Some(finding.advise(see_path(path)))
}

fn permission(scene: &Scene<'_>) -> Option<Finding> {
    let (_, path) = scene.unix_failure().filter(|(f, _)| f.errno == EACCES)?;
    let view = scene.facts().unix_path.as_deref()?;
    let blocked = view.blocked.as_ref()?;
    let user = user(view);
    let is_file = blocked.path == path;
    let needs = if is_file { "write to" } else { "pass" };
    let finding = Finding::proven(format!("{user} may not {needs} {}", blocked.path))
        .fact(
            "path",
            format!("{} is {}", blocked.path, wording::owner_and_mode(blocked)),
        )
        .fact(
            "worker",
            format!("the worker runs as {user} ({})", ids(view)),
        );
    if is_file && view.kind == PathKind::Other {
        return Some(
            finding
                .fact("path", format!("{path} is not a socket"))
                .advise(format!(
                    "remove {path} and restart the backend, or correct the path in nginx"
                ))
                .advise(see_path(path)),
        );
    }
    let target = wording::quoted(&blocked.path);
    if let Some(inside) = view.worker_inside {
        let host = wording::quoted(&format!("/proc/{}/root{}", scene.case.worker, blocked.path));
        return Some(
            let_in_container(finding, view, blocked, (inside, is_file), (&target, &host))
                .advise(see_path(path).replacen("see: ", "see, inside the container: ", 1)),
        );
    }
    let finding = if is_file {
        finding.advise(let_write(view, blocked, &user))
    } else {
        finding.advise(format!(
            "let {user} pass the directory: chmod o+x {target}, or a group that it is in"
        ))
    };
    Some(finding.advise(see_path(path)))
}

/// How the worker gets to write to the socket: by its own group.
fn let_write(view: &UnixPathView, socket: &Inode, user: &str) -> String {
    let target = wording::quoted(&socket.path);
    let owner = || view.listener.as_ref()?.owner.as_ref();
    let setting = programs::aside(owner().map(|owner| owner.name.as_str()), |it| it.socket);
    if socket.gid == view.worker_gid {
        return format!(
            "let {user} write to it: its group is the worker's, so set mode 0660 in the backend{setting}; \
             until its next start: chmod g+w {target}"
        );
    }
    let group = view.worker_group.clone();
    let group = group.unwrap_or_else(|| view.worker_gid.to_string());
    let shown = wording::quoted(&group);
    format!(
        "let {user} write to it: in the backend set the socket's group to {group}, mode 0660{setting}; until its next \
         start: chgrp {shown} {target}; chmod g+w {target}"
    )
}

/// The worker's user, as it sees itself. With a word before it: a user may be called nobody.
fn user(view: &UnixPathView) -> String {
    match (&view.worker_user, view.worker_inside) {
        (Some(name), _) => format!("user {name}"),
        (None, Some(Inside { uid: Some(uid), .. })) => format!("uid {uid}"),
        (None, Some(Inside { uid: None, .. })) => format!(
            "uid {} of the host, not mapped in its user namespace,",
            view.worker_uid
        ),
        (None, None) => format!("uid {}", view.worker_uid),
    }
}

fn ids(view: &UnixPathView) -> String {
    let (uid, gid) = (view.worker_uid, view.worker_gid);
    let number = |id: Option<u32>| id.map_or_else(|| "unmapped".to_owned(), |id| id.to_string());
    match view.worker_inside {
        None => format!("uid {uid}, gid {gid}"),
        Some(inside) => format!(
            "uid {}, gid {} in its user namespace; uid {uid}, gid {gid} on the host",
            number(inside.uid),
            number(inside.gid)
        ),
    }
}

/// What to type, and where: the container's root may change only what is of users and groups that
/// are mapped there.
fn let_in_container(
    finding: Finding,
    view: &UnixPathView,
    blocked: &Inode,
    (worker, is_file): (Inside, bool),
    (inside, host): (&str, &str),
) -> Finding {
    let is_mapped = blocked
        .inside
        .is_some_and(|owner| owner.uid.is_some() && owner.gid.is_some());
    let name = || view.worker_group.clone();
    let group = worker
        .gid
        .filter(|_| is_mapped)
        .map(|gid| name().unwrap_or_else(|| gid.to_string()));
    let (within, on_host) = if is_file {
        (
            group.map(|group| format!("chgrp {group} {inside}; chmod g+w {inside}")),
            format!("chgrp {} {host}; chmod g+w {host}", view.worker_gid),
        )
    } else {
        (
            is_mapped.then(|| format!("chmod o+x {inside}")),
            format!("chmod o+x {host}"),
        )
    };
    match within {
        Some(within) => finding
            .advise(format!("inside the container: {within}"))
            .advise(format!("or on the host: {on_host}")),
        None => finding
            .fact(
                "path",
                format!(
                    "the container's root may not change {}: its owner, its group or the worker's group is not mapped there",
                    blocked.path
                ),
            )
            .advise(format!("on the host: {on_host}")),
    }
}
