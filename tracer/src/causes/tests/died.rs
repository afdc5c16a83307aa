//! The backend's process ended under the connection.

use super::{connected::*, *};
use crate::event::{Death, Holder, MemoryLimit, PeerClosed, Signal};

fn case(death: Death) -> Case {
    with_peer(
        answered(502, closed(HERE), served()),
        by_peer(None, Some(death)),
    )
}

fn summary(death: Death) -> String {
    verdict(&case(death)).summary
}

#[test]
fn a_death_is_told_with_its_signal_and_sender() {
    let segv = Death {
        signal: Some(signal(11, 1, 4300)),
        ..death(11 | 0x80)
    };
    let killed = Death {
        signal: Some(signal(9, 0, 777)),
        ..death(9)
    };
    let stopped = Death {
        signal: Some(signal(15, 0, 1)),
        ..death(0)
    };
    assert_eq!(judged(&case(segv.clone())), ("backend-died", Proven));
    assert!(
        summary(segv).contains("(pid 4300, app.service), which served 127.0.0.1:8000, was killed by SIGSEGV, a fault of its own (core dumped)")
    );
    assert!(summary(killed).contains("was killed by SIGKILL from bash (pid 777)"));
    assert!(summary(death(1 << 8)).contains("exited with code 1,"));
    assert!(
        summary(stopped).contains("exited with code 0, 1.00 ms after SIGTERM from systemd (pid 1)")
    );
    assert_eq!(judged(&lossy(case(death(9)))), ("backend-died", Inferred));
}

#[test]
fn a_worker_is_told_from_the_whole_service() {
    let scope = |facts: Facts| {
        let case = with_peer(
            answered(502, closed(HERE), facts),
            by_peer(None, Some(death(9))),
        );
        fact(&verdict(&case), "scope").to_owned()
    };
    let restarted = Owner {
        since: after(60 * MS),
        ..node()
    };
    assert!(scope(served()).starts_with("one process of several: its parent node (pid 4242"));
    assert!(scope(served_by(restarted)).starts_with("the whole service: node"));
    assert!(scope(local(true)).starts_with("the whole service: nobody listens"));
}

#[test]
fn the_oom_killers_victim_is_distinguished() {
    let victim = Death {
        oom: true,
        signal: Some(signal(9, 128, 4300)),
        ..death(9)
    };
    let v = verdict(&case(victim));
    assert_eq!((v.cause, v.confidence), ("backend-oom-killed", Proven));
    assert!(v.summary.contains("by the OOM killer"), "{}", v.summary);
    assert!(
        v.advice[0].contains("systemctl show app.service -p MemoryMax"),
        "{:?}",
        v.advice
    );
    const MIB: u64 = 1 << 20;
    let limited = |used| {
        verdict(&case(Death {
            oom: true,
            limit: Some(MemoryLimit {
                cgroup: "app.service".to_owned(),
                bytes: 48 * MIB,
                used,
            }),
            ..death(9)
        }))
    };
    assert_eq!(
        fact(&limited(48 * MIB - 4096), "limit"),
        "the cgroup app.service held 48.0 MiB of the 48.0 MiB that it may"
    );
    assert!(
        fact(&limited(MIB), "limit")
            .ends_with("not reached, so the host itself or a cgroup above ran out of memory")
    );
}

#[test]
fn a_death_wins_over_a_reset_and_a_race() {
    let with_reset = with_peer(
        answered(502, reset(HERE), served()),
        by_peer(Some("TCP_ABORT_ON_CLOSE"), Some(death(9))),
    );
    assert_eq!(judged(&with_reset), ("backend-died", Proven));
    let reused = Connection {
        reuses: 3,
        reused_at: Some(after(900_000)),
        idle: Some(SECOND),
        ..closed(HERE)
    };
    let reused = with_peer(
        answered(502, reused, served()),
        by_peer(None, Some(death(9))),
    );
    assert_eq!(judged(&reused), ("backend-died", Proven));
}

#[test]
fn a_death_after_nginx_had_closed_explains_nothing() {
    let slow = Connection {
        state: 1,
        closed: after(48 * MS),
        ..connected(HERE)
    };
    let case = with_peer(answered(504, slow, served()), by_peer(None, Some(death(9))));
    assert_eq!(judged(&case), ("backend-slow", Inferred));
}

