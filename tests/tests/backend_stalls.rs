//! Connected, and no answer until nginx's timer: the program took the request and is silent, or
//! never accepted the connection.

use anyhow::Result;
use tests::client::Front;
use tests::expected::Expected;
use tests::folder::Folder;
use tests::service::Service;
use tests::stage::{Fault, Load, Stage};

const TOGETHER: Load = Load {
    failing: 5,
    healthy: 5,
    concurrency: 20,
    front: Front::Http,
};
const TIMER: &str = "proxy_read_timeout 700ms; proxy_send_timeout 700ms;";

fn stalled(cause: &'static str, upstream: &str) -> Expected {
    let logged = "upstream timed out (110: Connection timed out) while reading response header";
    let expected = Expected::timeout(cause, upstream).or_errno(None);
    Expected {
        logged: vec![logged.into()],
        ..expected
    }
}

fn check(conducts: &[(&str, &str, Expected)]) -> Result<()> {
    let stage = Stage::new()?;
    let mut services = Vec::new();
    let mut faults = Vec::new();
    for (mode, text, expected) in conducts {
        let address = expected.upstream.as_deref().unwrap_or_default();
        services.push(Service::start(&stage.netns, &[address, mode, text])?);
        faults.push(match address.strip_prefix("unix:") {
            Some(_) => {
                let location = format!("proxy_pass http://{address}:/; {TIMER}");
                Fault::location(location, expected.clone())
            }
            None => Fault::proxy(expected.clone(), TIMER),
        });
    }
    stage.check_with(faults, TOGETHER).map(drop)
}

#[test]
fn accepted_read_and_never_answered() -> Result<()> {
    check(&[
        ("hold", "", stalled("backend-slow", "127.0.0.1:9001")),
        ("hold", "", stalled("backend-slow", "[::1]:9001")),
        // Accepted by a program that does not even read.
        (
            "hold",
            "HTTP/1.1 200 OK\r\nServer: slow",
            stalled("backend-slow", "127.0.0.1:9002"),
        ),
    ])
}

#[test]
fn never_accepted() -> Result<()> {
    let waits = |upstream: &str| stalled("backend-not-accepting", upstream).says("backend");
    check(&[
        ("never-accept", "", waits("127.0.0.1:9001")),
        ("never-accept", "", waits("[::1]:9001")),
    ])
}

#[test]
fn all_workers_of_a_prefork_server_are_busy() -> Result<()> {
    let stage = Stage::new()?;
    let words = ["127.0.0.1:9001", "wait", "--prefork", "1"];
    let mut service = Service::start(&stage.netns, &words)?;
    // One request for the only child, which holds it for good.
    let _busy = stage.netns.enter(|| {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(stage.netns.reaches("127.0.0.1:9001"))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        Ok(stream)
    })?;
    service.says("serving", 1)?;
    let expected = stalled("backend-not-accepting", "127.0.0.1:9001").says("backend");
    stage
        .check_with(vec![Fault::proxy(expected, TIMER)], TOGETHER)
        .map(drop)
}

#[test]
fn all_workers_behind_a_unix_socket_are_busy() -> Result<()> {
    let folder = Folder::new()?;
    let path = folder.join("busy.sock");
    let upstream = format!("unix:{}", path.display());
    let stage = Stage::new()?;
    let words = [upstream.as_str(), "wait", "--prefork", "1"];
    let mut service = Service::start(&stage.netns, &words)?;
    let mut busy = std::os::unix::net::UnixStream::connect(&path)?;
    std::io::Write::write_all(&mut busy, b"GET / HTTP/1.0\r\n\r\n")?;
    service.says("serving", 1)?;
    let expected =
        stalled("backend-not-accepting", &upstream).says("5 connections in its accept queue");
    let location = format!("proxy_pass http://{upstream}:/; {TIMER}");
    stage
        .check_with(vec![Fault::location(location, expected)], TOGETHER)
        .map(drop)
}

#[test]
fn on_unix_sockets() -> Result<()> {
    let folder = Folder::new()?;
    let at = |name: &str| format!("unix:{}", folder.join(name).display());
    check(&[
        (
            "hold",
            "",
            stalled("backend-slow", &at("slow.sock")).says("had accepted it and read from it"),
        ),
        (
            "never-accept",
            "",
            stalled("backend-not-accepting", &at("never.sock")).says("backend"),
        ),
        // Accepted by a program that reads nothing.
        (
            "accept",
            "",
            stalled("backend-slow", &at("accepted.sock")).says("has not read from it"),
        ),
    ])
}

/// The backend reads no further than its header: nginx cannot send the rest.
#[test]
fn a_request_that_the_backend_does_not_read() -> Result<()> {
    let stage = Stage::new()?;
    let mut faults = Vec::new();
    let mut services = Vec::new();
    for address in ["127.0.0.1:9001", "[::1]:9001"] {
        services.push(Service::start(&stage.netns, &[address, "stop-reading"])?);
        let mut expected = stalled("backend-slow", address);
        let logged = "upstream timed out (110: Connection timed out) while sending request";
        expected.logged = vec![logged.into()];
        let directives = format!("client_max_body_size 20m; {TIMER}");
        faults.push(Fault::proxy(expected, &directives).post(16 << 20));
    }
    stage.check_with(faults, TOGETHER).map(drop)
}
