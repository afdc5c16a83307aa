//! nginx's error-log messages and the tests that meet each of them with a real fault: every message
//! that has to do with an upstream is in this table.

/// The message's words, the file of tests that produces them, what shows that it does.
///
/// `Site::prove` compares every request's log with what its fault has to log, so a text in a
/// test's file is one that nginx wrote. Errnos are named there by `Expected::new`.
const MET: &[(&str, &str, &[&str])] = &[
    (
        "connect() failed (111 while connecting",
        CONNECT_REFUSED,
        &["no-listener", "firewall-reject"],
    ),
    (
        "connect() failed (113 while connecting",
        UNREACHABLE,
        &["EHOSTUNREACH"],
    ),
    (
        "connect() failed (110 while connecting",
        TIMEOUTS,
        &["the_kernel_gives_up_first"],
    ),
    ("connect() to ADDR failed (101", ROUTES, &["ENETUNREACH"]),
    ("connect() to ADDR failed (113", ROUTES, &["EHOSTUNREACH"]),
    ("connect() to ADDR failed (13", ROUTES, &["EACCES"]),
    ("connect() to ADDR failed (22", ROUTES, &["EINVAL"]),
    ("connect() to ADDR failed (99", LIMITS, &["ports-exhausted"]),
    ("connect() to unix: failed (2", UNIX, &["ENOENT"]),
    ("connect() to unix: failed (13", UNIX, &["EACCES"]),
    ("connect() to unix: failed (111", UNIX, &["ECONNREFUSED"]),
    ("connect() to unix: failed (11", QUEUES, &["EAGAIN"]),
    (
        "connect() failed (104 on a kept-alive connection",
        KEEPALIVE,
        &["connect() failed (104: "],
    ),
    ("bind(ADDR) failed (99", LIMITS, &["bind-failed"]),
    ("socket() failed (24", LIMITS, &["EMFILE"]),
    (
        "worker_connections are not enough",
        LIMITS,
        &["worker_connections are not enough"],
    ),
    (
        "upstream timed out while connecting",
        TIMEOUTS,
        &["Expected::timeout"],
    ),
    (
        "upstream timed out while SSL handshaking",
        TLS,
        &["upstream timed out (110: Connection timed out) while SSL handshaking"],
    ),
    (
        "upstream timed out while sending request",
        STALLS,
        &["upstream timed out (110: Connection timed out) while sending request"],
    ),
    (
        "upstream timed out while reading response header",
        STALLS,
        &["upstream timed out (110: Connection timed out) while reading response header"],
    ),
    (
        "upstream timed out while reading upstream",
        RESPONSES,
        &["upstream timed out (110: Connection timed out) while reading upstream"],
    ),
    (
        "no live upstreams",
        NO_LIVE,
        &["no live upstreams while connecting to upstream"],
    ),
    (
        "upstream prematurely closed … response header",
        CLOSES,
        &["upstream prematurely closed connection while reading response header"],
    ),
    (
        "upstream prematurely closed … on a kept-alive connection",
        KEEPALIVE,
        &["upstream prematurely closed connection while reading response header"],
    ),
    (
        "upstream prematurely closed … reading upstream",
        RESPONSES,
        &["upstream prematurely closed connection while reading upstream"],
    ),
    ("recv() failed (104", CLOSES, &["recv() failed (104: "]),
    (
        "recv() or readv() failed (104 while reading upstream",
        RESPONSES,
        &["(104: Connection reset by peer) while reading upstream"],
    ),
    (
        "writev() failed (104 or (32",
        CLOSES,
        &["writev() failed ("],
    ),
    (
        "sendfile() failed (104 or (32",
        CLOSES,
        &["sendfile() failed ("],
    ),
    (
        "upstream sent too big header",
        RESPONSES,
        &["upstream sent too big header"],
    ),
    (
        "upstream sent invalid header",
        RESPONSES,
        &["upstream sent invalid header"],
    ),
    (
        "upstream sent invalid status",
        RESPONSES,
        &["upstream sent invalid status"],
    ),
    (
        "upstream sent unsupported FastCGI protocol version",
        RESPONSES,
        &["upstream sent unsupported FastCGI protocol version"],
    ),
    (
        "upstream sent invalid FastCGI record type",
        PROTOCOLS,
        &["upstream sent invalid FastCGI record type: 9"],
    ),
    (
        "upstream prematurely closed FastCGI stdout",
        PROTOCOLS,
        &["upstream prematurely closed FastCGI stdout"],
    ),
    (
        "FastCGI sent in stderr, which is no failure",
        PROTOCOLS,
        &["FastCGI sent in stderr", "Expected::silence(200"],
    ),
    (
        "upstream sent too large http2 frame",
        PROTOCOLS,
        &["upstream sent too large http2 frame"],
    ),
    (
        "upstream sent invalid http2 table index",
        PROTOCOLS,
        &["upstream sent invalid http2 table index"],
    ),
    (
        "upstream rejected request with error",
        PROTOCOLS,
        &["upstream rejected request with error 11"],
    ),
    (
        "upstream sent goaway with error",
        PROTOCOLS,
        &["upstream sent goaway with error 2"],
    ),
    (
        "no line at all: the upstream's own 502 or 504",
        PROTOCOLS,
        &["\"passed-through\"", ".unlogged()"],
    ),
    (
        "auth request unexpected status",
        MASKED,
        &["auth request unexpected status: 502"],
    ),
    (
        "Content-Length and Transfer-Encoding at the same time",
        VERSIONS,
        &["\\\"Content-Length\\\" and \\\"Transfer-Encoding\\\" headers at the same time"],
    ),
    (
        "upstream sent no valid HTTP/1.0 header",
        RESPONSES,
        &["upstream sent no valid HTTP/1.0 header"],
    ),
    (
        "SSL_do_handshake() failed",
        TLS,
        &["SSL_do_handshake() failed"],
    ),
    (
        "SSL_do_handshake() failed (104",
        TLS,
        &["(104: Connection reset by peer) while SSL handshaking"],
    ),
    (
        "peer closed connection in SSL handshake",
        TLS,
        &["peer closed connection in SSL handshake"],
    ),
    (
        "upstream SSL certificate verify error",
        TLS,
        &["upstream SSL certificate verify error"],
    ),
    (
        "upstream SSL certificate does not match",
        TLS,
        &["upstream SSL certificate does not match"],
    ),
    // nginx asks on after a FORMERR until its own timer: (1 is never logged for one.
    (
        "could not be resolved (1, which is 110",
        NAMES,
        &["(\"formerr\", TIMEOUT, \"FORMERR\")"],
    ),
    ("could not be resolved (2", NAMES, &["2: Server failure)"]),
    ("could not be resolved (3", NAMES, &["3: Host not found)"]),
    ("could not be resolved (4", NAMES, &["4: Unimplemented)"]),
    (
        "could not be resolved (5",
        NAMES,
        &["5: Operation refused)"],
    ),
    (
        "could not be resolved (110",
        NAMES,
        &["110: Operation timed out)"],
    ),
    (
        "no resolver defined to resolve",
        NAMES,
        &["no resolver defined to resolve"],
    ),
    (
        "client prematurely closed connection",
        ABORTS,
        &["epoll_wait() reported that client prematurely closed connection"],
    ),
];

