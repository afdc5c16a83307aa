//! Unix sockets.

use super::*;
use crate::event::fact::{ConfinementView, Inode, Inside, PathKind, UnixPathView};

const PATH: &str = "/run/app/app.sock";

fn unix(errno: u32, facts: Facts) -> Case {
    one(
        declined(Upstream::Unix(PATH.to_owned()), errno, routes(0, 0, 0)),
        facts,
    )
}

fn inode(path: &str, mode: u32) -> Inode {
    Inode {
        path: path.to_owned(),
        mode,
        uid: 1000,
        gid: 1000,
        user: Some("app".to_owned()),
        group: None,
        inside: None,
    }
}

fn path_view(kind: PathKind) -> UnixPathView {
    UnixPathView {
        unseen: None,
        kind,
        file: matches!(kind, PathKind::Socket | PathKind::Other).then(|| inode(PATH, 0o755)),
        missing: None,
        blocked: None,
        listener: None,
        worker_uid: 33,
        worker_gid: 33,
        worker_user: Some("www-data".to_owned()),
        worker_group: None,
        worker_inside: None,
        somaxconn: Some(128),
    }
}

fn at(view: UnixPathView) -> Facts {
    Facts {
        unix_path: Some(Box::new(view)),
        ..Facts::default()
    }
}

fn with_listener(mut view: UnixPathView, queue: u32) -> Facts {
    view.listener = Some(Listener {
        address: None,
        ..listener("0.0.0.0:1", queue, 128)
    });
    at(view)
}

#[test]
fn a_path_is_told_by_errno_and_by_what_is_there() {
    use PathKind::{Circle, Missing, Other, Socket};
    let blocked = || UnixPathView {
        blocked: Some(inode("/run/app", 0o750)),
        ..path_view(Socket)
    };
    let cases = [
        (2, at(path_view(Missing)), ("unix-socket-missing", Proven)),
        (2, at(path_view(Socket)), ("unix-socket-missing", Inferred)),
        (2, Facts::default(), ("unix-socket-missing", Inferred)),
        (111, at(path_view(Socket)), ("unix-socket-stale", Proven)),
        (111, at(path_view(Other)), ("unix-socket-stale", Proven)),
        (111, at(path_view(Missing)), ("unix-socket-stale", Inferred)),
        (
            111,
            with_listener(path_view(Socket), 0),
            ("unix-socket-stale", Inferred),
        ),
        (91, at(path_view(Socket)), ("unix-socket-stale", Proven)),
        (13, at(blocked()), ("unix-socket-permission", Proven)),
        (13, at(path_view(Socket)), ("unexplained", Unknown)),
        (13, Facts::default(), ("unexplained", Unknown)),
        (
            11,
            with_listener(path_view(Socket), 129),
            ("accept-queue-full", Proven),
        ),
        (11, Facts::default(), ("accept-queue-full", Proven)),
        (36, at(path_view(Missing)), ("unexplained", Unknown)),
        (40, at(path_view(Circle)), ("unix-socket-missing", Proven)),
        (40, at(path_view(Socket)), ("unix-socket-missing", Inferred)),
        (40, Facts::default(), ("unix-socket-missing", Inferred)),
    ];
    for (i, (errno, facts, expected)) in cases.into_iter().enumerate() {
        assert_eq!(judged(&unix(errno, facts)), expected, "case {i}");
    }
}

#[test]
fn a_mode_that_lets_the_worker_through_leaves_the_security_module() {
    let confinement = ConfinementView {
        modules: vec!["apparmor".to_owned()],
        label: Some("nginx".to_owned()),
        enforcing: Some(true),
        ..ConfinementView::default()
    };
    let facts = Facts {
        confinement: Some(confinement),
        ..at(path_view(PathKind::Socket))
    };
    let verdict = verdict(&unix(13, facts));
    assert_eq!(
        (verdict.cause, verdict.confidence),
        ("lsm-denied", Inferred)
    );
    assert!(
        verdict
            .summary
            .starts_with("AppArmor (nginx) forbids nginx"),
        "{}",
        verdict.summary
    );
}

