//! The TLS handshake with the backend.

use super::{connected::*, *};

const SELF: &str = "tls-handshake-failed";

fn hello(c: Connection) -> Connection {
    Connection {
        first_sent: Some(0x16),
        ..c
    }
}

fn answering(first: u8, c: Connection) -> Connection {
    hello(Connection {
        first_byte: Some(after(20 * MS)),
        first_received: Some(first),
        bytes_received: 1500,
        ..c
    })
}

fn says(case: Case, text: &str) -> Case {
    let mut case = logged(case, "%*s");
    if let Some(call) = case.log_calls.last_mut() {
        call.text = Some(text.to_owned());
    }
    case
}

#[test]
fn openssls_words_are_proof_and_say_what_to_do() {
    let case = answered(502, answering(b'H', connected(HERE)), served());
    let plain = verdict(&says(
        case,
        "SSL_do_handshake() failed (SSL: error:0A00010B:SSL routines::wrong version number)",
    ));
    assert_eq!((plain.cause, plain.confidence), (SELF, Proven));
    assert!(
        plain
            .summary
            .contains("does not speak TLS: it answered nginx's handshake with plain HTTP"),
        "{}",
        plain.summary
    );
    let alert = verdict(&says(
        answered(502, answering(0x15, connected(HERE)), served()),
        "SSL_do_handshake() failed (SSL: error:0A000458:SSL routines::tlsv1 unrecognized name:SSL alert number 112)",
    ));
    assert_eq!((alert.cause, alert.confidence), (SELF, Proven));
    assert!(
        alert.summary.ends_with("tlsv1 unrecognized name"),
        "{}",
        alert.summary
    );
    assert!(
        alert.advice[0].contains("proxy_ssl_server_name on"),
        "{:?}",
        alert.advice
    );
}

#[test]
fn nginx_own_refusal_of_the_certificate_is_told() {
    let case = |format| {
        logged(
            answered(502, answering(0x16, connected(HERE)), served()),
            format,
        )
    };
    let verify = verdict(&case("upstream SSL certificate verify error: (%l:%s)"));
    assert_eq!((verify.cause, verify.confidence), (SELF, Proven));
    assert!(
        verify.advice[0].contains("proxy_ssl_trusted_certificate"),
        "{:?}",
        verify.advice
    );
    assert_eq!(
        judged(&case("upstream SSL certificate does not match \"%V\"")),
        (SELF, Proven)
    );
    assert_eq!(
        judged(&lossy(case(
            "upstream SSL certificate does not match \"%V\""
        ))),
        (SELF, Inferred)
    );
}

#[test]
fn a_certificate_that_nginx_refused_before_it_went_on_is_no_silence() {
    let left = || {
        let case = answered(200, answering(0x16, connected(HERE)), served());
        followed(masked(case, 200))
    };
    let refused = verdict(&logged(
        left(),
        "upstream SSL certificate verify error: (%l:%s)",
    ));
    assert_eq!((refused.cause, refused.confidence), (SELF, Proven));
    assert!(
        refused.summary.contains("certificate verify error"),
        "{}",
        refused.summary
    );
    assert_eq!(refused.errno, None);
    let unlogged = verdict(&left());
    assert_eq!((unlogged.cause, unlogged.confidence), (SELF, Inferred));
    assert!(
        unlogged.summary.contains("nginx gave up"),
        "{}",
        unlogged.summary
    );
}

#[test]
fn without_a_log_the_first_bytes_tell() {
    let case = |c: Connection| answered(502, c, served());
    assert_eq!(judged(&case(answering(b'H', closed(HERE)))), (SELF, Proven));
    assert_eq!(judged(&case(answering(0x15, closed(HERE)))), (SELF, Proven));
    assert_eq!(judged(&case(hello(closed(HERE)))), (SELF, Proven));
    assert_eq!(judged(&case(hello(reset(HERE)))), (SELF, Proven));
    // nginx closed first: a certificate it refused, or an answer.
    assert_eq!(
        judged(&case(answering(0x16, connected(HERE)))),
        (SELF, Inferred)
    );
}

#[test]
fn a_fault_after_the_handshake_is_not_the_handshakes() {
    let over = |c| Connection {
        tls_data: true,
        ..answering(0x16, c)
    };
    let early = answered(502, over(closed(HERE)), served());
    assert_eq!(judged(&early), ("backend-closed-early", Proven));
    let said = logged(early, "upstream prematurely closed connection");
    assert_eq!(judged(&said), ("backend-closed-early", Proven));
    let big = logged(
        answered(502, over(connected(HERE)), served()),
        "upstream sent too big header",
    );
    assert_eq!(judged(&big), ("response-rejected", Proven));
    let died = with_peer(
        answered(502, hello(closed(HERE)), served()),
        by_peer(None, Some(death(9))),
    );
    assert_eq!(judged(&died), ("backend-died", Proven));
    let slow = Connection {
        closed: after(60 * SECOND),
        ..over(connected(HERE))
    };
    assert_eq!(
        judged(&answered(504, slow, served())),
        ("backend-slow", Proven)
    );
}

