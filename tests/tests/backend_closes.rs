//! The backend is alive and ends a fresh connection before it answers: by FIN, by RST, with the
//! request read or unread, over TCP and unix sockets.

use anyhow::Result;
use tests::expected::Expected;
use tests::folder::Folder;
use tests::kernel;
use tests::service::Service;
use tests::stage::{Fault, Stage};

const PREMATURELY: &str = "upstream prematurely closed connection while reading response header";

/// A backend on each address with each of these conducts, nginx before them, all checked.
fn check(conducts: &[(&str, &str, Expected)]) -> Result<()> {
    let stage = Stage::new()?;
    let mut services = Vec::new();
    let mut faults = Vec::new();
    for (mode, text, expected) in conducts {
        let address = expected.upstream.as_deref().unwrap_or_default();
        services.push(Service::start(&stage.netns, &[address, mode, text])?);
        faults.push(match address.strip_prefix("unix:") {
            Some(_) => Fault::location(format!("proxy_pass http://{address}:/;"), expected.clone()),
            None => Fault::proxy(expected.clone(), ""),
        });
    }
    stage.check(faults).map(drop)
}

fn closed_early(upstream: &str) -> Expected {
    Expected::connected("backend-closed-early", upstream, PREMATURELY)
}

fn reset(upstream: &str) -> Expected {
    Expected::reset("backend-reset", upstream)
}

#[test]
fn a_fin_before_and_in_the_header() -> Result<()> {
    check(&[
        ("answer", "", closed_early("127.0.0.1:9001")),
        ("answer", "", closed_early("[::1]:9001")),
        (
            "answer",
            "HTTP/1.1 200 OK\r\nContent-Len",
            closed_early("127.0.0.1:9002"),
        ),
        ("answer", "H", closed_early("127.0.0.1:9003")),
    ])
}

#[test]
fn a_fin_on_a_unix_socket() -> Result<()> {
    let folder = Folder::new()?;
    let at = |name: &str| format!("unix:{}", folder.join(name).display());
    check(&[
        (
            "answer",
            "",
            closed_early(&at("before.sock")).says("request bytes had been sent"),
        ),
        (
            "answer",
            "HTTP/1.1 200 OK\r\nContent-Len",
            closed_early(&at("within.sock")),
        ),
    ])
}

#[test]
fn a_reset_that_the_backend_means() -> Result<()> {
    check(&[
        ("reset", "", reset("127.0.0.1:9001")),
        ("reset", "", reset("[::1]:9001")),
        (
            "reset",
            "HTTP/1.1 200 OK\r\nContent-Len",
            reset("127.0.0.1:9002"),
        ),
    ])
}

#[test]
fn a_close_with_the_request_unread() -> Result<()> {
    let words = if kernel::says_why_it_resets() {
        "closed the connection with the request unread"
    } else {
        let reason = "this kernel gives no reason of a RST: backend-reset, but not why";
        kernel::lesser("a_close_with_the_request_unread", reason);
        "reset the connection"
    };
    check(&[
        ("unread", "", reset("127.0.0.1:9001").says(words)),
        ("unread", "", reset("[::1]:9001").says(words)),
    ])
}

#[test]
fn a_close_with_the_request_unread_on_a_unix_socket() -> Result<()> {
    let folder = Folder::new()?;
    let at = format!("unix:{}", folder.join("unread.sock").display());
    check(&[("unread", "", reset(&at))])
}

/// Whether nginx's request or the backend's FIN is first decides what either sees.
#[test]
fn a_close_right_after_accept() -> Result<()> {
    let stage = Stage::new()?;
    let _service = Service::start(&stage.netns, &["127.0.0.1:9001", "close"])?;
    let mut either = closed_early("127.0.0.1:9001")
        .or_errno(Some("ECONNRESET"))
        .or_errno(Some("EPIPE"));
    either.or_cause = vec!["backend-reset"];
    either.logged = vec![format!("{PREMATURELY} | (104: | (32: ")];
    stage.check(vec![Fault::proxy(either, "")]).map(drop)
}

/// The backend goes while nginx still sends: what fails is a write, of memory or of a file.
#[test]
fn a_reset_in_the_middle_of_a_long_request() -> Result<()> {
    const LONG: usize = 8 << 20;
    let stage = Stage::new()?;
    let mut services = Vec::new();
    let mut faults = Vec::new();
    for (address, logged, directives) in [
        (
            "127.0.0.1:9001",
            "writev() failed (",
            "client_body_buffer_size 10m;",
        ),
        (
            "[::1]:9001",
            "sendfile() failed (",
            "client_body_buffer_size 8k; sendfile on;",
        ),
    ] {
        services.push(Service::start(&stage.netns, &[address, "unread"])?);
        let mut expected = reset(address);
        // The reading may find the RST before the next write does.
        expected.logged = vec![format!("{logged} | recv() failed (104: ")];
        let directives = format!("client_max_body_size 10m; {directives}");
        faults.push(Fault::proxy(expected, &directives).post(LONG));
    }
    stage.check(faults).map(drop)
}
