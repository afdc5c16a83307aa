//! The backend answered: nginx refuses the answer, cuts it where it broke off, or passes its error
//! on.

use anyhow::Result;
use tests::client::Front;
use tests::expected::Expected;
use tests::service::Service;
use tests::stage::{Fault, Load, Stage};

const HEAD: &str = "HTTP/1.1 200 OK\r\n";

/// The texts of backends on 9001 and up, each sent by `mode`, before an nginx with these
/// directives.
fn check(mode: &str, pass: &str, answers: Vec<(String, Expected)>) -> Result<()> {
    let stage = Stage::new()?;
    let mut services = Vec::new();
    let mut faults = Vec::new();
    for (text, expected) in answers {
        let address = expected.upstream.clone().unwrap_or_default();
        services.push(Service::start(&stage.netns, &[&address, mode, &text])?);
        faults.push(Fault::location(pass.replace('@', &address), expected));
    }
    stage.check(faults).map(drop)
}

fn rejected(upstream: &str, logged: &str) -> Expected {
    // The rule's words are nginx's own: the verdict tells them.
    let rule = logged.split(" | ").next().unwrap_or_default();
    let rule = rule.trim_start_matches("upstream sent ");
    Expected::connected("response-rejected", upstream, logged).says(rule)
}

#[test]
fn headers_that_nginx_refuses() -> Result<()> {
    let big = format!("{HEAD}X-Big: {}\r\n\r\nok", "x".repeat(20_000));
    check(
        "answer",
        "proxy_pass http://@;",
        vec![
            (
                big,
                rejected("127.0.0.1:9001", "upstream sent too big header"),
            ),
            (
                format!("{HEAD}X-Nul: a\\0b\r\n\r\nok"),
                rejected("127.0.0.1:9002", "upstream sent invalid header"),
            ),
            (
                format!("{HEAD}: no name\r\n\r\nok"),
                rejected("[::1]:9001", "upstream sent invalid header"),
            ),
        ],
    )
}

#[test]
fn other_protocols_have_rules_of_their_own() -> Result<()> {
    // What comes first is never HTTP's empty line: the backend answers whatever it reads.
    check(
        "hello",
        "fastcgi_pass @;",
        vec![(
            format!("{HEAD}\r\nhttp"),
            rejected(
                "127.0.0.1:9001",
                "upstream sent unsupported FastCGI protocol version",
            ),
        )],
    )?;
    check(
        "hello",
        "grpc_pass grpc://@;",
        vec![(
            format!("{HEAD}\r\nhttp"),
            rejected("127.0.0.1:9001", "upstream sent "),
        )],
    )?;
    check(
        "hello",
        "scgi_pass @;",
        vec![(
            "Status: many\r\n\r\n".into(),
            rejected("127.0.0.1:9001", "upstream sent invalid status"),
        )],
    )
}

/// No error for nginx: it takes the bytes for HTTP/0.9, and passes them on without a status, which
/// HTTP/2 sends as 000.
#[test]
fn an_answer_without_a_status_line_is_none_of_ours() -> Result<()> {
    let logged = "upstream sent no valid HTTP/1.0 header";
    let mut expected = Expected::silence(0, &[logged]);
    expected.upstream = Some("127.0.0.1:9001".into());
    let mut stage = Stage::new()?;
    stage.config.server = "listen 127.0.0.1:81 http2;\n".into();
    let _service = Service::start(
        &stage.netns,
        &["127.0.0.1:9001", "answer", "HELO there\r\n"],
    )?;
    let load = Load {
        front: Front::Http2,
        ..Load::default()
    };
    stage
        .check_with(vec![Fault::proxy(expected, "")], load)
        .map(drop)
}

fn truncated(upstream: &str, logged: &str) -> Expected {
    Expected::connected("response-truncated", upstream, logged).status(200)
}

#[test]
fn a_body_cut_short_by_fin() -> Result<()> {
    let logged = "upstream prematurely closed connection while reading upstream";
    check(
        "answer",
        "proxy_pass http://@;",
        vec![
            (
                format!("{HEAD}Content-Length: 5000\r\n\r\nshort"),
                truncated("127.0.0.1:9001", logged).says("a 200 cut short at 5 of 5000 bytes"),
            ),
            (
                format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n100\r\nshort"),
                truncated("[::1]:9001", logged)
                    .says("cut short after 10 bytes of an unknown length"),
            ),
        ],
    )?;
    check(
        "answer",
        "proxy_pass http://@; proxy_buffering off;",
        vec![(
            format!("{HEAD}Content-Length: 5000\r\n\r\nshort"),
            truncated(
                "127.0.0.1:9001",
                "closed connection while sending to client | while reading upstream",
            )
            .says("cut short at 5 of 5000 bytes"),
        )],
    )
}

#[test]
fn a_body_cut_short_by_rst() -> Result<()> {
    let logged = "(104: Connection reset by peer) while reading upstream";
    let reset = |upstream: &str| {
        let expected = truncated(upstream, logged)
            .or_errno(None)
            .says("cut short at 5 of 5000 bytes");
        Expected {
            errno: Some("ECONNRESET"),
            ..expected
        }
    };
    let text = format!("{HEAD}Content-Length: 5000\r\n\r\nshort");
    check(
        "reset",
        "proxy_pass http://@;",
        vec![
            (text.clone(), reset("127.0.0.1:9001")),
            (text, reset("[::1]:9001")),
        ],
    )
}

#[test]
fn a_body_that_stops_until_nginxs_timer() -> Result<()> {
    let logged = "upstream timed out (110: Connection timed out) while reading upstream";
    let expected = Expected {
        errno: Some("ETIMEDOUT"),
        ..truncated("127.0.0.1:9001", logged)
            .or_errno(None)
            .says("cut short at 5 of 5000 bytes")
    };
    check(
        "hold",
        "proxy_pass http://@; proxy_read_timeout 300ms;",
        vec![(format!("{HEAD}Content-Length: 5000\r\n\r\nshort"), expected)],
    )
}
