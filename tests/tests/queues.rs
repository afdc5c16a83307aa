//! Accept queues at their limit: nginx waits for a TCP listener, a unix listener says no at once.

use anyhow::{Result, anyhow};
use tests::expected::Expected;
use tests::faults::{listeners, unix_files};
use tests::folder::Folder;
use tests::kernel;
use tests::netns::Netns;
use tests::stage::{Fault, Load, Stage};
use tests::tracer::Tracer;
use tests::wire::{self, Wire};

const TOGETHER: Load = Load {
    failing: 5,
    healthy: 5,
    concurrency: 10,
    front: tests::client::Front::Http,
};

#[test]
fn a_full_unix_queue() -> Result<()> {
    let folder = Folder::new()?;
    let path = folder.join("app.sock");
    let _full = unix_files::full(&path)?;
    let upstream = format!("unix:{}", path.display());
    let expected = Expected::new("accept-queue-full", &upstream, "EAGAIN");
    let fault = Fault::location(format!("proxy_pass http://{upstream}:/;"), expected);
    Stage::new()?.check(vec![fault]).map(drop)
}

#[test]
fn a_full_tcp_queue_until_nginx_gives_up() -> Result<()> {
    let stage = Stage::new()?;
    let _full = listeners::full(&stage.netns, "127.0.0.1:9001")?;
    // Long enough for the first retransmission, which is when the listener is asked.
    let expected = Expected::timeout("accept-queue-full", "127.0.0.1:9001")
        .proven_if(kernel::shows_functions())
        .says(format!("pid {}", std::process::id()))
        .says("1 wait in its accept queue, limit 0, net.core.somaxconn");
    let fault = Fault::proxy(expected, "proxy_connect_timeout 2s;");
    stage.check_with(vec![fault], TOGETHER).map(drop)
}

#[test]
fn a_full_tcp_queue_until_the_kernel_gives_up() -> Result<()> {
    let stage = Stage::new()?;
    let _full = listeners::full(&stage.netns, "127.0.0.1:9001")?;
    stage.netns.sysctl("ipv4/tcp_syn_retries", "1")?;
    let expected = Expected::new("accept-queue-full", "127.0.0.1:9001", "ETIMEDOUT")
        .proven_if(kernel::shows_functions())
        .says("1 wait in its accept queue, limit 0, net.core.somaxconn");
    stage
        .check_with(vec![Fault::proxy(expected, "")], TOGETHER)
        .map(drop)
}

/// Room for all SYNs of [`TOGETHER`]: Linux takes the backlog for their limit too.
const BACKLOG: u8 = 8;

/// Five requests whose connections are complete for nginx, not for the backend's kernel: their ACKs
/// wait on the wire until the queue is full.
fn filled_between_syn_and_ack(settings: &[(&str, &str)], expected: Expected) -> Result<()> {
    let far = Netns::new()?;
    let stage = Stage::new()?;
    let wire = Wire::new(&stage.netns, &far)?;
    for (name, value) in settings {
        far.sysctl(name, value)?;
    }
    let upstream = expected.upstream.clone().unwrap_or_default();
    let listener = listeners::small(&far, &upstream, BACKLOG)?;
    let site = stage.start(vec![Fault::proxy(
        expected,
        "proxy_connect_timeout 3s; proxy_read_timeout 2s;",
    )])?;
    let tracer = Tracer::follow(site.nginx.master)?;
    wire.hold();
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| site.send(TOGETHER));
        let full = wire
            .holds(TOGETHER.failing)
            .and_then(|()| listeners::fill(&far, listener, BACKLOG));
        wire.release();
        let sent = sender
            .join()
            .unwrap_or_else(|_| Err(anyhow!("a sender panicked")))?;
        full.map(|full| (sent, full))
    });
    let (sent, _full) = sent?;
    site.check(&sent, tracer).map(drop)
}

fn late(logged: &str) -> Expected {
    let upstream = format!("{}:9001", wire::FAR);
    Expected::connected("accept-queue-full", &upstream, logged)
        .proven_if(kernel::shows_functions())
        .says("9001")
}

const TIMED_OUT: &str =
    "upstream timed out (110: Connection timed out) while reading response header";

#[test]
fn a_tcp_queue_that_fills_between_syn_and_ack() -> Result<()> {
    let expected = late(TIMED_OUT).status(504).or_errno(Some("ETIMEDOUT"));
    filled_between_syn_and_ack(&[("ipv4/tcp_syncookies", "0")], expected)
}

#[test]
fn a_tcp_queue_that_fills_between_syn_cookie_and_ack() -> Result<()> {
    let expected = late(TIMED_OUT).status(504).or_errno(Some("ETIMEDOUT"));
    filled_between_syn_and_ack(&[("ipv4/tcp_syncookies", "2")], expected)
}

#[test]
fn a_tcp_queue_that_fills_between_syn_and_ack_and_resets() -> Result<()> {
    let expected = Expected {
        errno: Some("ECONNRESET"),
        ..late("(104: Connection reset by peer)")
    };
    filled_between_syn_and_ack(&[("ipv4/tcp_abort_on_overflow", "1")], expected)
}
