//! After connect, by the other protocols: FastCGI, uwsgi, SCGI and gRPC backends that close early,
//! reset, die, are silent, send what nginx refuses, or break off.

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::certificate::Certificate;
use tests::client::{Front, HOST};
use tests::expected::Expected;
use tests::service::{Fate, Service};
use tests::stage::{Fault, Load, Stage};

const PREMATURELY: &str = "upstream prematurely closed connection while reading response header";
const TIMED_OUT: &str =
    "upstream timed out (110: Connection timed out) while reading response header";
const TOGETHER: Load = Load {
    failing: 5,
    healthy: 5,
    concurrency: 20,
    front: Front::Http,
};

/// Each protocol's directive, `@` for the address, with a timer; and its backend's port.
const PROTOCOLS: [(&str, u16); 4] = [
    ("fastcgi_pass @; fastcgi_read_timeout 700ms;", 9001),
    ("uwsgi_pass @; uwsgi_read_timeout 700ms;", 9002),
    ("scgi_pass @; scgi_read_timeout 700ms;", 9003),
    ("grpc_pass grpc://@; grpc_read_timeout 700ms;", 9004),
];

/// One backend.
struct Conduct<'a> {
    /// See [`PROTOCOLS`].
    protocol: (&'static str, u16),
    words: Vec<&'a str>,
    expected: Expected,
}

