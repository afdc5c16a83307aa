//! nginx's timer ended the wait.

use super::{connected::*, *};
use crate::event::fact::PeerSocketView;

fn silent_for_a_minute() -> Connection {
    Connection {
        closed: after(60 * SECOND),
        ..connected(HERE)
    }
}

fn peer(accepted: bool, unread: u32, queue: u32) -> Facts {
    Facts {
        listener: Some(ListenerView {
            exact: vec![listener(HERE, queue, 128)],
            ..view(true)
        }),
        peer_socket: Some(PeerSocketView {
            translated: None,
            retransmits: 0,
            found: true,
            accepted,
            unread,
            owner: accepted.then(node),
        }),
        ..Facts::default()
    }
}

#[test]
fn what_a_packet_filter_takes_from_a_connection_is_not_the_backends_silence() {
    let filtered = |flags, count, at| Connection {
        drops: vec![Drop {
            at,
            ..drop("NETFILTER_DROP", flags, count)
        }],
        ..silent_for_a_minute()
    };
    let judged = |c| judged(&answered(504, c, peer(true, 0, 0)));
    let later = after(SECOND);
    assert_eq!(judged(filtered(0x18, 5, later)), ("firewall-drop", Proven));
    assert_eq!(
        judged(filtered(0x18, 1, later)),
        ("firewall-drop", Inferred)
    );
    // A SYN that was sent again and answered then.
    assert_eq!(judged(filtered(0x02, 1, START)), ("unexplained", Unknown));
}

#[test]
fn a_request_that_nobody_acknowledged_is_not_the_backends_silence() {
    let mut facts = peer(true, 0, 0);
    let judged = |facts: &Facts| verdict(&answered(504, silent_for_a_minute(), facts.clone()));
    facts.peer_socket = Some(PeerSocketView::default());
    assert_eq!(judged(&facts).cause, "backend-slow");
    facts.peer_socket = Some(PeerSocketView {
        retransmits: 3,
        ..PeerSocketView::default()
    });
    let lost = judged(&facts);
    assert_eq!((lost.cause, lost.confidence), ("unexplained", Unknown));
    assert!(lost.summary.contains("3 times and never acknowledged"));
}

#[test]
fn the_upstreams_own_end_tells_slow_from_never_accepted() {
    let case = |facts| answered(504, silent_for_a_minute(), facts);
    let slow = verdict(&case(peer(true, 1, 0)));
    assert_eq!((slow.cause, slow.confidence), ("backend-slow", Proven));
    assert!(
        fact(&slow, "peer").contains("node (pid 4242")
            && fact(&slow, "peer").ends_with("has read the request"),
        "{slow:#?}"
    );
    let unread = verdict(&case(peer(true, 121, 0)));
    assert!(fact(&unread, "peer").ends_with("has not read a byte of the request"));
    // Others wait: it may have been accepted only when nginx had gone.
    assert_eq!(
        judged(&case(peer(true, 121, 5))),
        ("backend-slow", Inferred)
    );
    let queued = verdict(&case(peer(false, 121, 5)));
    assert_eq!(
        (queued.cause, queued.confidence),
        ("backend-not-accepting", Proven)
    );
    assert!(
        queued
            .summary
            .contains("waited in the accept queue for 60.0 s"),
        "{}",
        queued.summary
    );
    assert!(fact(&queued, "listener").contains("5 connections in its accept queue"));
    assert_eq!(
        judged(&lossy(case(peer(false, 121, 5)))),
        ("backend-not-accepting", Inferred)
    );
}

#[test]
fn of_several_listeners_the_one_whose_queue_holds_connections_is_named() {
    let other = |pid, queue| Listener {
        owner: Some(Owner { pid, ..node() }),
        ..listener(HERE, queue, 128)
    };
    let judged = |queues: [u32; 2]| {
        let mut facts = peer(false, 121, 0);
        facts.listener = Some(ListenerView {
            exact: vec![other(1000, queues[0]), other(2000, queues[1])],
            ..view(true)
        });
        verdict(&answered(504, silent_for_a_minute(), facts))
    };
    let stuck = judged([0, 5]);
    assert_eq!(stuck.cause, "backend-not-accepting");
    let listener = fact(&stuck, "listener");
    assert!(
        listener.contains("pid 2000") && listener.contains("one of 2 listeners"),
        "{listener}"
    );
    // Nothing says which: none is named, and no empty queue is shown for a full one.
    let unknown = judged([0, 0]);
    let is_named = |text: &String| text.contains("1000") || text.contains("2000");
    assert!(!unknown.advice.iter().any(is_named), "{unknown:#?}");
    assert!(unknown.evidence.iter().all(|e| e.event != "listener"));
}

