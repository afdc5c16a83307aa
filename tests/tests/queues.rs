//! Accept queues at their limit: nginx waits for a TCP listener, a unix listener says no at once.

use anyhow::Result;
use tests::expected::Expected;
use tests::faults::{listeners, unix_files};
use tests::folder::Folder;
use tests::stage::{Fault, Load, Stage};

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
    let expected = Expected::timeout("accept-queue-full", "127.0.0.1:9001").inferred();
    let fault = Fault::proxy(expected, "proxy_connect_timeout 2s;");
    stage.check_with(vec![fault], TOGETHER).map(drop)
}

#[test]
fn a_full_tcp_queue_until_the_kernel_gives_up() -> Result<()> {
    let stage = Stage::new()?;
    let _full = listeners::full(&stage.netns, "127.0.0.1:9001")?;
    stage.netns.sysctl("ipv4/tcp_syn_retries", "1")?;
    let expected = Expected::new("accept-queue-full", "127.0.0.1:9001", "ETIMEDOUT").inferred();
    stage
        .check_with(vec![Fault::proxy(expected, "")], TOGETHER)
        .map(drop)
}