#[test]
fn on_a_unix_socket_the_listener_s_death_just_before_is_proof() {
    let c = Connection {
        end_read: Some(after(49 * MS)),
        ..unix_stream()
    };
    let case = |deaths: Vec<Death>| {
        let mut case = answered(502, c.clone(), Facts::default());
        case.attempts[0].deaths = deaths;
        case
    };
    let other = Death {
        pid: 4301,
        ..death(9)
    };
    let long_before = Death {
        at: Time(START.0 + MS),
        ..death(1 << 8)
    };
    let later = Death {
        at: after(60 * MS),
        ..death(9)
    };
    let listener = Death {
        pid: c.listener_pid.expect("who listens"),
        ..death(9)
    };
    assert_eq!(
        judged(&case(vec![listener.clone()])),
        ("backend-died", Proven)
    );
    assert_eq!(
        judged(&case(vec![listener, other])),
        ("backend-died", Inferred)
    );
    // A child may have been a helper.
    assert_eq!(judged(&case(vec![death(9)])), ("backend-died", Inferred));
    assert_eq!(judged(&case(vec![long_before])), ("backend-died", Inferred));
    // A helper that is done, and a death that came later, leave the close as it is.
    assert_eq!(
        judged(&case(vec![death(0)])),
        ("backend-closed-early", Proven)
    );
    assert_eq!(judged(&case(vec![later])), ("backend-closed-early", Proven));
}

#[test]
fn the_process_that_used_a_unix_connection_is_the_one_whose_death_counts() {
    let c = Connection {
        holder: Some(Holder {
            signal: None,
            pid: 4300,
            name: "gunicorn".to_owned(),
        }),
        end_read: Some(after(49 * MS)),
        ..unix_stream()
    };
    let case = |deaths: Vec<Death>| {
        let mut case = answered(502, c.clone(), Facts::default());
        case.attempts[0].deaths = deaths;
        case
    };
    let died = Death {
        pid: 4300,
        ..death(1 << 8)
    };
    let v = verdict(&case(vec![died]));
    assert_eq!((v.cause, v.confidence), ("backend-died", Proven));
    assert!(
        v.summary.contains("which served unix:/run/app.sock"),
        "{}",
        v.summary
    );
    assert_eq!(judged(&case(vec![])), ("backend-closed-early", Proven));
}

/// `gunicorn` (pid 4300) closed the connection alive, had got `signal`, and ended so later.
fn left(signal: Option<Signal>, death: Option<Death>) -> Case {
    let closed = PeerClosed {
        signal,
        ..by_peer(None, None)
    };
    let mut case = with_peer(answered(502, closed_early(), served()), closed);
    case.attempts[0].deaths.extend(death);
    case
}

fn closed_early() -> Connection {
    closed(HERE)
}

/// Its master, or somebody else, sent it `number`, after a signal to the master itself.
fn from(sender: &str, pid: u32, number: u8, before: Option<Signal>) -> Signal {
    Signal {
        sender_name: sender.to_owned(),
        before: before.map(Box::new),
        ..signal(number, 0, pid)
    }
}

fn exited(code: u32, later: u64) -> Death {
    Death {
        at: after(49 * MS + later),
        ..death(code << 8)
    }
}

#[test]
fn a_process_that_closes_on_its_way_out_died() {
    let abort = from("gunicorn", 4242, 6, None);
    let case = left(Some(abort.clone()), Some(exited(1, 300 * MS)));
    let v = verdict(&case);
    assert_eq!((v.cause, v.confidence), ("backend-died", Proven));
    assert!(
        v.summary.contains(
            "gunicorn (pid 4300, app.service), which served 127.0.0.1:8000, closed the connection 2.00 ms after SIGABRT \
             from gunicorn (pid 4242) and exited with code 1"
        ),
        "{}",
        v.summary
    );
    assert!(v.advice[0].contains("gunicorn --timeout"), "{:?}", v.advice);
    // A dump of its threads, as far as is known.
    let quit = from("jcmd", 777, 3, None);
    assert_eq!(judged(&left(Some(quit), None)).0, "backend-closed-early");
    // The exit was not seen: it may live on.
    assert_eq!(judged(&left(Some(abort), None)), ("backend-died", Inferred));
}

#[test]
fn an_exit_without_a_signal_counts_if_it_failed_just_after() {
    let judged = |death| judged(&left(None, death));
    assert_eq!(judged(Some(exited(1, MS))), ("backend-died", Proven));
    for later in [exited(0, MS), exited(1, 900 * MS)] {
        assert_eq!(judged(Some(later)), ("backend-closed-early", Proven));
    }
    assert_eq!(judged(None), ("backend-closed-early", Proven));
}