#[test]
fn an_end_without_process_after_a_close_is_not_unaccepted() {
    let late = Connection {
        fin_received: Some(after(60 * SECOND - MS)),
        ..silent_for_a_minute()
    };
    assert_eq!(
        judged(&answered(504, late, peer(false, 0, 0))),
        ("backend-slow", Inferred)
    );
}

#[test]
fn a_header_that_is_not_ended_is_slow() {
    let c = Connection {
        first_byte: Some(after(20 * MS)),
        status: Some(200),
        bytes_received: 30,
        ..silent_for_a_minute()
    };
    assert_eq!(
        judged(&answered(504, c, Facts::default())),
        ("backend-slow", Proven)
    );
}

#[test]
fn a_unix_stream_tells_whether_it_was_accepted_where_that_was_read() {
    let c = Connection {
        closed: after(60 * SECOND),
        ..unix_stream()
    };
    assert_eq!(
        judged(&answered(504, c.clone(), Facts::default())),
        ("backend-slow", Inferred)
    );
    let accepted = |accepted| Connection {
        accepted: Some(accepted),
        ..c.clone()
    };
    assert_eq!(
        judged(&answered(504, accepted(true), Facts::default())),
        ("backend-slow", Proven)
    );
    assert_eq!(
        judged(&answered(504, accepted(false), Facts::default())),
        ("backend-not-accepting", Proven)
    );
}

#[test]
fn a_drop_that_shows_the_full_queue_wins() {
    let late = |reason| Connection {
        drops: vec![Drop {
            from_upstream: false,
            ..drop(reason, 0x10, 4)
        }],
        ..silent_for_a_minute()
    };
    let case = |reason, queue| answered(504, late(reason), peer(false, 0, queue));
    assert_eq!(
        judged(&case("TCP_LISTEN_OVERFLOW", 129)),
        ("accept-queue-full", Proven)
    );
    // Its program took it in the end: that may have been slow, too.
    let taken = answered(504, late("TCP_LISTEN_OVERFLOW"), peer(true, 0, 129));
    assert_eq!(judged(&taken), ("accept-queue-full", Inferred));
    assert_eq!(
        judged(&case("NO_SOCKET", 129)),
        ("accept-queue-full", Proven)
    );
    assert_eq!(
        judged(&case("NO_SOCKET", 0)),
        ("accept-queue-full", Inferred)
    );
    assert_eq!(
        judged(&lossy(case("NO_SOCKET", 129))),
        ("accept-queue-full", Inferred)
    );
    // The listener may be in another network namespace; where nobody listens there is no queue.
    let seen = |local| listening(view(local));
    assert_eq!(
        judged(&answered(504, late("NO_SOCKET"), seen(false))),
        ("accept-queue-full", Inferred)
    );
    assert_ne!(
        judged(&answered(504, late("NO_SOCKET"), seen(true))).0,
        "accept-queue-full"
    );
}

#[test]
fn only_nginxs_word_proves_that_its_timer_ended_an_attempt_that_it_left() {
    let left = |accepted| {
        let case = answered(200, silent_for_a_minute(), peer(accepted, 1, 0));
        followed(masked(case, 200))
    };
    let slow = verdict(&left(true));
    assert_eq!((slow.cause, slow.confidence), ("backend-slow", Inferred));
    assert!(
        fact(&slow, "unseen").contains("did not log why"),
        "{slow:#?}"
    );
    assert_eq!(judged(&left(false)), ("backend-not-accepting", Inferred));
    let logged = |accepted| logged(left(accepted), "upstream timed out");
    assert_eq!(judged(&logged(true)), ("backend-slow", Proven));
    assert_eq!(judged(&logged(false)), ("backend-not-accepting", Proven));

    // What is not shown is named nowhere else, and gives no errno.
    for (case, shown) in [(left(false), false), (logged(false), true)] {
        let verdict = verdict(&case);
        let named = verdict.summary.contains("nginx's timer");
        let end = fact(&verdict, "close").contains("timer ends the wait");
        assert_eq!((named, end), (shown, shown), "{verdict:#?}");
        assert_eq!(verdict.errno.is_some(), shown, "{verdict:#?}");
    }
}

#[test]
fn an_attempt_whose_read_or_write_failed_was_not_left_in_silence() {
    let mut failed = silent_for_a_minute();
    failed.transfer_error = Some((104, failed.closed));
    let case = answered(200, failed, peer(true, 1, 0));
    assert_ne!(judged(&followed(masked(case, 200))).0, "backend-slow");
}
