//! Backends in other network namespaces of this host: from container to container, from a container
//! to the host, where two have the same address, and where one is only said to be it.

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::container::{self, Container};
use tests::expected::Expected;
use tests::faults::listeners;
use tests::kernel;
use tests::netns::Netns;
use tests::service::Service;
use tests::stage::{Fault, Load, Stage};
use tests::veth;

const TOGETHER: Load = Load {
    failing: 5,
    healthy: 5,
    concurrency: 20,
    front: tests::client::Front::Http,
};
const WHOLE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const TIMERS: &str = "proxy_connect_timeout 2s; proxy_read_timeout 700ms;";

fn never_accepted(upstream: &str) -> Fault {
    let logged = "upstream timed out (110: Connection timed out) while reading response header";
    let expected = Expected::timeout("backend-not-accepting", upstream).or_errno(None);
    let expected = Expected {
        logged: vec![logged.into()],
        ..expected.says("is the address of a container on this host")
    };
    Fault::proxy(expected, TIMERS)
}

fn full(upstream: &str) -> Fault {
    let expected = Expected::timeout("accept-queue-full", upstream)
        .proven_if(kernel::shows_functions())
        .says("1 wait in its accept queue, limit 0");
    Fault::proxy(expected, TIMERS)
}

fn refused(upstream: &str) -> Expected {
    Expected::new("no-listener", upstream, "ECONNREFUSED")
}

/// nginx's namespace becomes a container's too: it has an end of a cable to a bridge in `host`, as
/// the backend's has.
fn containers(stage: &Stage) -> Result<(Netns, Container)> {
    let host = Netns::new()?;
    host.ip("link add br0 type bridge")?;
    host.ip("addr add 172.31.0.1/24 dev br0")?;
    host.ip("link set br0 up")?;
    let backend = Container::behind(&host, "br0", container::ADDRESS)?;
    container::plug(&stage.netns, &host, "br0", "172.31.0.9")?;
    Ok((host, backend))
}

#[test]
fn from_container_to_container() -> Result<()> {
    let stage = Stage::new()?;
    let (_host, backend) = containers(&stage)?;
    let at = |port: u16| format!("{}:{port}", container::ADDRESS);
    let _never = Service::start(backend.netns(), &[&at(9001), "never-accept"])?;
    let _full = listeners::full(backend.netns(), &at(9002))?;
    let _inside = tests::backend::listen(backend.netns(), "127.0.0.1:9003")?;
    let pid = backend.pid();
    let loopback = refused(&at(9003))
        .says("listens on 127.0.0.1:9003 only")
        .says("make the backend listen on 0.0.0.0:9003 in its container")
        .says(format!("nsenter -t {pid} -n ss -ltnp 'sport = :9003'"));
    let nobody = refused(&at(9999)).says(format!("sleep (pid {pid}"));
    let faults = vec![
        never_accepted(&at(9001)),
        full(&at(9002)),
        Fault::proxy(loopback, ""),
        Fault::proxy(nobody, ""),
    ];
    stage.check_with(faults, TOGETHER).map(drop)
}

#[test]
fn from_a_container_to_its_host_and_through_it() -> Result<()> {
    let stage = Stage::new()?;
    let host = Netns::new()?;
    for (bridge, address) in [("br0", "172.31.0.1/24"), ("br1", "172.32.0.1/24")] {
        host.ip(&format!("link add {bridge} type bridge"))?;
        host.ip(&format!("addr add {address} dev {bridge}"))?;
        host.ip(&format!("link set {bridge} up"))?;
    }
    host.sysctl("ipv4/ip_forward", "1")?;
    container::plug(&stage.netns, &host, "br0", "172.31.0.9")?;
    let _of_host = Service::start(&host, &["172.31.0.1:9001", "never-accept"])?;
    // Routed by the host to another bridge.
    let backend = Container::behind(&host, "br1", "172.32.0.2")?;
    let _routed = Service::start(backend.netns(), &["172.32.0.2:9001", "never-accept"])?;
    let _full = listeners::full(backend.netns(), "172.32.0.2:9002")?;
    let faults = vec![
        never_accepted("172.31.0.1:9001"),
        never_accepted("172.32.0.2:9001"),
        full("172.32.0.2:9002"),
    ];
    stage.check_with(faults, TOGETHER).map(drop)
}

/// As in a cluster: nginx in a container, the host between translates a service's address to
/// another's, and perhaps nginx's to its own.
fn translation(stage: &Stage, hides_source: bool) -> Result<(Netns, Container)> {
    let host = Netns::new()?;
    for (bridge, address) in [("br0", "172.31.0.1/24"), ("br1", "172.32.0.1/24")] {
        host.ip(&format!("link add {bridge} type bridge"))?;
        host.ip(&format!("addr add {address} dev {bridge}"))?;
        host.ip(&format!("link set {bridge} up"))?;
    }
    host.sysctl("ipv4/ip_forward", "1")?;
    container::plug(&stage.netns, &host, "br0", "172.31.0.9")?;
    let backend = Container::behind(&host, "br1", "172.32.0.2")?;
    let mut rules = format!(
        "add table ip nat\n\
         add chain ip nat prerouting {{ type nat hook prerouting priority -100; }}\n\
         add rule ip nat prerouting ip daddr {} meta l4proto tcp dnat to 172.32.0.2\n",
        container::SERVICE
    );
    if hides_source {
        rules.push_str(
            "add chain ip nat postrouting { type nat hook postrouting priority 100; }\n\
             add rule ip nat postrouting oifname br1 masquerade random\n",
        );
    }
    tests::programs::output(host.command("nft")?.arg(rules))?;
    Ok((host, backend))
}

