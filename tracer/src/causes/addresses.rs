//! Addresses at fault: `address-invalid` (none can connect to it), `bind-failed` (nginx's own
//! source address).

use std::net::{IpAddr, SocketAddr};

use super::{
    cause::{ByHand, Cause},
    errno::{self, EACCES, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EINVAL, ENETUNREACH, EPERM},
    finding::Finding,
    logged::{self, Logged},
    scene::Scene,
};
use crate::event::{Failure, FailureKind, Said, Upstream};

pub(super) static ADDRESS_INVALID: Cause = Cause {
    id: "address-invalid",
    title: "an address that no connect() can take",
    split: "connect() fails at once and no route is at fault: a link-local address without a zone, a broadcast or \
            multicast address, an address family that is off or has no source address.",
    log_lines: &[
        "connect() to [fe80::1]:3000 failed (22: Invalid argument)",
        "connect() to 255.255.255.255:3000 failed (101: Network is unreachable)",
        "connect() to [2001:db8::1]:3000 failed (99: Cannot assign requested address)",
        "socket() failed (97: Address family not supported by protocol)",
    ],
    logged: &[
        logged::at_once(&[EINVAL, ENETUNREACH, EADDRNOTAVAIL, EAFNOSUPPORT, EACCES]).inet(),
        Logged::of(&[Said::SocketFailed]).errno(&[EAFNOSUPPORT, EACCES, EPERM]),
    ],
    by_hand: ByHand {
        command: "ip route get IP",
        shows: "it answers broadcast or multicast, or names no source address",
    },
    client_gets: "502 (500 where socket() fails)",
    fix: "Correct the address in proxy_pass or the upstream block; where IPv6 is off, keep nginx from resolving to it \
          (resolver … ipv6=off).",
    matches: Some(address_invalid),
};

pub(super) static BIND_FAILED: Cause = Cause {
    id: "bind-failed",
    title: "nginx may not use its configured source address",
    split: "bind() fails before any connect(): nginx logs it and answers 500.",
    log_lines: &["bind(10.0.0.9) failed (99: Cannot assign requested address)"],
    logged: &[Logged::of(&[Said::BindFailed])],
    by_hand: ByHand {
        command: "ip -brief address",
        shows: "the address that the line names is missing",
    },
    client_gets: "500",
    fix: "Correct proxy_bind, or give this host the address (ip addr; net.ipv4.ip_nonlocal_bind, transparent).",
    matches: Some(bind_failed),
};

/// Why an address itself is wrong for the errno that connect() gave; certain, whatever routing
/// says.
fn fault(f: &Failure, remote: SocketAddr) -> Option<&'static str> {
    let ip = remote.ip();
    match (f.errno, ip) {
        (ENETUNREACH, _) if ip.is_multicast() => Some("is a multicast address: TCP has none"),
        (ENETUNREACH, IpAddr::V4(ip)) if ip.is_broadcast() => Some("is the broadcast address"),
        (EINVAL, IpAddr::V4(ip)) if ip.octets()[0] == 0 && !ip.is_unspecified() => {
            Some("is in 0.0.0.0/8, which names no host")
        }
        (EINVAL, IpAddr::V6(ip)) if ip.is_unicast_link_local() => match remote {
            SocketAddr::V6(v6) if v6.scope_id() == 0 => {
                Some("is link-local and no interface is named")
            }
            _ => None,
        },
        (EAFNOSUPPORT, IpAddr::V6(_)) => Some("is an IPv6 address, and the socket takes none"),
        (EAFNOSUPPORT, IpAddr::V4(_)) => Some("is an IPv4 address, and the socket takes none"),
        _ => None,
    }
}

/// The address is wrong in itself, so no route is to blame.
pub(super) fn is_at_fault(f: &Failure, remote: SocketAddr) -> bool {
    fault(f, remote).is_some()
}

fn route_found(f: &Failure, remote: SocketAddr) -> bool {
    f.routes.lookups > 0
        && if remote.is_ipv4() {
            f.routes.error == 0
        } else {
            f.routes.kind == 1
        }
}

