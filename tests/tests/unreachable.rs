//! Hosts that cannot be reached: no answer on the link, or a router that says so.

use anyhow::Result;
use tests::expected::Expected;
use tests::kernel;
use tests::stage::{Fault, Load, Stage};
use tests::tun::{self, Host, Tun};
use tests::veth;

#[test]
fn nobody_on_the_link_has_the_address() -> Result<()> {
    let stage = Stage::new()?;
    let _far = veth::connect(&stage.netns)?;
    let load = Load {
        concurrency: 15,
        ..Load::default()
    };
    let v4 = format!("{}:80", veth::NOBODY);
    let v4 = Expected::new("neighbor-failed", &v4, "EHOSTUNREACH")
        .proven_if(kernel::says_why_it_drops());
    if !kernel::says_why_it_drops() {
        let reason = "this kernel gives no drop reason: inferred from its own ICMP error";
        kernel::lesser("nobody_on_the_link_has_the_address", reason);
    }
    // No kernel shows who makes an ICMPv6 error.
    let v6 = Expected::new("neighbor-failed", "[fd88::99]:80", "EHOSTUNREACH").inferred();
    let faults = [v4, v6].map(|expected| Fault::proxy(expected, ""));
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
