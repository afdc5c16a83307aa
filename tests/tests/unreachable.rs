//! Hosts that cannot be reached: no answer on the link, or a router that says so.

use anyhow::Result;
use tests::expected::Expected;
use tests::stage::{Fault, Load, Stage};
use tests::tun::{self, Host, Tun};
use tests::veth::{self, NOBODY, NOBODY_V6};

#[test]
fn nobody_on_the_link_has_the_address() -> Result<()> {
    let stage = Stage::new()?;
    let _far = veth::connect(&stage.netns)?;
    let load = Load {
        concurrency: 15,
        ..Load::default()
    };
    let faults = [NOBODY, NOBODY_V6]
        .map(|upstream| Expected::new("neighbor-failed", upstream, "EHOSTUNREACH"))
        .map(|expected| Fault::proxy(expected, ""));
    stage.check_with(faults.into(), load).map(drop)
}

#[test]
fn nginx_gives_up_before_the_link_does() -> Result<()> {
    let stage = Stage::new()?;
    let _far = veth::connect(&stage.netns)?;
    stage.netns.ip("route add 10.89.0.0/24 via 10.88.0.98")?;
    let load = Load {
        concurrency: 20,
        ..Load::default()
    };
    // ARP and neighbour discovery try for three seconds; the last is behind a gateway that nobody
    // is.
    let faults = [NOBODY, NOBODY_V6, "10.89.0.1:80"]
        .map(|upstream| Expected::timeout("neighbor-failed", upstream))
        .map(|expected| Fault::proxy(expected, "proxy_connect_timeout 1500ms;"));
    stage.check_with(faults.into(), load).map(drop)
}

#[test]
fn a_router_says_why() -> Result<()> {
    // Network, host, and administratively prohibited (RFC 792, RFC 1812).
    let codes = [
        (0, "ENETUNREACH"),
        (1, "EHOSTUNREACH"),
        (13, "EHOSTUNREACH"),
    ];
    let stage = Stage::new()?;
    let _link = Tun::new(
        &stage.netns,
        &codes.map(|(code, _)| Host::Unreachable(code)),
    )?;
    let faults = (0..).zip(codes).map(|(index, (_, errno))| {
        let upstream = format!("{}:80", tun::address(index));
        let expected = Expected::new("icmp-unreachable", &upstream, errno);
        Fault::proxy(expected.says(tun::ROUTER.to_string()), "")
    });
    let faults = faults.collect();
    stage.check(faults).map(drop)
}