fn address_invalid(scene: &Scene<'_>) -> Option<Finding> {
    if let Some(finding) = family_off(scene) {
        return Some(finding);
    }
    let (f, remote) = scene.refused_at_once().filter(|(f, _)| !f.syn_sent)?;
    let ip = remote.ip();
    let found = route_found(f, remote);
    if let Some(why) = fault(f, remote) {
        let finding = Finding::proven(format!("nothing can connect to {ip}: it {why}"));
        let line = if why.contains("link-local") {
            format!(
                "name its interface ([{ip}%eth0] is not taken by nginx: use a global or unique-local address)"
            )
        } else {
            format!(
                "put the backend's own address in place of {ip} in proxy_pass or the upstream block"
            )
        };
        return Some(
            finding
                .advise(line)
                .advise(format!("see: ip route get {ip}")),
        );
    }
    match f.errno {
        ENETUNREACH if found => Some(
            Finding::inferred(
                format!("{ip} is no host's address: its route is a broadcast or multicast one"),
                "the route's type; a route was found, and TCP refuses only those",
            )
            .advise(format!("see: ip route get {ip}  (it says broadcast or multicast); then correct the address")),
        ),
        EINVAL if f.source.is_some_and(|s| s.ip().is_loopback()) && !ip.is_loopback() => Some(
            Finding::inferred(
                format!("the source address that proxy_bind sets is a loopback one and cannot reach {ip}"),
                "the kernel's check itself; EINVAL and a loopback source fit nothing else seen",
            )
            .advise("take proxy_bind away, or give it an address of the interface towards the backend"),
        ),
        EADDRNOTAVAIL => {
            let summary = format!("this host has no source address to reach {ip} from");
            let finding = if found {
                Finding::proven(summary)
            } else {
                Finding::inferred(summary, "the route lookup; connect() failed before a port was looked for")
            };
            let line = if remote.is_ipv6() {
                "IPv6 is off or has no address here: resolver … ipv6=off, or an IPv4 upstream, or give the host an \
                 IPv6 address"
            } else {
                "give the outgoing interface an address"
            };
            Some(finding.advise(line).advise(format!("see: ip route get {ip}; ip addr show; sysctl net.ipv6.conf.all.disable_ipv6")))
        }
        _ => None,
    }
}

/// `socket()` fails: the whole family is off.
fn family_off(scene: &Scene<'_>) -> Option<Finding> {
    let f = scene
        .failure()
        .filter(|f| f.kind() == FailureKind::BeforeConnect)?;
    let Some(Upstream::Inet(remote)) = f.upstream else {
        return None;
    };
    if scene.errno() != Some(EAFNOSUPPORT) || scene.said(Said::BindFailed).is_some() {
        return None;
    }
    let family = if remote.is_ipv4() { "IPv4" } else { "IPv6" };
    Some(
        Finding::proven(format!("no {family} socket can be made for {remote}: the family is off here, or forbidden to the worker"))
            .advise(format!("keep nginx from {family} upstreams (resolver … ipv6=off for names), or turn {family} on"))
            .advise("see: cat /proc/cmdline  (ipv6.disable=1); systemctl show nginx -p RestrictAddressFamilies"),
    )
}

fn bind_failed(scene: &Scene<'_>) -> Option<Finding> {
    let f = scene
        .failure()
        .filter(|f| f.kind() == FailureKind::BeforeConnect)?;
    let logged = scene.said(Said::BindFailed);
    let source = f.source.map(|source| source.ip());
    let errno = scene.errno()?;
    // Only bind() gives these to a call that has a source address to bind.
    let by_errno = source.is_some() && matches!(errno, EADDRNOTAVAIL | EADDRINUSE);
    if logged.is_none() && !by_errno {
        return None;
    }
    let address = source.map_or_else(|| "the source address".to_owned(), |ip| ip.to_string());
    let (why, line) = match errno {
        EADDRNOTAVAIL => (
            "it is no address of this host",
            format!("correct proxy_bind, or give this host {address}: ip addr show"),
        ),
        EADDRINUSE => ("it and its port are in use", "let proxy_bind name no port, so that the kernel chooses".to_owned()),
        EACCES => (
            "its port is privileged",
            "let proxy_bind name a port above 1023, or none; or give the worker CAP_NET_BIND_SERVICE".to_owned(),
        ),
        _ => ("bind() refused it", "correct proxy_bind".to_owned()),
    };
    Some(
        Finding::proven(format!(
            "nginx cannot bind to {address}, {why} ({})",
            errno::name(errno)
        ))
        .advise(line)
        .advise("see: nginx -T | grep -n _bind"),
    )
}
