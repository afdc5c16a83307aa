//! SYNs without an answer: dropped by this host's firewall, or by something not visible from this
//! host.

use anyhow::Result;
use tests::expected::Expected;
use tests::faults::firewall;
use tests::stage::{Fault, Load, Stage};
use tests::tun::{Host, Tun};

const TOGETHER: Load = Load {
    failing: 5,
    healthy: 5,
    concurrency: 25,
    front: tests::client::Front::Http,
};

const DROPPED: &str = "127.0.0.1:9001";
const ANSWER_DROPPED: &str = "127.0.0.1:9002";
const DROPPED_V6: &str = "[::1]:9001";
const SILENT: &str = "10.77.0.2:80";

fn stage() -> Result<(Stage, Tun, std::net::TcpListener)> {
    let stage = Stage::new()?;
    let link = Tun::new(&stage.netns, &[Host::Silent])?;
    firewall::rule(&stage.netns, "output", "tcp dport 9001 drop")?;
    // The SYN arrives, the answer to it does not leave.
    let answering = tests::backend::listen(&stage.netns, ANSWER_DROPPED)?;
    firewall::rule(
        stage.netns.backends(),
        "output",
        "tcp sport 9002 tcp flags & (syn | ack) == (syn | ack) drop",
    )?;
    Ok((stage, link, answering))
}

/// Well after the first retransmission, which comes at 1 s.
const GIVES_UP: &str = "proxy_connect_timeout 1500ms;";

#[test]
fn nginx_gives_up_first() -> Result<()> {
    let (stage, _link, _answering) = stage()?;
    let faults = [
        Expected::timeout("firewall-drop", DROPPED),
        Expected::timeout("firewall-drop", ANSWER_DROPPED),
        Expected::timeout("firewall-drop", DROPPED_V6),
        Expected::timeout("syn-timeout", SILENT),
    ]
    .map(|expected| Fault::proxy(expected, GIVES_UP));
    stage.check_with(faults.into(), TOGETHER).map(drop)
}

#[test]
fn the_kernel_gives_up_first() -> Result<()> {
    let (stage, _link, _answering) = stage()?;
    stage.netns.sysctl("ipv4/tcp_syn_retries", "1")?;
    let faults = [
        Expected::new("firewall-drop", DROPPED, "ETIMEDOUT"),
        Expected::new("firewall-drop", ANSWER_DROPPED, "ETIMEDOUT"),
        Expected::new("firewall-drop", DROPPED_V6, "ETIMEDOUT"),
        Expected::new("syn-timeout", SILENT, "ETIMEDOUT"),
    ]
    .map(|expected| Fault::proxy(expected, ""));
    stage.check_with(faults.into(), TOGETHER).map(drop)
}

#[test]
fn a_firewall_drops_what_a_connection_carries() -> Result<()> {
    let stage = Stage::new()?;
    let _behind = tests::backend::listen(&stage.netns, DROPPED)?;
    // The handshake's packets are shorter than any request.
    firewall::rule(
        &stage.netns,
        "output",
        "tcp dport 9001 ip length > 100 drop",
    )?;
    let expected = Expected::timeout("firewall-drop", DROPPED).says("of an established connection");
    let fault = Fault::proxy(expected, "proxy_read_timeout 1500ms;");
    stage.check_with(vec![fault], TOGETHER).map(drop)
}

#[test]
fn a_host_that_goes_silent_is_not_said_to_be_slow() -> Result<()> {
    let stage = Stage::new()?;
    let _link = Tun::new(&stage.netns, &[Host::Lost])?;
    let expected = Expected::timeout("unexplained", SILENT)
        .unknown()
        .says("never acknowledged");
    let fault = Fault::proxy(expected, "proxy_read_timeout 1500ms;");
    stage.check_with(vec![fault], TOGETHER).map(drop)
}

#[test]
fn a_firewall_drops_on_the_way_in() -> Result<()> {
    let stage = Stage::new()?;
    let _behind = tests::backend::listen(&stage.netns, DROPPED)?;
    firewall::rule(stage.netns.backends(), "input", "tcp dport 9001 drop")?;
    let expected = Expected::timeout("firewall-drop", DROPPED);
    let fault = Fault::proxy(expected, GIVES_UP);
    stage.check_with(vec![fault], TOGETHER).map(drop)
}