#[test]
fn a_blocked_directory_is_named_with_its_mode() {
    let view = UnixPathView {
        blocked: Some(inode("/run/app", 0o750)),
        ..path_view(PathKind::Socket)
    };
    let verdict = verdict(&unix(13, at(view)));
    assert_eq!(verdict.summary, "user www-data may not pass /run/app");
    assert!(
        verdict
            .evidence
            .iter()
            .any(|e| e.text == "/run/app is app:1000, mode 0750")
    );
    assert_eq!(
        verdict.advice[0],
        "let user www-data pass the directory: chmod o+x /run/app, or a group that it is in"
    );
    assert_eq!(verdict.upstream.as_deref(), Some("unix:/run/app/app.sock"));
}

/// A worker of a rootless container: its user 33 is the host's 100033.
fn rootless(owner: Inside, host: (u32, u32)) -> UnixPathView {
    let file = Inode {
        uid: host.0,
        gid: host.1,
        user: owner.uid.map(|_| "root".to_owned()),
        inside: Some(owner),
        ..inode(PATH, 0o600)
    };
    UnixPathView {
        blocked: Some(file),
        worker_uid: 100_033,
        worker_gid: 100_033,
        worker_group: Some("www-data".to_owned()),
        worker_inside: Some(Inside {
            uid: Some(33),
            gid: Some(33),
        }),
        ..path_view(PathKind::Socket)
    }
}

#[test]
fn in_a_rootless_container_names_and_advice_are_the_container_s() {
    let root = Inside {
        uid: Some(0),
        gid: Some(0),
    };
    let verdict = verdict(&unix(13, at(rootless(root, (100_000, 100_000)))));
    assert_eq!(
        verdict.summary,
        "user www-data may not write to /run/app/app.sock"
    );
    let texts: Vec<&str> = verdict.evidence.iter().map(|e| e.text.as_str()).collect();
    for text in [
        "/run/app/app.sock is root:0, mode 0600 (100000:100000 on the host)",
        "the worker runs as user www-data (uid 33, gid 33 in its user namespace; uid 100033, gid 100033 on the host)",
    ] {
        assert!(texts.contains(&text), "{texts:#?}");
    }
    assert_eq!(
        verdict.advice,
        [
            "inside the container: chgrp www-data /run/app/app.sock; chmod g+w /run/app/app.sock",
            "or on the host: chgrp 100033 /proc/1234/root/run/app/app.sock; chmod g+w /proc/1234/root/run/app/app.sock",
            "see, inside the container: ls -l /run/app/app.sock; namei -l /run/app/app.sock; ss -lxp src /run/app/app.sock",
        ]
    );
}

#[test]
fn what_is_not_mapped_is_said_and_changed_on_the_host() {
    let nobody = Inside {
        uid: None,
        gid: None,
    };
    let verdict = verdict(&unix(13, at(rootless(nobody, (0, 0)))));
    let texts: Vec<&str> = verdict.evidence.iter().map(|e| e.text.as_str()).collect();
    let owner = "/run/app/app.sock is unmapped:unmapped, mode 0600 (0:0 on the host; not mapped in the worker's user namespace)";
    assert!(texts.contains(&owner), "{texts:#?}");
    assert!(
        texts
            .iter()
            .any(|text| text.contains("root may not change"))
    );
    assert!(verdict.advice[0].starts_with("on the host: chgrp 100033 /proc/1234/root/run/app"));
}

#[test]
fn a_hostile_path_is_quoted_in_commands() {
    let path = "/run/a b';reboot;'.sock".to_owned();
    let verdict = verdict(&one(
        declined(Upstream::Unix(path), 2, routes(0, 0, 0)),
        Facts::default(),
    ));
    let see = verdict.advice.last().expect("a command");
    assert!(
        see.starts_with(r"see: ls -l '/run/a b'\'';reboot;'\''.sock'; namei"),
        "{see}"
    );
}
