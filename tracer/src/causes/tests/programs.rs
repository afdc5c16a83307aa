//! Advice names the backend's own setting where it is known which program it is, and no other's.

use super::{connected::*, *};
use crate::event::fact::PeerSocketView;

/// Name of a process, and its settings: keep-alive, workers, backlog, time limit.
const KNOWN: [(&str, [&str; 4]); 6] = [
    (
        "gunicorn",
        [
            "--keep-alive 75",
            "--workers",
            "--backlog",
            "--timeout (30 s",
        ],
    ),
    (
        "uvicorn",
        ["--timeout-keep-alive 75", "--workers", "--backlog", ""],
    ),
    (
        "php-fpm8.2",
        [
            "",
            "pm.max_children",
            "listen.backlog",
            "request_terminate_timeout",
        ],
    ),
    (
        "node",
        ["keepAliveTimeout", "event loop", "server.listen()", ""],
    ),
    (
        "puma",
        [
            "persistent_timeout 75",
            "workers and threads",
            "backlog=",
            "worker_timeout",
        ],
    ),
    ("shopd", ["", "", "", ""]),
];

fn owner(name: &str) -> Owner {
    Owner {
        name: name.to_owned(),
        ..node()
    }
}

/// The advice names this program's setting, and nobody else's.
fn check(case: impl Fn(&str) -> Case, cause: &str, setting: usize) {
    for (name, own) in KNOWN {
        let verdict = verdict(&case(name));
        assert_eq!(verdict.cause, cause, "{name}");
        let advice = verdict.advice.join("\n");
        assert!(advice.contains(own[setting]), "{name}: {advice}");
        for (_, settings) in KNOWN {
            let foreign = settings[setting];
            let is_own = foreign.is_empty() || own[setting].contains(foreign);
            assert!(is_own || !advice.contains(foreign), "{name}: {advice}");
        }
    }
}

#[test]
fn a_full_queue_names_workers_and_backlog() {
    let full = |name: &str| {
        let listener = Listener {
            owner: Some(owner(name)),
            ..listener(HERE, 129, 128)
        };
        let view = ListenerView {
            exact: vec![listener],
            ..view(true)
        };
        one(silent(HERE), listening(view))
    };
    check(full, "accept-queue-full", 1);
    check(full, "accept-queue-full", 2);
}

fn waiting(name: &str, accepted: bool) -> Case {
    let facts = Facts {
        listener: Some(ListenerView {
            exact: vec![Listener {
                owner: Some(owner(name)),
                ..listener(HERE, 5, 128)
            }],
            ..view(true)
        }),
        peer_socket: Some(PeerSocketView {
            translated: None,
            retransmits: 0,
            found: true,
            accepted,
            unread: 0,
            owner: accepted.then(|| owner(name)),
        }),
        ..Facts::default()
    };
    let c = Connection {
        closed: after(60 * SECOND),
        ..connected(HERE)
    };
    answered(504, c, facts)
}

#[test]
fn one_that_does_not_accept_is_told_its_workers() {
    check(|name| waiting(name, false), "backend-not-accepting", 1);
}

#[test]
fn a_slow_one_is_told_its_time_limit() {
    check(|name| waiting(name, true), "backend-slow", 3);
}

#[test]
fn a_race_is_told_the_keep_alive_of_the_backend() {
    let race = |name: &str| {
        let c = Connection {
            reuses: 3,
            reused_at: Some(after(900_000)),
            idle: Some(5 * SECOND),
            fin_received: Some(after(950_000)),
            closed: after(2 * MS),
            ..closed(HERE)
        };
        answered(502, c, served_by(owner(name)))
    };
    check(race, "keepalive-race", 0);
}

#[test]
fn a_worker_that_its_parent_killed_is_told_the_limit() {
    let killed = |name: &str| {
        let death = crate::event::Death {
            name: name.to_owned(),
            signal: Some(signal(9, 0, 4242)),
            ..death(9)
        };
        let closed_by = crate::event::PeerClosed {
            translated: false,
            name: name.to_owned(),
            ..by_peer(None, Some(death))
        };
        with_peer(
            answered(502, closed(HERE), served_by(owner(name))),
            closed_by,
        )
    };
    check(killed, "backend-died", 3);
}