const ABORTS: &str = include_str!("client_aborts.rs");
const CLOSES: &str = include_str!("backend_closes.rs");
const CONNECT_REFUSED: &str = include_str!("connect_refused.rs");
const KEEPALIVE: &str = include_str!("keepalive.rs");
const LIMITS: &str = include_str!("limits.rs");
const MASKED: &str = include_str!("masked.rs");
const NAMES: &str = include_str!("names.rs");
const NO_LIVE: &str = include_str!("no_live_upstreams.rs");
const PROTOCOLS: &str = include_str!("protocols.rs");
const QUEUES: &str = include_str!("queues.rs");
const RESPONSES: &str = include_str!("responses.rs");
const ROUTES: &str = include_str!("routes.rs");
const STALLS: &str = include_str!("backend_stalls.rs");
const TIMEOUTS: &str = include_str!("timeouts.rs");
const TLS: &str = include_str!("tls_upstream.rs");
const UNIX: &str = include_str!("unix_sockets.rs");
const UNREACHABLE: &str = include_str!("unreachable.rs");
const VERSIONS: &str = include_str!("versions.rs");

#[test]
fn every_message_is_met_by_the_test_that_the_table_names() {
    for (message, file, texts) in MET {
        for text in *texts {
            // A text too long for a line is split there.
            assert!(file.contains(text), "{message}: its test has no {text:?}");
        }
    }
}