fn at_service(port: u16) -> String {
    format!("{}:{port}", container::SERVICE)
}

#[test]
fn through_a_translation_on_the_host() -> Result<()> {
    let stage = Stage::new()?;
    let (host, backend) = translation(&stage, false)?;
    // The host has processes of its own.
    let _of_host = Service::start(&host, &["127.0.0.1:1", "never-accept"])?;
    let _never = Service::start(backend.netns(), &["172.32.0.2:9001", "never-accept"])?;
    let _full = listeners::full(backend.netns(), "172.32.0.2:9002")?;
    let nobody = refused(&at_service(9999)).says("nothing listens on 172.32.0.2:9999");
    let faults = vec![
        never_accepted(&at_service(9001)),
        full(&at_service(9002)),
        Fault::proxy(nobody, ""),
    ];
    stage.check_with(faults, TOGETHER).map(drop)
}

/// Nothing that the backend's namespace meets has nginx's address or port: the SYN's own number
/// joins them.
#[test]
fn through_a_translation_that_hides_the_source() -> Result<()> {
    let mut stage = Stage::new()?;
    let (host, backend) = translation(&stage, true)?;
    // The host has processes of its own.
    let _of_host = Service::start(&host, &["127.0.0.1:1", "never-accept"])?;
    let _other = Service::start(backend.netns(), &["172.32.0.2:9000", "answer", WHOLE])?;
    stage.healthy = format!("proxy_pass http://{};", at_service(9000));
    let nobody = refused(&at_service(9999))
        .says("nothing listens on 172.32.0.2:9999, which 10.96.0.10:9999 is translated to")
        .says(format!("sleep (pid {}", backend.pid()));
    stage
        .check_with(vec![Fault::proxy(nobody, "")], TOGETHER)
        .map(drop)
}

/// Another container with the same address, on a bridge of its own, has healthy listeners: it is
/// never taken for the one that nginx's packets reach.
#[test]
fn of_two_containers_with_one_address_the_one_on_the_way_is_asked() -> Result<()> {
    let stage = Stage::new()?;
    let (_host, backend) = containers(&stage)?;
    let other_host = Netns::new()?;
    other_host.ip("link add br0 type bridge")?;
    let other = Container::behind(&other_host, "br0", container::ADDRESS)?;
    let at = |port: u16| format!("{}:{port}", container::ADDRESS);
    let _never = Service::start(backend.netns(), &[&at(9001), "never-accept"])?;
    let _full = listeners::full(backend.netns(), &at(9002))?;
    let _healthy = [at(9001), at(9002), at(9999)]
        .iter()
        .map(|address| tests::backend::listen(other.netns(), address))
        .collect::<Result<Vec<_>>>()?;
    let faults = vec![
        never_accepted(&at(9001)),
        full(&at(9002)),
        Fault::proxy(refused(&at(9999)), ""),
    ];
    let verdicts = stage.check_with(faults, TOGETHER)?;
    let stranger = format!("pid {}", other.pid());
    let is_named = |verdict: &Value| verdict.to_string().contains(&stranger);
    ensure!(!verdicts.iter().any(is_named), "{stranger} is named");
    Ok(())
}

/// A container's root may give itself any address: one that nginx reaches elsewhere is not its.
#[test]
fn a_container_that_claims_a_remote_address_is_not_taken_for_it() -> Result<()> {
    let stage = Stage::new()?;
    let _link = tests::tun::Tun::new(&stage.netns, &[tests::tun::Host::Silent])?;
    let host = Netns::new()?;
    host.ip("link add br0 type bridge")?;
    let claims = Container::behind(&host, "br0", "10.77.0.2")?;
    let _full = listeners::full(claims.netns(), "10.77.0.2:80")?;
    let expected = Expected::timeout("syn-timeout", "10.77.0.2:80");
    let verdicts = stage.check_with(vec![Fault::proxy(expected, TIMERS)], TOGETHER)?;
    let claimant = format!("pid {}", claims.pid());
    let is_named = |verdict: &Value| verdict.to_string().contains(&claimant);
    ensure!(!verdicts.iter().any(is_named), "{claimant} is named");
    Ok(())
}

/// A cable straight to the backend's namespace, without a bridge.
#[test]
fn over_a_cable() -> Result<()> {
    let stage = Stage::new()?;
    let far = veth::connect(&stage.netns)?;
    let at = |port: u16| format!("{}:{port}", veth::FAR);
    let _never = Service::start(&far, &[&at(9001), "never-accept"])?;
    let v6 = format!("[{}]:9001", veth::FAR_V6);
    let _v6 = Service::start(&far, &[&v6, "never-accept"])?;
    let _full = listeners::full(&far, &at(9002))?;
    let faults = vec![
        never_accepted(&at(9001)),
        never_accepted(&v6),
        full(&at(9002)),
    ];
    stage.check_with(faults, TOGETHER).map(drop)
}