fn check(conducts: &[Conduct<'_>], fate: Fate) -> Result<Vec<Value>> {
    let stage = Stage::new()?;
    let mut services = Vec::new();
    let mut faults = Vec::new();
    for conduct in conducts {
        let (pass, port) = conduct.protocol;
        let address = format!("127.0.0.1:{port}");
        let words: Vec<&str> = std::iter::once(address.as_str())
            .chain(conduct.words.iter().copied())
            .collect();
        services.push(Service::start_with(&stage.netns, &words, fate, |_| Ok(()))?);
        let location = pass.replace('@', &address);
        faults.push(Fault::location(location, conduct.expected.clone()));
    }
    stage.check_with(faults, TOGETHER)
}

/// The same conduct in each protocol.
fn each(words: &[&str], fate: Fate, expected: impl Fn(&str) -> Expected) -> Result<()> {
    let conducts = PROTOCOLS.map(|protocol| Conduct {
        protocol,
        words: words.to_vec(),
        expected: expected(&format!("127.0.0.1:{}", protocol.1)),
    });
    check(&conducts, fate).map(drop)
}

fn closed_early(upstream: &str) -> Expected {
    Expected::connected("backend-closed-early", upstream, PREMATURELY)
}

#[test]
fn a_fin_instead_of_an_answer() -> Result<()> {
    each(&["answer", ""], Fate::Lives, closed_early)
}

/// What nginx writes in reply to a server's settings may meet the closed socket.
fn within_header(upstream: &str) -> Expected {
    let mut expected = closed_early(upstream);
    if upstream.ends_with(":9004") {
        expected.or_cause = vec!["backend-reset"];
        expected.logged = vec![format!("{PREMATURELY} | (104: | (32: ")];
        expected = expected
            .or_errno(Some("EPIPE"))
            .or_errno(Some("ECONNRESET"));
    }
    expected
}

/// The record's header, the status line, the server's settings had come.
#[test]
fn a_fin_within_the_header() -> Result<()> {
    let begun = [
        r"\x01\x06\x00\x01\x00",
        "HTTP/1.1 200 OK\r\nContent-Len",
        "Status: 200 OK\r\nContent-Len",
        SETTINGS,
    ];
    let conducts: Vec<Conduct<'_>> = PROTOCOLS
        .iter()
        .zip(begun)
        .map(|(&protocol, text)| Conduct {
            protocol,
            words: vec!["answer", text],
            expected: within_header(&format!("127.0.0.1:{}", protocol.1)),
        })
        .collect();
    check(&conducts, Fate::Lives).map(drop)
}

#[test]
fn a_reset_that_the_backend_means() -> Result<()> {
    each(&["reset", ""], Fate::Lives, |upstream| {
        Expected::reset("backend-reset", upstream)
    })
}

#[test]
fn a_close_with_the_request_unread() -> Result<()> {
    each(&["unread"], Fate::Lives, |upstream| {
        Expected::reset("backend-reset", upstream).says("unread")
    })
}

fn died(upstream: &str) -> Expected {
    Expected::connected("backend-died", upstream, PREMATURELY).says("backend")
}

#[test]
fn a_worker_that_crashes() -> Result<()> {
    each(&["segv", "--prefork", "2"], Fate::Lives, |upstream| {
        died(upstream).says("SIGSEGV")
    })
}

#[test]
fn a_worker_that_exits() -> Result<()> {
    each(&["exit", "--prefork", "2"], Fate::Lives, |upstream| {
        died(upstream).says("code 1")
    })
}

#[test]
fn a_worker_that_is_killed() -> Result<()> {
    let sender = std::process::id().to_string();
    let fate = Fate::Signalled(libc::SIGKILL);
    each(&["wait", "--prefork", "2"], fate, |upstream| {
        died(upstream).says("SIGKILL").says(sender.clone())
    })
}

fn timed_out(cause: &'static str, upstream: &str) -> Expected {
    let expected = Expected::timeout(cause, upstream).or_errno(None);
    Expected {
        logged: vec![TIMED_OUT.into()],
        ..expected
    }
}

#[test]
fn silence() -> Result<()> {
    each(&["hold", ""], Fate::Lives, |upstream| {
        timed_out("backend-slow", upstream)
    })
}

#[test]
fn a_connection_that_is_never_accepted() -> Result<()> {
    each(&["never-accept"], Fate::Lives, |upstream| {
        timed_out("backend-not-accepting", upstream)
    })
}

const FASTCGI: &str = "fastcgi_pass @;";
const UWSGI: &str = "uwsgi_pass @;";
const SCGI: &str = "scgi_pass @;";
const GRPC: &str = "grpc_pass grpc://@;";

/// Answers by their protocol's directive, each with what nginx logs and the verdict says.
fn answers(mode: &str, answers: &[(&'static str, &str, Expected)]) -> Result<()> {
    verdicts_on(mode, answers).map(drop)
}

fn verdicts_on(mode: &str, answers: &[(&'static str, &str, Expected)]) -> Result<Vec<Value>> {
    let conducts: Vec<Conduct<'_>> = answers
        .iter()
        .zip(9001..)
        .map(|((pass, text, expected), port)| {
            let mut expected = expected.clone();
            expected.upstream = Some(format!("127.0.0.1:{port}"));
            Conduct {
                protocol: (pass, port),
                words: vec![mode, text],
                expected,
            }
        })
        .collect();
    check(&conducts, Fate::Lives)
}

fn rejected(logged: &str, says: &str) -> Expected {
    Expected::connected("response-rejected", "", logged).says(says)
}

/// A FastCGI record of the answer, as the program `backend` takes it: `\xHH` a byte.
fn record(kind: u8, content: &str) -> String {
    let [high, low] = (content.len() as u16).to_be_bytes();
    format!(r"\x01\x{kind:02x}\x00\x01\x{high:02x}\x{low:02x}\x00\x00{content}")
}

/// The record that ends a request.
fn end_of_request() -> String {
    format!(r"\x01\x03\x00\x01\x00\x08\x00\x00{}", r"\x00".repeat(8))
}

const STDOUT: u8 = 6;
const STDERR: u8 = 7;

#[test]
fn fastcgi_answers_that_nginx_refuses() -> Result<()> {
    let big = format!("Status: 200\r\nX-Big: {}\r\n\r\nok", "x".repeat(20_000));
    answers(
        "answer",
        &[
            (
                FASTCGI,
                "HTTP/1.1 200 OK\r\n\r\nhttp",
                rejected(
                    "upstream sent unsupported FastCGI protocol version: 72",
                    "proxy_pass instead of fastcgi_pass",
                ),
            ),
            (
                FASTCGI,
                &record(9, "what"),
                rejected(
                    "upstream sent invalid FastCGI record type: 9",
                    "record type",
                ),
            ),
            (
                FASTCGI,
                &end_of_request(),
                rejected(
                    "upstream sent unexpected FastCGI record: 3",
                    "FastCGI record",
                ),
            ),
            (
                FASTCGI,
                &record(STDOUT, &big),
                rejected("upstream sent too big header", "fastcgi_buffer_size"),
            ),
            (
                FASTCGI,
                &record(STDOUT, "Status: many\r\n\r\nok"),
                rejected("upstream sent invalid status", "invalid status"),
            ),
            (
                FASTCGI,
                &record(STDOUT, ""),
                rejected(
                    "upstream prematurely closed FastCGI stdout",
                    "FastCGI stdout",
                ),
            ),
        ],
    )
}

#[test]
fn uwsgi_and_scgi_answers_that_nginx_refuses() -> Result<()> {
    let big = format!("HTTP/1.1 200 OK\r\nX-Big: {}\r\n\r\nok", "x".repeat(20_000));
    answers(
        "answer",
        &[
            (
                UWSGI,
                &big,
                rejected("upstream sent too big header", "uwsgi_buffer_size"),
            ),
            (
                SCGI,
                &big,
                rejected("upstream sent too big header", "scgi_buffer_size"),
            ),
            (
                UWSGI,
                "Status: many\r\n\r\n",
                rejected("upstream sent invalid status", "invalid status"),
            ),
            (
                SCGI,
                "Status: many\r\n\r\n",
                rejected("upstream sent invalid status", "invalid status"),
            ),
            (
                UWSGI,
                "HTTP/1.1 200 OK\r\nX-Nul: a\\0b\r\n\r\n",
                rejected("upstream sent invalid header", "invalid header"),
            ),
        ],
    )
}

/// An HTTP/2 frame: empty SETTINGS.
const SETTINGS: &str = r"\x00\x00\x00\x04\x00\x00\x00\x00\x00";
/// RST_STREAM of the first stream: ENHANCE_YOUR_CALM.
const REFUSED: &str = r"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x0b";
/// GOAWAY: no stream was looked at, INTERNAL_ERROR.
const GOAWAY: &str = r"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02";
/// The same without an error, and with ENHANCE_YOUR_CALM.
const GOODBYE: &str = r"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
const CALM: &str = r"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0b";
/// HEADERS of the first stream: END_HEADERS, `:status: 200` by its index.
const HEADERS: &str = r"\x00\x00\x01\x01\x04\x00\x00\x00\x01\x88";
/// HEADERS with an index that no table has.
const BAD_HEADERS: &str = r"\x00\x00\x01\x01\x04\x00\x00\x00\x01\xff";
/// HEADERS with the name `X-Bad`, which HTTP/2 does not allow.
const UPPER_CASE: &str = r"\x00\x00\x0a\x01\x04\x00\x00\x00\x01\x88\x00\x05X-Bad\x01v";
#[test]
fn grpc_answers_that_nginx_refuses() -> Result<()> {
    let refused = refused_by_grpc();
    let refused: Vec<_> = refused
        .iter()
        .map(|(pass, text, expected)| (*pass, text.as_str(), expected.clone()))
        .collect();
    answers("hold", &refused)
}

#[test]
fn grpc_answers_that_nginx_refuses_for_clients_of_http2() -> Result<()> {
    let mut stage = Stage::new()?;
    let certificate = Certificate::new(HOST)?;
    stage.config.server = certificate.fronts();
    let mut services = Vec::new();
    let mut faults = Vec::new();
    for ((pass, text, mut expected), port) in refused_by_grpc().into_iter().zip(9001..) {
        let address = format!("127.0.0.1:{port}");
        services.push(Service::start(&stage.netns, &[&address, "hold", &text])?);
        expected.upstream = Some(address.clone());
        faults.push(Fault::location(pass.replace('@', &address), expected));
    }
    let load = Load {
        front: Front::Http2,
        ..TOGETHER
    };
    stage.check_with(faults, load).map(drop)
}

fn refused_by_grpc() -> Vec<(&'static str, String, Expected)> {
    let framed = |frame: &str| format!("{SETTINGS}{frame}");
    let goodbye = Expected::connected(
        "backend-closed-early",
        "",
        "upstream sent goaway with error 0",
    );
    vec![
        (
            GRPC,
            "HTTP/1.1 200 OK\r\n\r\nhttp".to_owned(),
            rejected(
                "upstream sent too large http2 frame",
                "proxy_pass instead of grpc_pass",
            ),
        ),
        (
            GRPC,
            framed(REFUSED),
            rejected(
                "upstream rejected request with error 11",
                "rejected request with error 11 (ENHANCE_YOUR_CALM)",
            ),
        ),
        (
            GRPC,
            framed(GOAWAY),
            rejected(
                "upstream sent goaway with error 2",
                "goaway with error 2 (INTERNAL_ERROR)",
            ),
        ),
        (
            GRPC,
            framed(CALM),
            rejected("upstream sent goaway with error 11", "keepalive_requests"),
        ),
        // A new connection is no race.
        (GRPC, framed(GOODBYE), goodbye.says("NO_ERROR")),
        (
            GRPC,
            framed(BAD_HEADERS),
            rejected(
                "upstream sent invalid http2 table index",
                "http2 table index 127",
            )
            .then_logged("upstream sent invalid header"),
        ),
        (
            GRPC,
            framed(UPPER_CASE),
            rejected(
                "upstream sent invalid header: \"X-Bad: v\"",
                "correct the header X-Bad",
            )
            .then_logged("upstream sent invalid header"),
        ),
    ]
}

fn truncated(logged: &str) -> Expected {
    Expected::connected("response-truncated", "", logged).status(200)
}

/// Of FastCGI nginx 1.22 takes the FIN for the end, and the client gets what there is: nobody knows
/// of it.
#[test]
fn a_body_cut_short_by_fin() -> Result<()> {
    let body = "Status: 200\r\nContent-Length: 5000\r\n\r\nshort";
    let logged = "upstream prematurely closed connection while reading upstream";
    let verdicts = verdicts_on(
        "answer",
        &[
            (UWSGI, body, truncated(logged)),
            (SCGI, body, truncated(logged)),
            (
                GRPC,
                &format!("{SETTINGS}{HEADERS}"),
                // What nginx writes in reply to the settings may meet the closed socket; a RST says
                // nothing of the length.
                truncated("upstream prematurely closed connection while | (104: | (32: ")
                    .at_best_proven()
                    .or_errno(Some("ECONNRESET"))
                    .or_errno(Some("EPIPE")),
            ),
        ],
    )?;
    let by_fin = verdicts.iter().filter(|verdict| verdict["errno"].is_null());
    for verdict in by_fin {
        ensure!(verdict["confidence"] == "proven", "by FIN: {verdict}");
    }
    Ok(())
}

#[test]
fn a_body_cut_short_by_rst() -> Result<()> {
    let body = "Status: 200\r\nContent-Length: 5000\r\n\r\nshort";
    // What length these announce is not read: nginx logs the failed read also after a whole
    // response.
    let reset = || {
        let expected = Expected {
            errno: Some("ECONNRESET"),
            ..truncated("(104: Connection reset by peer) while reading upstream").or_errno(None)
        };
        expected.exactly_inferred()
    };
    answers(
        "reset",
        &[
            (FASTCGI, &record(STDOUT, body), reset()),
            (UWSGI, body, reset()),
            (SCGI, body, reset()),
        ],
    )
}

/// The end of a FastCGI request comes before the announced body's, all in one read: nginx's log
/// names the header still.
#[test]
fn a_fastcgi_request_that_ends_before_its_body() -> Result<()> {
    let complete = format!(
        "{}{}",
        record(STDOUT, "Status: 200\r\nContent-Length: 5000\r\n\r\nshort"),
        end_of_request()
    );
    let expected = || {
        rejected(
            "upstream prematurely closed FastCGI request",
            "prematurely closed FastCGI request; the client got a 200 cut short",
        )
        .status(200)
    };
    answers(
        "answer",
        &[
            (FASTCGI, &complete, expected()),
            (
                "fastcgi_pass @; fastcgi_buffering off;",
                &complete,
                expected(),
            ),
        ],
    )
}

/// The program's own status: of a gRPC backend it is compressed, and not seen.
#[test]
fn a_status_of_the_backends_own() -> Result<()> {
    let own = || Expected::connected("passed-through", "", "").unlogged();
    let text = "Status: 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nown";
    let complete = record(STDOUT, text) + &end_of_request();
    let late = text.replace("502", "504");
    answers(
        "answer",
        &[
            (FASTCGI, &complete, own()),
            (UWSGI, text, own()),
            (SCGI, text, own()),
            (SCGI, &late, own().status(504)),
            (UWSGI, &text.replace("Status:", "HTTP/1.1"), own()),
        ],
    )
}

/// Words on FastCGI's error stream are the program's, and no failure.
#[test]
fn words_of_the_program_are_no_failure() -> Result<()> {
    let text = "Status: 200\r\nContent-Length: 2\r\n\r\nok";
    let complete = record(STDERR, "PHP Warning: upstream prematurely closed")
        + &record(STDOUT, text)
        + &end_of_request();
    let expected = Expected::silence(200, &["FastCGI sent in stderr"]);
    answers("answer", &[(FASTCGI, &complete, expected)])
}
