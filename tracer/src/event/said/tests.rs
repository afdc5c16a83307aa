//! The classifier against nginx's own formats, and against the text matches that it replaced.
//!
//! `formats.txt` has the formats of nginx 1.14 to 1.31 at level `error` and above, and the warnings
//! that begin with `upstream ` (src, without mail and the parts of other systems). It leaves out
//! those at `emerg` alone, which are about a configuration, and OpenSSL's errors, which have `%*s`.

use super::*;
use crate::event::{Time, Unread};

fn formats() -> impl Iterator<Item = &'static str> {
    include_str!("formats.txt").lines()
}

fn has(words: &str, parts: &[&str]) -> bool {
    parts.iter().any(|part| words.contains(part))
}

fn begins(words: &str, beginnings: &[&str]) -> bool {
    beginnings.iter().any(|begin| words.starts_with(begin))
}

const HARMLESS: [&str; 6] = [
    "no valid HTTP/1.0 header",
    "more data than specified",
    "data after",
    "trailer",
    "HTTP/1.0 response with early hints",
    "ignored",
];

fn breaks_http2(words: &str) -> bool {
    let breaks = [
        "upstream prematurely closed stream",
        "upstream rejected request with error",
        "upstream sent response body larger",
        "upstream sent goaway with error",
        "upstream sent frame for",
        "upstream sent data frame for",
        "upstream sent unexpected http2 frame",
        "upstream sent too large http2 frame",
        "upstream sent invalid trailer",
        "upstream sent trailer without",
    ];
    begins(words, &breaks)
}

fn is_of_storage(words: &str) -> bool {
    let calls = [
        "pwritev() \"",
        "pwrite() \"",
        "writev() \"",
        "pread() \"",
        "open() \"",
    ];
    begins(words, &calls) && has(words, &[" failed", "has written only"])
}

fn is_of_storage_or_folder(words: &str) -> bool {
    is_of_storage(words) || begins(words, &["mkdir() \"", "could not allocate node"])
}

fn is_refusal(words: &str) -> bool {
    words.starts_with("upstream sent") && !has(words, &HARMLESS)
}

/// OpenSSL's errors, as nginx hands them over and as its log has them.
const TEXTS: [&str; 2] = [
    "SSL_do_handshake() failed (SSL: error:0A00010B:SSL routines::wrong version number)",
    "SSL_read() failed (SSL: error:0A000412:SSL routines::sslv3 alert bad certificate)",
];

