//! The connection was established.

use super::*;

fn connected(remote: &str) -> Connection {
    Connection {
        established: Some(after(100_000)),
        closed: after(SECOND),
        state: 8,
        bytes_sent: 120,
        ..handshake(remote)
    }
}

#[test]
fn what_the_connection_alone_shows() {
    let remote = "10.0.0.5:80";
    let closed = Connection {
        fin_received: Some(after(SECOND)),
        ..connected(remote)
    };
    let reset = Connection {
        rst_received: Some(after(SECOND)),
        error: Some((104, after(SECOND))),
        state: 7,
        ..connected(remote)
    };
    let slow = Connection {
        state: 1,
        closed: after(60 * SECOND),
        ..connected(remote)
    };
    let answered = Connection {
        status: Some(502),
        first_byte: Some(after(MS)),
        bytes_received: 300,
        ..connected(remote)
    };
    let cases = [
        (
            one(closed.clone(), Facts::default()),
            ("backend-closed-early", Inferred),
        ),
        (one(reset, Facts::default()), ("backend-reset", Inferred)),
        (one(slow.clone(), local(false)), ("backend-slow", Inferred)),
        (one(answered, Facts::default()), ("passed-through", Proven)),
        (
            one(
                Connection {
                    reuses: 1,
                    reused_at: Some(after(900 * MS)),
                    ..closed
                },
                Facts::default(),
            ),
            ("keepalive-race", Proven),
        ),
        // On this host it may never have been accepted.
        (
            one(
                Connection {
                    remote: Upstream::Inet(address("127.0.0.1:80")),
                    ..slow
                },
                local(true),
            ),
            ("unexplained", Unknown),
        ),
    ];
    for (i, (case, expected)) in cases.iter().enumerate() {
        assert_eq!(judged(case), *expected, "case {i}: {:#?}", verdict(case));
    }
}

#[test]
fn an_accepting_listener_leaves_the_slow_backend() {
    let here = "127.0.0.1:80";
    let slow = Connection {
        state: 1,
        closed: after(60 * SECOND),
        ..connected(here)
    };
    let queue = |queue| {
        listening(ListenerView {
            exact: vec![listener(here, queue, 128)],
            ..view(true)
        })
    };
    assert_eq!(
        judged(&one(slow.clone(), queue(0))),
        ("backend-slow", Inferred)
    );
    assert_eq!(judged(&one(slow, queue(3))), ("unexplained", Unknown));
}

#[test]
fn an_overflow_after_the_syn_is_the_queue() {
    let c = Connection {
        state: 1,
        closed: after(60 * SECOND),
        drops: vec![Drop {
            from_upstream: false,
            ..drop("TCP_LISTEN_OVERFLOW", 0x10, 4)
        }],
        ..connected("127.0.0.1:80")
    };
    assert_eq!(judged(&one(c, local(true))), ("accept-queue-full", Proven));
}

#[test]
fn a_connection_from_before_tracing_is_not_taken_for_a_handshake() {
    let c = Connection {
        start: Time(0),
        state: 2,
        ..handshake("10.0.0.5:80")
    };
    assert_eq!(judged(&one(c, local(false))), ("unexplained", Unknown));
}
