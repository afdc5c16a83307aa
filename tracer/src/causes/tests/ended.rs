//! The backend ended an established connection, and lives.

use super::{connected::*, *};

fn judged_of(c: Connection, facts: Facts) -> (&'static str, Confidence) {
    judged(&answered(502, c, facts))
}

#[test]
fn a_fin_is_a_close_and_its_process_must_be_seen_alive_here() {
    let early = "backend-closed-early";
    let later = Owner {
        since: after(40 * SECOND),
        ..node()
    };
    assert_eq!(judged_of(closed(HERE), served()), (early, Proven));
    assert_eq!(judged_of(closed(HERE), served_by(later)), (early, Inferred));
    assert_eq!(judged_of(closed(HERE), local(true)), (early, Inferred));
    assert_eq!(judged_of(closed(THERE), local(false)), (early, Proven));
    assert_eq!(
        judged_of(closed(THERE), Facts::default()),
        (early, Inferred)
    );
    assert_eq!(
        judged(&lossy(answered(502, closed(HERE), served()))),
        (early, Inferred)
    );
    let there = verdict(&answered(502, closed(THERE), local(false)));
    assert!(fact(&there, "peer").contains("not visible"), "{there:#?}");
}

#[test]
fn whoever_only_looked_at_a_connection_did_not_close_it() {
    let gunicorn = Owner {
        name: "gunicorn".to_owned(),
        ..node()
    };
    let closed_by = |name: &str, pid: u32, parent: u32| {
        let closer = crate::event::PeerClosed {
            translated: false,
            unread: 0,
            pid,
            parent,
            name: name.to_owned(),
            ..by_peer(None, None)
        };
        judged(&with_peer(
            answered(502, closed(HERE), served_by(gunicorn.clone())),
            closer,
        ))
    };
    let early = "backend-closed-early";
    // The listener itself, a child of it, one of the same name; then `ss -p`.
    assert_eq!(closed_by("MainThread", 4242, 1), (early, Proven));
    assert_eq!(closed_by("worker", 4300, 4242), (early, Proven));
    assert_eq!(closed_by("gunicorn", 77, 1), (early, Proven));
    assert_eq!(closed_by("ss", 77, 1), (early, Inferred));
}

#[test]
fn a_fin_before_the_request_was_written_is_the_same() {
    let c = Connection {
        fin_received: Some(after(200_000)),
        rst_received: Some(after(MS + 100_000)),
        error: Some((32, after(MS + 100_000))),
        transfer_error: Some((104, after(MS + 200_000))),
        closed: after(2 * MS),
        ..connected(HERE)
    };
    assert_eq!(judged_of(c, served()), ("backend-closed-early", Proven));
}

#[test]
fn a_fin_within_the_header_is_told_by_the_end_that_nginx_read() {
    let partial = Connection {
        first_byte: Some(after(20 * MS)),
        first_received: Some(b'H'),
        status: Some(200),
        bytes_received: 17,
        ..closed(HERE)
    };
    let v = verdict(&answered(502, partial.clone(), served()));
    assert_eq!((v.cause, v.confidence), ("backend-closed-early", Proven));
    assert!(
        v.summary.contains("after 17 bytes of a response"),
        "{}",
        v.summary
    );
    // nginx did not read to the end: it refused what it had.
    let refused = Connection {
        end_read: None,
        ..partial
    };
    assert_eq!(
        judged_of(refused, served()),
        ("response-rejected", Inferred)
    );
}

#[test]
fn a_reset_is_told_by_the_kernels_reason_for_it() {
    let case = |reason| with_peer(answered(502, reset(HERE), served()), by_peer(reason, None));
    let unread = verdict(&case(Some("TCP_ABORT_ON_CLOSE")));
    assert_eq!((unread.cause, unread.confidence), ("backend-reset", Proven));
    assert!(
        unread.summary.starts_with(
            "gunicorn (pid 4300) at 127.0.0.1:8000 closed the connection with the request unread"
        ),
        "{}",
        unread.summary
    );
    let linger = verdict(&case(Some("TCP_STATE")));
    assert_eq!((linger.cause, linger.confidence), ("backend-reset", Proven));
    assert!(linger.summary.contains("on purpose"), "{}", linger.summary);
    assert_eq!(
        judged(&lossy(case(Some("TCP_STATE")))),
        ("backend-reset", Inferred)
    );
    assert_eq!(
        judged(&case(Some("TCP_ABORT_ON_MEMORY"))),
        ("backend-reset", Proven)
    );
    // Nobody here was seen to do it, or nobody is here.
    assert_eq!(
        judged_of(reset(HERE), served()),
        ("backend-reset", Inferred)
    );
    assert_eq!(
        judged_of(reset(THERE), local(false)),
        ("backend-reset", Inferred)
    );
}

#[test]
fn a_reset_that_a_full_queue_or_a_rule_sent_is_not_the_backends() {
    let full = listening(ListenerView {
        exact: vec![listener(HERE, 129, 128)],
        ..view(true)
    });
    assert_eq!(
        judged_of(reset(HERE), full.clone()),
        ("accept-queue-full", Inferred)
    );
    let overflow = Connection {
        drops: vec![Drop {
            from_upstream: false,
            ..drop("TCP_LISTEN_OVERFLOW", 0x10, 1)
        }],
        ..reset(HERE)
    };
    assert_eq!(judged_of(overflow, served()), ("accept-queue-full", Proven));
    let rule = Connection {
        drops: vec![drop("NETFILTER_DROP", 0x18, 1)],
        ..reset(HERE)
    };
    assert_eq!(judged_of(rule, served()), ("unexplained", Unknown));
    // The backend's own, whatever its queue holds.
    let own = with_peer(
        answered(502, reset(HERE), full),
        by_peer(Some("TCP_STATE"), None),
    );
    assert_eq!(judged(&own), ("backend-reset", Proven));
}

#[test]
fn a_write_that_fails_does_not_say_whether_a_fin_came() {
    let broken = |fin_received| Connection {
        fin_received,
        transfer_error: Some((32, after(49 * MS))),
        ..connected(HERE)
    };
    let early = "backend-closed-early";
    assert_eq!(judged_of(broken(None), served()), (early, Inferred));
    let seen = broken(Some(after(48 * MS)));
    assert_eq!(judged_of(seen, served()), (early, Proven));
}

#[test]
fn a_unix_stream_ends_by_what_nginx_read() {
    let end = Connection {
        end_read: Some(after(49 * MS)),
        ..unix_stream()
    };
    let unread = Connection {
        transfer_error: Some((104, after(49 * MS))),
        ..unix_stream()
    };
    let broken = Connection {
        transfer_error: Some((32, after(49 * MS))),
        ..unix_stream()
    };
    let nobody = Connection {
        listener_pid: None,
        ..end.clone()
    };
    assert_eq!(
        judged_of(end, Facts::default()),
        ("backend-closed-early", Proven)
    );
    assert_eq!(
        judged_of(nobody, Facts::default()),
        ("backend-closed-early", Inferred)
    );
    assert_eq!(
        judged_of(unread, Facts::default()),
        ("backend-reset", Proven)
    );
    assert_eq!(
        judged_of(broken, Facts::default()),
        ("backend-closed-early", Proven)
    );
}

#[test]
fn a_tls_answer_to_a_plain_request_names_the_scheme() {
    let c = Connection {
        first_byte: Some(after(20 * MS)),
        first_received: Some(0x15),
        bytes_received: 8,
        ..closed(HERE)
    };
    let v = verdict(&answered(502, c, served()));
    assert!(fact(&v, "protocol").contains("https"), "{v:#?}");
}
