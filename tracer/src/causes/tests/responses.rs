//! The backend answered.

use super::{connected::*, *};
use crate::event::{
    Body,
    fact::{FolderView, Room},
};

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
            judged(&case(format)),
            ("response-rejected", Proven),
            "{format}"
        );
        assert_eq!(
            judged(&lossy(case(format))),
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
    assert_eq!(judged(&ended), ("response-rejected", Proven));
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
        judged(&answered(502, reset, served())),
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
    assert_eq!(judged(&answered(502, answering(502), served())), passed);
    assert_eq!(judged(&answered(502, ended, served())), passed);
    assert_eq!(judged(&answered(504, answering(504), served())), passed);
    // Kept alive and still open: no record of its connection.
    let open = request(502, vec![attempt(Course::Succeeded, Facts::default())]);
    assert_eq!(judged(&open), passed);
    // nginx's own word comes first.
    let refused = logged(
        answered(502, answering(502), served()),
        "upstream sent too big header",
    );
    assert_eq!(judged(&refused), ("response-rejected", Proven));
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
    let truncated = |c: Connection| cut_short(answered(200, c, served()), 200);
    let reset = Connection {
        rst_received: Some(after(49 * MS)),
        ..answering(200)
    };
    let ended = Connection {
        fin_received: Some(after(49 * MS)),
        end_read: Some(after(49 * MS)),
        ..answering(200)
    };
    let v = verdict(&truncated(reset.clone()));
    assert_eq!(
        (v.cause, v.confidence, v.masked),
        ("response-truncated", Inferred, false)
    );
    // It fell short of its length, as the kernel side saw.
    let short = Connection {
        broke_off: true,
        ..reset.clone()
    };
    assert_eq!(
        judged(&truncated(short.clone())),
        ("response-truncated", Proven)
    );
    for (length, says) in [
        (Some(5000), "a 200 cut short at 5 of 5000 bytes"),
        (None, "a 200 cut short after 5 bytes of an unknown length"),
    ] {
        let counted = Connection {
            body: Some(Body { read: 5, length }),
            ..short.clone()
        };
        let v = verdict(&truncated(counted));
        assert!(v.summary.contains(says), "{}", v.summary);
    }
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
    assert_eq!(judged(&closed), ("response-truncated", Proven));
    assert_eq!(
        judged(&truncated(ended.clone())),
        ("response-truncated", Inferred)
    );
    let timer = logged(truncated(answering(200)), "upstream timed out");
    assert_eq!(judged(&timer), ("response-truncated", Proven));
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

#[test]
fn a_broken_body_is_nginx_word_on_the_protocol() {
    let format = "upstream sent invalid chunked response";
    let v = verdict(&logged(
        cut_short(answered(200, answering(200), served()), 200),
        format,
    ));
    assert_eq!(
        (v.cause, v.confidence, v.masked, v.status),
        ("response-rejected", Proven, false, Some(200))
    );
    assert!(
        v.summary
            .ends_with("it sent invalid chunked response; the client got a 200 cut short"),
        "{}",
        v.summary
    );
}

#[test]
fn what_nginx_cannot_store_is_not_the_backends_fault() {
    let stored = |case: Case, format: &str, errno: u32| {
        let mut case = logged(case, format);
        if let Some(call) = case.log_calls.last_mut() {
            call.errno = errno;
            call.text = Some("/var/lib/nginx/proxy/0000000001".to_owned());
        }
        case
    };
    let body = || cut_short(answered(200, answering(200), served()), 200);
    let mut full = stored(body(), "pwritev() \"%s\" failed", 28);
    full.host.folder = Some(FolderView {
        room: Some(Room {
            free: 0,
            size: 65_536,
            ..Room::default()
        }),
        ..FolderView::default()
    });
    let v = verdict(&full);
    assert_eq!(
        (v.cause, v.confidence, v.status),
        ("proxy-storage", Proven, Some(200))
    );
    assert!(v.summary.contains("0000000001: ENOSPC"), "{}", v.summary);
    assert!(
        fact(&v, "space").contains("0 bytes of 65536 bytes free"),
        "{v:?}"
    );
    // The request's own body.
    let mut asked = request(500, Vec::new());
    assert_eq!(judge(&asked), None);
    asked = stored(asked, "open() \"%s\" failed", 13);
    assert_eq!(judged(&asked), ("proxy-storage", Proven));
    let zone = logged(request(500, Vec::new()), "could not allocate node%s");
    assert_eq!(judged(&zone), ("proxy-storage", Inferred));
    // A static file has another format, and a retry goes on nevertheless.
    let page = stored(request(500, Vec::new()), "%s \"%s\" failed", 13);
    assert_eq!(judge(&page), None);
}

#[test]
fn an_answer_that_nginx_could_not_read_is_early() {
    let early = Connection {
        first_byte: None,
        last_received: None,
        bytes_sent: 227_353,
        bytes_received: 118,
        first_sent: Some(b'P'),
        fin_received: Some(after(21 * MS)),
        transfer_error: Some((32, after(22 * MS))),
        ..answering(413)
    };
    let unread = Connection {
        status: None,
        first_received: None,
        ..early.clone()
    };
    let v = verdict(&answered(502, unread.clone(), served()));
    assert_eq!((v.cause, v.confidence), ("early-response", Proven));
    assert!(
        v.summary
            .contains("had answered (118 bytes, which nginx did not read)"),
        "{}",
        v.summary
    );
    // Without its hook, what nginx read of the answer is not known.
    let blind = without(answered(502, unread.clone(), served()), "received");
    assert_eq!(judged(&blind), ("early-response", Inferred));
    // What came over TLS may be its own; a process that died did not answer early.
    let tls = Connection {
        first_sent: Some(0x16),
        ..unread.clone()
    };
    assert_ne!(judged(&answered(502, tls, served())).0, "early-response");
    let unread = Connection {
        fin_received: Some(after(49 * MS)),
        transfer_error: Some((32, after(49 * MS))),
        ..unread
    };
    let died = with_peer(
        answered(502, unread, served()),
        by_peer(None, Some(death(9))),
    );
    assert_eq!(judged(&died).0, "backend-died");
}

#[test]
fn a_session_that_nginx_logs_is_told_as_one() {
    let reset = Connection {
        rst_received: Some(after(49 * MS)),
        ..answering(101)
    };
    let v = verdict(&logged(
        cut_short(answered(101, reset, served()), 101),
        "recv() failed",
    ));
    assert_eq!((v.cause, v.confidence), ("session-broken", Proven));
    assert!(
        v.summary.contains("reset the websocket after"),
        "{}",
        v.summary
    );
    let idle = verdict(&logged(
        cut_short(answered(101, answering(101), served()), 101),
        "upstream timed out",
    ));
    assert!(
        idle.summary.contains("nothing was transferred for"),
        "{}",
        idle.summary
    );
}

#[test]
fn a_page_that_fails_too_hides_nothing() {
    let mut case = one(no_socket("127.0.0.1:3000"), local(true));
    case.client_status = Some(404);
    assert!(verdict(&case).masked);
    case.log_calls.push(LogCall {
        at: case.time.plus(1000),
        ..log_call("%s \"%s\" failed", 2)
    });
    let v = verdict(&case);
    assert_eq!(
        (v.cause, v.masked, v.status),
        ("no-listener", false, Some(404))
    );
    assert!(
        v.summary.contains("the error page for 502 failed too"),
        "{}",
        v.summary
    );
}

#[test]
fn a_slice_that_fails_takes_the_response_with_it() {
    let mut case = one(no_socket("127.0.0.1:3000"), local(true));
    case.client_status = Some(200);
    case.cut_short = true;
    case.log_calls.push(LogCall {
        at: case.time.plus(1000),
        ..log_call("unexpected status code %ui in slice response", 0)
    });
    let v = verdict(&case);
    assert_eq!(
        (v.cause, v.masked, v.status),
        ("no-listener", false, Some(200))
    );
    assert!(v.summary.contains("a 200 cut short"), "{}", v.summary);
}

#[test]
fn the_answer_of_auth_request_belongs_to_its_request() {
    let mut case = request(500, Vec::new());
    let mut call = log_call("auth request unexpected status: %ui", 0);
    call.number = Some(302);
    case.log_calls.push(call);
    let v = verdict(&case);
    assert_eq!(
        (v.cause, v.confidence, v.status),
        ("response-rejected", Proven, Some(500))
    );
    assert!(v.summary.contains("answered 302"), "{}", v.summary);
}