/// What was asked by text, and what is asked now.
type Question = (&'static str, fn(&str) -> bool, fn(Said) -> bool);

const QUESTIONS: [Question; 52] = [
    (
        "timed out",
        |f| f.contains("upstream timed out"),
        |s| s == Said::TimedOut,
    ),
    (
        "prematurely closed",
        |f| f.contains("prematurely closed"),
        Said::is_prematurely_closed,
    ),
    (
        "premature end",
        |f| f.starts_with("upstream prematurely closed"),
        Said::is_premature_end,
    ),
    (
        "FastCGI ended",
        |f| f.contains("upstream prematurely closed FastCGI"),
        |s| s == Said::PrematurelyClosedFastCgi,
    ),
    (
        "stream ended",
        |f| f.contains("prematurely closed stream"),
        |s| s == Said::PrematurelyClosedStream,
    ),
    (
        "rejected",
        |f| f.contains("upstream rejected request"),
        |s| s == Said::RejectedRequest,
    ),
    (
        "sent",
        |f| f.contains("upstream sent"),
        |s| matches!(s, Said::Sent(_)),
    ),
    (
        "fault of a response",
        |f| {
            has(
                f,
                &[
                    "upstream sent",
                    "upstream prematurely",
                    "upstream timed out",
                ],
            )
        },
        Said::is_fault_of_response,
    ),
    (
        "of a response",
        |f| f.starts_with("upstream "),
        Said::is_of_response,
    ),
    (
        "mentions an upstream",
        |f| has(f, &["upstream", "connect() ", "recv() ", "SSL_", "resolve"]),
        Said::mentions_upstream,
    ),
    (
        "breaks off",
        |f| {
            let ends = [
                "upstream prematurely closed",
                "upstream timed out",
                "recv() failed",
                "readv() failed",
            ];
            begins(f, &ends) || breaks_http2(f)
        },
        Said::breaks_off,
    ),
    ("breaks HTTP/2", breaks_http2, Said::breaks_http2),
    (
        "harmless",
        |f| f.contains("upstream sent") && has(f, &HARMLESS),
        Said::is_harmless,
    ),
    ("refusal", is_refusal, Said::is_refusal),
    ("storage", is_of_storage, Said::is_of_storage),
    (
        "storage or folder",
        is_of_storage_or_folder,
        Said::is_of_storage_or_folder,
    ),
    (
        "open",
        |f| is_of_storage(f) && f.starts_with("open("),
        |s| s == Said::OpenFailed,
    ),
    (
        "pread",
        |f| is_of_storage(f) && f.starts_with("pread("),
        |s| s == Said::FileReadFailed,
    ),
    (
        "mkdir",
        |f| is_of_storage_or_folder(f) && f.starts_with("mkdir("),
        |s| s == Said::MkdirFailed,
    ),
    (
        "no keys",
        |f| f.starts_with("could not allocate node"),
        |s| s == Said::KeysZoneFull,
    ),
    (
        "no live upstreams",
        |f| f.contains("no live upstreams"),
        |s| s == Said::NoLiveUpstreams,
    ),
    (
        "auth",
        |f| f.starts_with("auth request unexpected status"),
        |s| s == Said::AuthStatus,
    ),
    (
        "auth",
        |f| f.contains("auth request unexpected status"),
        |s| s == Said::AuthStatus,
    ),
    (
        "slice",
        |f| f.contains("in slice response"),
        Said::is_of_slice,
    ),
    (
        "slice's status",
        |f| f.starts_with("unexpected status code"),
        |s| s == Said::SliceStatus,
    ),
    (
        "page",
        |f| {
            let begin = [
                "%s \"%s\" failed",
                "directory index of",
                "access forbidden by rule",
            ];
            begins(f, &begin) || f.contains("is not a directory")
        },
        |s| s == Said::Page,
    ),
    (
        "certificate",
        |f| f.contains("SSL certificate"),
        Said::is_of_certificate,
    ),
    (
        "verify",
        |f| f.contains("SSL certificate verify error"),
        |s| s == Said::CertificateInvalid,
    ),
    (
        "match",
        |f| f.contains("SSL certificate does not match"),
        |s| s == Said::CertificateMismatch,
    ),
    (
        "handshake",
        |f| f.contains("in SSL handshake"),
        |s| s == Said::PeerClosedInHandshake,
    ),
    (
        "handshake",
        |f| f.contains("closed connection in SSL handshake"),
        |s| s == Said::PeerClosedInHandshake,
    ),
    (
        "rejected",
        |f| f.contains("handshake rejected"),
        |s| s == Said::HandshakeRejected,
    ),
    (
        "do_handshake",
        |f| f.contains("SSL_do_handshake() failed"),
        |s| s == Said::HandshakeFailed,
    ),
    (
        "SSL_read",
        |f| f.contains("SSL_read() failed"),
        |s| s == Said::SslReadFailed,
    ),
    (
        "limiting",
        |f| f.contains("limiting "),
        |s| s == Said::Limiting,
    ),
    (
        "no resolver",
        |f| f.contains("no resolver defined"),
        |s| s == Said::NoResolver,
    ),
    (
        "unresolved",
        |f| f.contains("could not be resolved"),
        |s| s == Said::Unresolved,
    ),
    (
        "no connections",
        |f| f.contains("worker_connections"),
        |s| s == Said::NoWorkerConnections,
    ),
    ("bind", |f| f.contains("bind("), |s| s == Said::BindFailed),
    (
        "bind",
        |f| f.starts_with("bind("),
        |s| s == Said::BindFailed,
    ),
    (
        "socket",
        |f| f.starts_with("socket() failed"),
        |s| s == Said::SocketFailed,
    ),
    (
        "writev",
        |f| f.contains("writev() failed"),
        |s| s == Said::WritevFailed,
    ),
    (
        "send",
        |f| f.contains("send() failed"),
        |s| s == Said::SendFailed,
    ),
    (
        "sendfile",
        |f| f.contains("sendfile() failed"),
        |s| s == Said::SendfileFailed,
    ),
    (
        "no header",
        |f| f.contains("no valid HTTP/1.0 header"),
        |s| s == Said::Sent(Sent::NoHttp1Header),
    ),
    (
        "goaway",
        |f| f.contains("sent goaway with error"),
        |s| s == Said::Sent(Sent::Goaway),
    ),
    (
        "larger",
        |f| f.contains("response body larger"),
        |s| s == Said::Sent(Sent::BodyTooLarge),
    ),
    (
        "too big",
        |f| f.contains("too big header"),
        |s| s == Said::Sent(Sent::TooBigHeader),
    ),
    // Asked of a refusal alone.
    (
        "chunked",
        |f| is_refusal(f) && f.contains("chunked"),
        |s| s == Said::Sent(Sent::Chunked),
    ),
    (
        "HTTP/2",
        |f| is_refusal(f) && f.contains("http2"),
        |s| matches!(s, Said::Sent(Sent::UnexpectedFrame | Sent::Http2)),
    ),
    (
        "FastCGI",
        |f| f.starts_with("upstream ") && f.contains("FastCGI"),
        |s| {
            matches!(
                s,
                Said::Sent(Sent::FastCgi) | Said::PrematurelyClosedFastCgi
            )
        },
    ),
    (
        "refused",
        |f| f.starts_with("upstream ") && has(f, &["rejected request", "goaway"]),
        |s| {
            matches!(
                s,
                Said::RejectedRequest | Said::Sent(Sent::Goaway | Sent::GoawayFrame)
            )
        },
    ),
];

#[test]
fn each_format_of_nginx_is_classified_as_its_text_was() {
    for format in formats().chain(TEXTS) {
        let said = Said::of(format);
        for (question, by_text, by_kind) in QUESTIONS {
            assert_eq!(
                by_kind(said),
                by_text(format),
                "{question}: {format}: {said:?}"
            );
        }
    }
}

#[test]
fn each_question_has_formats_that_it_fits() {
    for (question, by_text, _) in QUESTIONS {
        let mut all = formats().chain(TEXTS);
        assert!(all.any(by_text), "{question}");
    }
}

/// What follows a message in a line, by what nginx did.
const DOING: [&str; 4] = [
    "",
    " while connecting to upstream",
    " while reading response header from upstream",
    " while reading upstream",
];

#[test]
fn a_line_of_a_failed_attempt_is_known_as_its_text_was() {
    let begin = [
        "connect() ",
        "upstream timed out",
        "upstream prematurely closed",
        "upstream sent ",
        "upstream rejected",
        "recv() failed",
        "readv() failed",
        "send() failed",
        "writev() failed",
        "no live upstreams",
        "SSL_do_handshake() failed",
        "peer closed connection in SSL handshake",
        "upstream SSL certificate",
        "no resolver defined",
    ];
    for (format, doing) in formats()
        .chain(TEXTS)
        .flat_map(|format| DOING.map(|doing| (format, doing)))
    {
        let message = format!("{}{doing}", filled(format));
        let said = Said::of(&message);
        assert_eq!(
            said.is_failed_attempt(),
            begins(&message, &begin),
            "{message}"
        );
        assert_eq!(
            said == Said::Unresolved,
            message.contains("could not be resolved"),
            "{message}"
        );
        let at_once = message.starts_with("connect() to ");
        assert_eq!(said == Said::ConnectFailedAtOnce, at_once, "{message}");
        assert_eq!(said.is_refusal(), is_refusal(&message), "{message}");
        let tls = [
            "SSL_do_handshake() failed",
            "peer closed connection in SSL handshake",
            "upstream SSL certificate",
        ];
        let is_tls = matches!(said, Said::HandshakeFailed | Said::PeerClosedInHandshake);
        assert_eq!(
            is_tls || said.is_of_certificate(),
            begins(&message, &tls),
            "{message}"
        );
        let ends = [
            "upstream prematurely closed",
            "recv() failed",
            "upstream timed out",
        ];
        let is_end = matches!(said, Said::TimedOut | Said::RecvFailed) || said.is_premature_end();
        assert_eq!(is_end, begins(&message, &ends), "{message}");
    }
}

/// A format with arguments in it.
fn filled(format: &str) -> String {
    let mut message = format.replace("%V", "a.test").replace("%s", "/srv/a");
    for number in ["%ui", "%uz", "%ul", "%uO", "%O", "%z", "%i", "%d", "%l"] {
        message = message.replace(number, "7");
    }
    message
}

/// What a call keeps of its arguments, by the text matches of before.
fn kept(format: &str) -> (bool, bool, bool, bool) {
    let first = format.split('%').nth(1).unwrap_or_default();
    let (mut text, mut string, mut number, mut resolved) = (false, false, false, false);
    if begins(format, &["%*s", "no resolver defined"]) {
        text = true;
    } else if format.starts_with("upstream ") {
        number = begins(first, &["ui", "uz", "d"]);
        text = begins(first, &["V", "*s"]);
    } else if format.starts_with("%V could not be resolved") {
        resolved = true;
    } else if begins(
        format,
        &["auth request unexpected status", "unexpected status code"],
    ) {
        number = true;
    } else {
        string = first.starts_with('s');
    }
    (text, string, number, resolved)
}

#[test]
fn a_call_keeps_the_arguments_that_its_format_takes() {
    for format in formats() {
        let mut call = LogCall {
            at: Time(1),
            worker: 1,
            level: 4,
            errno: 0,
            connection: 0,
            request: None,
            stream: false,
            format: Format::default(),
            unread: None,
            text: None,
            number: None,
            resolved: None,
        };
        let unread = Unread {
            address: 0,
            text: Some("text".to_owned()),
            string: Some("string".to_owned()),
            state: 3,
            is_number: true,
        };
        call.read(format.to_owned(), unread);
        let is = |text: &str| call.text.as_deref() == Some(text);
        let found = (
            is("text"),
            is("string"),
            call.number.is_some(),
            call.resolved.is_some(),
        );
        assert_eq!(found, kept(format), "{format}");
        // A header's name is advised on.
        let by_text = is_refusal(format) && format.contains("header") && found.0;
        let by_kind = call.said() == Said::Sent(Sent::Header) && call.text.is_some();
        assert_eq!(by_kind, by_text, "{format}");
        let by_text = format.contains("with error %") && found.2;
        assert_eq!(call.http2_error().is_some(), by_text, "{format}");
        let json = serde_json::to_value(&call).unwrap();
        assert_eq!(json["format"], format);
        assert_eq!(serde_json::from_value::<LogCall>(json).unwrap(), call);
    }
}
