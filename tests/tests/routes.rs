//! This host's routing table says no inside connect(): four answers, four causes.

use anyhow::Result;
use tests::expected::Expected;
use tests::kernel;
use tests::stage::{Fault, Stage};
use tests::tun::{Host, Tun};
use tests::veth;

const ROUTES: [(&str, &str, &str); 3] = [
    ("unreachable", "route-unreachable", "EHOSTUNREACH"),
    ("prohibit", "route-prohibit", "EACCES"),
    ("blackhole", "route-blackhole", "EINVAL"),
];

fn fault(cause: &'static str, upstream: &str, errno: &'static str) -> Fault {
    let is_shown = !upstream.starts_with('[') || kernel::has("btf_trace_fib6_table_lookup");
    let expected = Expected::new(cause, upstream, errno).proven_if(is_shown);
    Fault::proxy(expected, "")
}

#[test]
fn each_kind_of_route_is_its_own_cause() -> Result<()> {
    let stage = Stage::new()?;
    let mut faults = vec![fault("no-route", "10.66.9.9:80", "ENETUNREACH")];
    for (index, (kind, cause, errno)) in ROUTES.into_iter().enumerate() {
        stage
            .netns
            .ip(&format!("route add {kind} 10.66.{index}.0/24"))?;
        faults.push(fault(cause, &format!("10.66.{index}.5:80"), errno));
    }
    stage.check(faults).map(drop)
}

#[test]
fn each_kind_of_route_is_its_own_cause_over_ipv6() -> Result<()> {
    let stage = Stage::new()?;
    let mut faults = vec![fault("no-route", "[fd66:9::9]:80", "ENETUNREACH")];
    for (index, (kind, cause, errno)) in (1..).zip(ROUTES) {
        stage
            .netns
            .ip(&format!("-6 route add {kind} fd66:{index}::/64 dev lo"))?;
        faults.push(fault(cause, &format!("[fd66:{index}::5]:80"), errno));
    }
    stage.check(faults).map(drop)
}

#[test]
fn a_route_that_prohibits_one_host_of_a_link_is_seen() -> Result<()> {
    let stage = Stage::new()?;
    let _far = veth::connect(&stage.netns)?;
    let _link = Tun::new(&stage.netns, &[Host::Refusing])?;
    let mut faults = Vec::new();
    for host in [veth::FAR, "10.77.0.2"] {
        stage.netns.ip(&format!("route add prohibit {host}/32"))?;
        faults.push(fault("route-prohibit", &format!("{host}:9001"), "EACCES"));
    }
    stage.check(faults).map(drop)
}
