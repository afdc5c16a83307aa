//! A reused connection that the backend was closing.

use super::{connected::*, *};
use crate::event::{LogLine, PeerClosed};

/// Idle for 5 s, taken out of the cache after 900 µs, written to at 1 ms.
fn reused(c: Connection) -> Connection {
    Connection {
        reuses: 3,
        reused_at: Some(after(900_000)),
        idle: Some(5 * SECOND),
        ..c
    }
}

fn fin_at(nanoseconds: u64) -> Connection {
    reused(Connection {
        fin_received: Some(after(nanoseconds)),
        closed: after(nanoseconds.max(MS) + MS),
        ..closed(HERE)
    })
}

#[test]
fn a_close_before_the_write_is_proof_of_the_race() {
    let race = "keepalive-race";
    for c in [
        fin_at(950_000),
        fin_at(500_000),
        // Nothing could be written.
        Connection {
            last_sent: None,
            ..fin_at(950_000)
        },
        // Opened before tracing.
        Connection {
            start: Time(0),
            reuses: 1,
            idle: None,
            established: None,
            ..fin_at(950_000)
        },
        // The RST says that the request met a closed socket.
        Connection {
            rst_received: Some(after(MS + 300_000)),
            ..fin_at(MS + 100_000)
        },
    ] {
        let case = answered(502, c, served());
        assert_eq!(judged(&case), (race, Proven), "{:#?}", verdict(&case));
        assert_eq!(judged(&lossy(case)), (race, Inferred));
    }
    let just_after = fin_at(MS + 100_000);
    assert_eq!(
        judged(&answered(502, just_after, served())),
        (race, Inferred)
    );
    let reset = reused(Connection {
        rst_received: Some(after(MS + 100_000)),
        ..reset(HERE)
    });
    assert_eq!(judged(&answered(502, reset, served())), (race, Inferred));
    let blind = without(answered(502, fin_at(950_000), served()), "received");
    assert_eq!(judged(&blind), (race, Inferred));
}

#[test]
fn a_close_long_after_the_write_is_no_race() {
    let c = fin_at(49 * MS);
    let v = verdict(&answered(502, c, served()));
    assert_eq!((v.cause, v.confidence), ("backend-closed-early", Proven));
    assert!(fact(&v, "no-race").contains("had reached the backend"));
    // From far the close may have been on its way.
    let far = Connection {
        established: Some(after(40 * MS)),
        remote: Upstream::Inet(address(THERE)),
        ..fin_at(49 * MS)
    };
    assert_eq!(
        judged(&answered(502, far, local(false))),
        ("keepalive-race", Inferred)
    );
}

#[test]
fn the_verdict_says_how_long_the_backend_keeps_connections_and_why_nginx_did_not_retry() {
    let mut case = answered(502, fin_at(950_000), served());
    case.log_lines.push(LogLine {
        request: Some("POST /cart HTTP/1.1".to_owned()),
        ..LogLine::default()
    });
    let v = verdict(&case);
    assert!(
        v.summary.contains("after 5.0 s idle") && v.summary.contains("0.05 ms before nginx wrote"),
        "{}",
        v.summary
    );
    assert!(fact(&v, "keep-alive").contains("5.0 s after its last response"));
    assert!(fact(&v, "retry").contains("POST is not idempotent"));
    // Its making is long ago: times count from the reuse.
    assert_eq!(v.evidence[0].event, "reused");
    assert!(fact(&v, "opened").contains("0.90 ms before"));
    assert!(
        v.advice[0].contains("keepalive_timeout 4s;"),
        "{:?}",
        v.advice
    );
    assert!(
        v.advice[1].contains("server.keepAliveTimeout"),
        "{:?}",
        v.advice
    );
}

#[test]
fn a_retried_race_is_masked() {
    let mut case = answered(502, fin_at(950_000), served());
    case.attempts
        .push(attempt(Course::Succeeded, Facts::default()));
    let v = verdict(&masked(case, 200));
    assert_eq!((v.cause, v.masked), ("keepalive-race", true));
    assert!(fact(&v, "retry").contains("tried again"));
}

/// Over TLS the backend says goodbye before it closes: the alert is no response.
#[test]
fn a_close_notify_is_no_response() {
    for (first, alert) in [(0x16, 0x17), (0x16, 0x15), (0x17, 0x17)] {
        let over_tls = |c| Connection {
            first_sent: Some(first),
            first_received: Some(alert),
            last_received: Some(after(MS + 200_000)),
            tls_data: true,
            bytes_received: 2000,
            ..c
        };
        let met = |c| judged(&answered(502, over_tls(c), served()));
        assert_eq!(met(fin_at(950_000)), ("keepalive-race", Proven));
        assert_eq!(met(fin_at(MS + 100_000)), ("keepalive-race", Inferred));
        assert_eq!(met(fin_at(50 * MS)), ("keepalive-race", Inferred));
        assert_eq!(met(fin_at(300 * MS)).0, "backend-closed-early");
        // Its FIN has not come yet.
        let notified = Connection {
            fin_received: None,
            end_read: None,
            ..fin_at(MS + 100_000)
        };
        assert_eq!(met(notified), ("keepalive-race", Inferred));
        let began = Connection {
            first_byte: Some(after(MS + 90_000)),
            ..fin_at(MS + 100_000)
        };
        assert_eq!(met(began).0, "backend-closed-early");
    }
}

/// HTTP/2: the backend names the last request that it took, and no error.
#[test]
fn a_goaway_without_an_error_is_the_race_of_http2() {
    let goaway = |c: Connection, code| {
        let c = Connection {
            first_byte: Some(after(MS + 200_000)),
            first_received: Some(4),
            bytes_received: 26,
            ..c
        };
        let mut case = answered(502, c, served());
        let mut call = log_call("upstream sent goaway with error %ui", 0);
        call.at = after(MS + 250_000);
        call.number = Some(code);
        case.log_calls.push(call);
        case
    };
    let race = verdict(&goaway(reused(connected(HERE)), 0));
    assert_eq!((race.cause, race.confidence), ("keepalive-race", Proven));
    assert!(race.summary.contains("NO_ERROR"), "{}", race.summary);
    assert!(
        race.advice[0].contains("max_connection_age"),
        "{:?}",
        race.advice
    );
    let closed_too = goaway(fin_at(MS + 300_000), 0);
    assert_eq!(judged(&closed_too), ("keepalive-race", Proven));
    let new = goaway(connected(HERE), 0);
    assert_eq!(judged(&new), ("backend-closed-early", Proven));
    let failed = verdict(&goaway(reused(connected(HERE)), 2));
    assert_eq!(
        (failed.cause, failed.confidence),
        ("response-rejected", Proven)
    );
    assert!(
        failed
            .summary
            .ends_with("goaway with error 2 (INTERNAL_ERROR)"),
        "{}",
        failed.summary
    );
}

/// The backend's kernel counts what its program never read.
#[test]
fn a_request_left_unread_is_a_race_however_late_the_close() {
    let late = reused(Connection {
        asked: 120,
        ..reset(HERE)
    });
    let case = |unread| {
        let closed = PeerClosed {
            unread,
            ..by_peer(Some("TCP_ABORT_ON_CLOSE"), None)
        };
        with_peer(answered(502, late.clone(), served()), closed)
    };
    assert_eq!(judged(&case(120)), ("keepalive-race", Proven));
    assert_eq!(judged(&case(20)).0, "backend-reset");
}