#[test]
fn silence_until_nginx_s_timer_is_the_handshakes_while_that_lasts() {
    let silent = |c| Connection {
        closed: after(60 * SECOND),
        ..c
    };
    let case = |c| answered(504, silent(c), served());
    let never = verdict(&case(hello(connected(HERE))));
    assert_eq!((never.cause, never.confidence), (SELF, Inferred));
    assert!(
        never
            .summary
            .contains("did not answer nginx's TLS handshake"),
        "{}",
        never.summary
    );
    let begun = verdict(&case(answering(0x16, connected(HERE))));
    assert_eq!((begun.cause, begun.confidence), (SELF, Proven));
    assert!(
        begun.summary.contains("began the TLS handshake"),
        "{}",
        begun.summary
    );
}

#[test]
fn an_alert_is_told_by_its_name() {
    let refused = Connection {
        tls_alert: Some(70),
        ..answering(0x15, closed(HERE))
    };
    let v = verdict(&answered(502, refused, served()));
    assert_eq!((v.cause, v.confidence), (SELF, Proven));
    assert!(
        v.summary.ends_with("with the alert protocol version (70)"),
        "{}",
        v.summary
    );
    assert!(
        v.advice[0].contains("proxy_ssl_protocols"),
        "{:?}",
        v.advice
    );
}

/// What came after nginx's request, in place of a response: a TLS 1.3 alert.
fn alerted(c: Connection) -> Connection {
    hello(Connection {
        tls_data: true,
        last_received: Some(after(20 * MS)),
        first_received: Some(0x17),
        bytes_received: 1459,
        ..c
    })
}

#[test]
fn a_refusal_in_tls_1_3_is_told_whatever_nginx_met_of_it() {
    let read = |c| answered(502, alerted(c), served());
    let named = verdict(&says(
        read(reset(HERE)),
        "SSL_read() failed (SSL: error:0A00045C:SSL routines::tlsv13 alert certificate required:SSL alert number 116)",
    ));
    assert_eq!((named.cause, named.confidence), (SELF, Proven));
    assert!(
        named.advice[0].contains("proxy_ssl_certificate"),
        "{:?}",
        named.advice
    );
    assert_eq!(judged(&read(reset(HERE))), (SELF, Inferred));
    assert_eq!(judged(&read(closed(HERE))), (SELF, Inferred));
    // The RST overtook it.
    let unread = Connection {
        first_received: None,
        unread: 24,
        ..alerted(reset(HERE))
    };
    let unread = verdict(&answered(502, unread, served()));
    assert_eq!((unread.cause, unread.confidence), (SELF, Inferred));
    assert!(!unread.summary.contains("header"), "{}", unread.summary);
    // nginx's own word: a close_notify.
    let notified = logged(read(closed(HERE)), "upstream prematurely closed connection");
    assert_eq!(judged(&notified), ("backend-closed-early", Proven));
}

#[test]
fn of_a_response_over_tls_no_bytes_are_counted() {
    let began = Connection {
        first_byte: Some(after(20 * MS)),
        ..alerted(closed(HERE))
    };
    let v = verdict(&logged(
        answered(502, began, served()),
        "upstream prematurely closed connection",
    ));
    assert_eq!(v.cause, "backend-closed-early");
    assert!(
        v.summary
            .ends_with("before nginx had a whole response header"),
        "{}",
        v.summary
    );
}

#[test]
fn a_slow_tls_shutdown_proves_no_early_close() {
    // The FIN comes so long after nginx's write, with a close_notify before it.
    let read = |fin: u64| {
        let c = Connection {
            reuses: 1,
            reused_at: Some(after(MS)),
            idle: Some(MS),
            last_sent: Some(after(2 * MS)),
            fin_received: Some(after((2 + fin) * MS)),
            end_read: None,
            last_received: Some(after((1 + fin) * MS)),
            closed: after((3 + fin) * MS),
            ..alerted(closed(HERE))
        };
        logged(
            answered(502, c, served()),
            "upstream prematurely closed connection",
        )
    };
    assert_eq!(judged(&read(60)), ("keepalive-race", Inferred));
    assert_eq!(judged(&read(300)), ("backend-closed-early", Inferred));
    let mut plain = read(300);
    if let Course::Connection(c) = &mut plain.attempts[0].course {
        (c.first_sent, c.first_received, c.last_received) = (Some(b'G'), None, None);
    }
    assert_eq!(judged(&plain), ("backend-closed-early", Proven));
}
