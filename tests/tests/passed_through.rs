//! The backend's own 502 and 504: nginx logs nothing and makes no error answer, whatever the front.

use anyhow::Result;
use tests::certificate::Certificate;
use tests::client::{Front, HOST};
use tests::expected::Expected;
use tests::folder::Folder;
use tests::service::Service;
use tests::stage::{Fault, Load, Stage};

fn passed(upstream: &str, status: u16) -> Expected {
    Expected::connected("passed-through", upstream, "")
        .unlogged()
        .status(status)
}

fn text(status: u16) -> String {
    format!("HTTP/1.1 {status} Its Own\r\nContent-Length: 4\r\n\r\nown\n")
}

fn through(front: Front, directives: &str) -> Result<()> {
    let mut stage = Stage::new()?;
    let certificate = Certificate::new(HOST)?;
    stage.config.server = certificate.fronts();
    let folder = Folder::new()?;
    let unix = format!("unix:{}", folder.join("own.sock").display());
    let mut services = Vec::new();
    for (address, status) in [("127.0.0.1:9001", 502), ("[::1]:9001", 504), (&unix, 502)] {
        let words = [address, "answer", &text(status)];
        services.push(Service::start(&stage.netns, &words)?);
    }
    let faults = vec![
        Fault::proxy(passed("127.0.0.1:9001", 502), directives),
        Fault::proxy(passed("[::1]:9001", 504), directives),
        Fault::location(
            format!("proxy_pass http://{unix}:/; {directives}"),
            passed(&unix, 502),
        ),
    ];
    let load = Load {
        front,
        ..Load::default()
    };
    stage.check_with(faults, load).map(drop)
}

#[test]
fn over_plain_http() -> Result<()> {
    through(Front::Http, "")
}

#[test]
fn over_tls() -> Result<()> {
    through(Front::Tls, "")
}

#[test]
fn over_http2() -> Result<()> {
    through(Front::Http2, "")
}

#[test]
fn over_http2_and_tls() -> Result<()> {
    through(Front::TlsHttp2, "")
}

#[test]
fn unbuffered() -> Result<()> {
    through(Front::Http, "proxy_buffering off;")
}

/// The backend fails to answer one server's request and its own 502 comes from the next.
#[test]
fn after_a_failed_attempt() -> Result<()> {
    let stage = Stage::new()?;
    let _service = Service::start(&stage.netns, &["127.0.0.1:9002", "answer", &text(502)])?;
    let closed = Expected::new("no-listener", "127.0.0.1:9001", "ECONNREFUSED");
    let servers = ["127.0.0.1:9001", "127.0.0.1:9002 backup"];
    let fault = Fault::group(
        "own",
        &servers,
        passed("127.0.0.1:9002", 502).after(&[closed]),
    );
    stage.check(vec![fault]).map(drop)
}

/// Other errors of the backend's are answers like any other.
#[test]
fn its_500_and_503_are_none_of_ours() -> Result<()> {
    let stage = Stage::new()?;
    let mut services = Vec::new();
    let mut faults = Vec::new();
    for (address, status) in [("127.0.0.1:9001", 500), ("127.0.0.1:9002", 503)] {
        services.push(Service::start(
            &stage.netns,
            &[address, "answer", &text(status)],
        )?);
        let mut expected = Expected::silence(status, &[]);
        expected.upstream = Some(address.into());
        faults.push(Fault::proxy(expected, ""));
    }
    stage.check(faults).map(drop)
}
