//! The backend answered.

use super::{connected::*, *};

/// The header began after 20 ms; nginx closed after 50 ms.
fn answering(status: u16) -> Connection {
    Connection {
        first_byte: Some(after(20 * MS)),
        last_received: Some(after(20 * MS)),
        first_received: Some(b'H'),
        status: Some(status),
        bytes_received: 5000,
        ..connected(HERE)
    }
}

#[test]
fn nginx_own_word_says_which_rule_the_answer_broke() {
    let case = |format: &str| logged(answered(502, answering(200), served()), format);
    for format in [
        "upstream sent too big header",
        "upstream sent invalid header: \"%*s\\x%02xd...\"",
        "upstream sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time",
        "upstream sent duplicate header line: \"%V: %V\", previous value: \"%V: %V\"",
        "upstream sent unsupported FastCGI protocol version: %d",
        "upstream sent too large http2 frame: %uz",
    ] {
        assert_eq!(
            told(&case(format)),
            ("response-rejected", Proven),
            "{format}"
        );
        assert_eq!(
            told(&lossy(case(format))),
            ("response-rejected", Inferred),
            "{format}"
        );
    }
    let big = verdict(&case("upstream sent too big header"));
    assert!(
        big.summary
            .ends_with("nginx refused the answer: it sent too big header"),
        "{}",
        big.summary
    );
    assert!(
        big.advice[0].starts_with("proxy_buffer_size 16k;"),
        "{:?}",
        big.advice
    );
    let header = verdict(&case(
        "upstream sent invalid \"Content-Length\" header: \"%V: %V\"",
    ));
    assert!(
        header
            .summary
            .ends_with("it sent invalid \"Content-Length\" header"),
        "{}",
        header.summary
    );
    // A FIN that came meanwhile is the answer's own end.
    let ended = Connection {
        fin_received: Some(after(21 * MS)),
        ..answering(200)
    };
    let ended = logged(
        answered(502, ended, served()),
        "upstream sent too big header",
    );
    assert_eq!(told(&ended), ("response-rejected", Proven));
}

#[test]
fn without_its_word_the_rule_is_out_of_sight() {
    let v = verdict(&answered(502, answering(200), served()));
    assert_eq!((v.cause, v.confidence), ("response-rejected", Inferred));
    assert!(v.summary.contains("after 5000 bytes"), "{}", v.summary);
    let reset = Connection {
        rst_received: Some(after(49 * MS)),
        ..answering(200)
    };
    assert_eq!(
        told(&answered(502, reset, served())),
        ("backend-reset", Inferred)
    );
}

#[test]
fn the_backends_own_502_is_passed_through() {
    let passed = ("passed-through", Proven);
    // With its own end, as a server without keep-alive makes it.
    let ended = Connection {
        fin_received: Some(after(40 * MS)),
        end_read: Some(after(40 * MS)),
        ..answering(502)
    };
    assert_eq!(told(&answered(502, answering(502), served())), passed);
    assert_eq!(told(&answered(502, ended, served())), passed);
    assert_eq!(told(&answered(504, answering(504), served())), passed);
    // Kept alive and still open: no record of its connection.
    let open = request(502, vec![attempt(Course::Succeeded, Facts::default())]);
    assert_eq!(told(&open), passed);
    // nginx's own word comes first.
    let refused = logged(
        answered(502, answering(502), served()),
        "upstream sent too big header",
    );
    assert_eq!(told(&refused), ("response-rejected", Proven));
}

#[test]
fn a_503_for_which_nginx_tried_the_next_is_masked() {
    let mut case = answered(200, answering(503), served());
    case.attempts
        .push(attempt(Course::Succeeded, Facts::default()));
    let v = verdict(&masked(case, 200));
    assert_eq!((v.cause, v.masked), ("passed-through", true));
    assert!(
        v.summary
            .contains("itself answered 503; nginx tried another"),
        "{}",
        v.summary
    );
}

#[test]
fn a_body_that_breaks_off_is_truncated() {
    let truncated = |c: Connection| masked(answered(200, c, served()), 200);
    let reset = Connection {
        rst_received: Some(after(49 * MS)),
        ..answering(200)
    };
    let ended = Connection {
        fin_received: Some(after(49 * MS)),
        end_read: Some(after(49 * MS)),
        ..answering(200)
    };
    let v = verdict(&truncated(reset));
    assert_eq!(
        (v.cause, v.confidence, v.masked),
        ("response-truncated", Proven, true)
    );
    assert!(
        v.summary.contains(
            "reset the connection in the body of its response; the client got a 200 cut short"
        ),
        "{}",
        v.summary
    );
    let closed = logged(
        truncated(ended.clone()),
        "upstream prematurely closed connection",
    );
    assert_eq!(told(&closed), ("response-truncated", Proven));
    assert_eq!(
        told(&truncated(ended.clone())),
        ("response-truncated", Inferred)
    );
    let timer = logged(truncated(answering(200)), "upstream timed out");
    assert_eq!(told(&timer), ("response-truncated", Proven));
    let died = verdict(&with_peer(truncated(ended), by_peer(None, Some(death(9)))));
    assert_eq!(
        (died.cause, died.confidence),
        ("response-truncated", Proven)
    );
    assert!(
        died.summary
            .starts_with("gunicorn (pid 4300), which served"),
        "{}",
        died.summary
    );
}

/// nginx made the error itself: nothing of the answer was passed on.
#[test]
fn an_error_of_nginx_s_own_is_no_answer_cut_short() {
    let mut case = answered(502, closed(HERE), served());
    case.masked = true;
    if let Course::Connection(c) = &mut case.attempts[0].course {
        c.first_byte = Some(after(20 * MS));
        c.bytes_received = 40;
        c.first_sent = Some(1);
    }
    let format = "upstream prematurely closed FastCGI request";
    let v = verdict(&logged(case, format));
    assert_eq!(v.cause, "response-rejected", "{}", v.summary);
}

#[test]
fn the_header_that_nginx_refused_is_named() {
    let mut case = answered(502, answering(200), served());
    let mut call = log_call("upstream sent duplicate header line: \"%V: %V\"", 0);
    call.text = Some("Content-Length".to_owned());
    case.log_calls.push(call);
    let v = verdict(&case);
    assert!(
        v.summary.ends_with("duplicate header line Content-Length"),
        "{}",
        v.summary
    );
    assert!(
        v.advice[0].starts_with("correct the header Content-Length"),
        "{:?}",
        v.advice
    );
}