#[test]
fn a_signal_that_asks_for_no_stop_needs_an_exit() {
    let hangup = || Some(from("uwsgi", 4242, 1, None));
    assert_eq!(
        judged(&left(hangup(), None)),
        ("backend-closed-early", Proven)
    );
    let left = left(hangup(), Some(exited(0, MS)));
    assert_eq!(judged(&left), ("backend-died", Proven));
}

#[test]
fn a_time_limit_is_told_from_a_reload() {
    let killed = |name: &str, signal: Signal| {
        let death = Death {
            name: name.to_owned(),
            code: signal.number.into(),
            signal: Some(signal),
            ..death(0)
        };
        verdict(&case(death)).advice.join("\n")
    };
    let order = || Some(signal(12, 0, 777));
    for (name, master, number, order, wanted, unwanted) in [
        ("gunicorn", "gunicorn", 6, order(), "--timeout", "deploy"),
        ("gunicorn", "gunicorn", 9, None, "--timeout", "deploy"),
        (
            "gunicorn",
            "gunicorn",
            9,
            order(),
            "--graceful-timeout",
            "WORKER TIMEOUT",
        ),
        (
            "php-fpm8.2",
            "php-fpm8.2",
            15,
            None,
            "request_terminate_timeout",
            "deploy",
        ),
        (
            "php-fpm8.2",
            "php-fpm8.2",
            15,
            order(),
            "process_control_timeout",
            "request_terminate",
        ),
        ("uwsgi", "uwsgi", 9, None, "--harakiri", "deploy"),
        // Its SIGUSR2 shows how the workers do.
        ("uwsgi", "uwsgi", 9, order(), "--harakiri", "deploy"),
        (
            "python3",
            "python3",
            15,
            None,
            "restart or deploy",
            "master",
        ),
        (
            "python3",
            "uvicorn",
            15,
            None,
            "--timeout-graceful-shutdown",
            "gunicorn --timeout",
        ),
        ("node", "python3", 15, None, "server.close()", "gunicorn"),
        ("node", "systemd", 15, None, "restart or deploy", "timeout,"),
        (
            "node",
            "containerd-shim",
            9,
            None,
            "docker stop -t",
            "memory",
        ),
        ("shopd", "shopd", 9, None, "a worker timeout", "deploy"),
    ] {
        let advice = killed(name, from(master, 4242, number, order));
        assert!(advice.contains(wanted), "{name} {number}: {advice}");
        assert!(!advice.contains(unwanted), "{name} {number}: {advice}");
    }
}

#[test]
fn only_sigabrt_is_an_abort() {
    let own = |number: u8| {
        let signal = Signal {
            sender: 4300,
            ..signal(number, -6, 4300)
        };
        summary(Death {
            signal: Some(signal),
            ..death(number.into())
        })
    };
    assert!(own(6).contains("SIGABRT, which it sent itself (abort())"));
    assert!(
        own(15).contains("SIGTERM, which it sent itself,"),
        "{}",
        own(15)
    );
}

#[test]
fn a_stop_that_closes_an_idle_connection_is_a_death_once_the_exit_is_seen() {
    let idle = Connection {
        reuses: 3,
        reused_at: Some(after(48 * MS)),
        last_sent: Some(after(49 * MS)),
        idle: Some(SECOND),
        ..closed(HERE)
    };
    let case = |death: Option<Death>| {
        let closed = PeerClosed {
            signal: Some(signal(15, 0, 1)),
            ..by_peer(None, None)
        };
        let mut case = with_peer(answered(502, idle.clone(), served()), closed);
        case.attempts[0].deaths.extend(death);
        case
    };
    assert_eq!(judged(&case(Some(exited(0, MS)))).0, "backend-died");
    let race = verdict(&case(None));
    assert_eq!(race.cause, "keepalive-race");
    assert!(fact(&race, "peer").contains("after SIGTERM from systemd (pid 1)"));
}

#[test]
fn a_stranger_that_held_the_connection_last_may_have_inherited_it() {
    let helper = Death {
        name: "sh".to_owned(),
        parent: 1,
        ..death(0)
    };
    assert_eq!(judged(&case(helper.clone())), ("backend-died", Inferred));
    let child = Death {
        parent: 4242,
        ..helper
    };
    assert_eq!(judged(&case(child)), ("backend-died", Proven));
}
