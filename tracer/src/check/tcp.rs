//! What it means that a TCP peer could not be connected to, or did not speak as it should.

use std::{net::SocketAddr, time::Duration};

use super::{
    finding::Severity,
    tls,
    words::{duration, holder, quoted, who},
};
use crate::event::fact::{Listener, ListenerView, PortsView};

/// What is wrong, and how to fix it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) severity: Severity,
    pub(super) cause: &'static str,
    pub(super) text: String,
    pub(super) fix: String,
}

impl Fault {
    pub(super) fn error(cause: &'static str, text: String, fix: String) -> Self {
        Self {
            severity: Severity::Error,
            cause,
            text,
            fix,
        }
    }

    pub(super) fn warning(cause: &'static str, text: String, fix: String) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(cause, text, fix)
        }
    }

    pub(super) fn note(cause: &'static str, text: String, fix: String) -> Self {
        Self {
            severity: Severity::Note,
            ..Self::error(cause, text, fix)
        }
    }
}

/// What the host shows of a peer.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) listener: Option<ListenerView>,
    pub(super) ports: Option<PortsView>,
    /// A process of nginx's, to look from.
    pub(super) worker: u32,
}

/// `connect()` failed with this error.
pub(super) fn failed(peer: SocketAddr, errno: i32, shown: &Shown) -> Fault {
    let none = ListenerView::default();
    let view = shown.listener.as_ref().unwrap_or(&none);
    let route = view.route_error.map(|errno| errno as i32);
    let worker = shown.worker;
    let ip = peer.ip();
    let see_route = format!("see: nsenter -t {worker} -n ip route get {ip}");
    match errno {
        libc::ECONNREFUSED if view.local => refused_here(peer, view, worker),
        libc::ECONNREFUSED => Fault::error(
            "refused-by-peer",
            format!("{peer} refuses connections; it is not on this host"),
            format!(
                "Start the backend there, or let its firewall pass port {}; see on that host: ss -ltn 'sport = :{}'",
                peer.port(),
                peer.port()
            ),
        ),
        libc::ENETUNREACH => Fault::error(
            "no-route",
            format!("no route leads to {ip}"),
            format!("Add the route, or correct the address; {see_route}"),
        ),
        libc::EHOSTUNREACH if route == Some(errno) => Fault::error(
            "route-unreachable",
            format!("the routing table has {ip} unreachable"),
            format!("Remove the unreachable route; {see_route}"),
        ),
        libc::EACCES if route == Some(errno) => Fault::error(
            "route-prohibit",
            format!("the routing table prohibits {ip}"),
            format!("Remove the prohibit route; {see_route}"),
        ),
        libc::EINVAL if route == Some(errno) => Fault::error(
            "route-blackhole",
            format!("a blackhole route takes what is sent to {ip}"),
            format!("Remove the blackhole route; {see_route}"),
        ),
        libc::EHOSTUNREACH if view.silent_neighbor.is_some() => neighbor(peer, view),
        libc::EHOSTUNREACH if view.local => rejected(peer, view, worker),
        libc::EHOSTUNREACH => Fault::error(
            "icmp-unreachable",
            format!("a router or a firewall reports {ip} unreachable"),
            format!(
                "Check the way to it; see: nsenter -t {worker} -n traceroute -n -T -p {} {ip}",
                peer.port()
            ),
        ),
        libc::EADDRNOTAVAIL => no_address(peer, shown),
        libc::EINVAL | libc::EAFNOSUPPORT | libc::EACCES => Fault::error(
            "address-invalid",
            format!("no connection can be made to {peer}: {}", name(errno)),
            "Correct the address; a link-local one needs its interface, IPv6 may be off".to_owned(),
        ),
        libc::EPERM => Fault::error(
            "firewall-reject",
            format!("this host does not permit a connection to {peer} (EPERM)"),
            format!(
                "Find the rule or the cgroup's program; see: nsenter -t {worker} -n nft list ruleset"
            ),
        ),
        libc::ETIMEDOUT => silent(peer, Duration::ZERO, shown),
        _ => Fault::error(
            "unexplained",
            format!("connect() to {peer} fails: {}", name(errno)),
            format!("Try it as nginx does; see: nsenter -t {worker} -n curl -v telnet://{peer}"),
        ),
    }
}

fn name(errno: i32) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}

fn refused_here(peer: SocketAddr, view: &ListenerView, worker: u32) -> Fault {
    if !view.exact.is_empty() {
        return rejected(peer, view, worker);
    }
    let port = peer.port();
    let there = match &view.container {
        Some(owner) => format!(" in the network namespace of {}", who(owner)),
        None => String::new(),
    };
    let mut text = format!("nothing listens on {peer}{there}");
    let confirm = format!("see: nsenter -t {worker} -n ss -ltnp 'sport = :{port}'");
    let mut fix = format!("Start the backend on {peer}, or correct the address; {confirm}");
    let address = |listener: &Listener| {
        listener
            .address
            .map_or(String::new(), |one| one.to_string())
    };
    if let Some(near) = view.same_port.first() {
        text += &format!("; {} listens on {} only", holder(near), address(near));
        fix = format!(
            "Make it listen on {peer}, or have nginx use {}; {confirm}",
            address(near)
        );
    } else if let Some(owner) = view.bound.first() {
        text += &format!("; {} is bound to it and does not listen", who(owner));
        fix = format!(
            "Find out why {} does not listen: its log; {confirm}",
            owner.name
        );
    } else if let Some(near) = view.nearby.first() {
        text += &format!("; nearby: {} listens on {}", holder(near), address(near));
        fix = format!(
            "Start the backend on {peer}; if {} is it, correct the port; {confirm}",
            address(near)
        );
    }
    if let Some(forwarder) = &view.forwarder {
        text += &format!(" ({} only forwards)", forwarder.name);
    }
    Fault::error("no-listener", text, fix)
}

/// Refused although something listens.
fn rejected(peer: SocketAddr, view: &ListenerView, worker: u32) -> Fault {
    let listens = match view.exact.first() {
        Some(listener) => format!("{} listens on it", holder(listener)),
        None => "it is this host's".to_owned(),
    };
    Fault::error(
        "firewall-reject",
        format!("a firewall of this host rejects connections to {peer}: {listens}"),
        format!(
            "Remove or narrow the REJECT rule for tcp dport {}; see: nsenter -t {worker} -n nft list ruleset",
            peer.port()
        ),
    )
}

fn neighbor(peer: SocketAddr, view: &ListenerView) -> Fault {
    let address = view.silent_neighbor.map_or(peer.ip(), |one| one.address);
    let whose = match address == peer.ip() {
        true => "is not answering on its link".to_owned(),
        false => format!("cannot be reached: its gateway {address} is not answering"),
    };
    Fault::error(
        "neighbor-failed",
        format!("{} {whose}", peer.ip()),
        format!("Start the host, or correct the address; see: ip neigh show {address}"),
    )
}

fn no_address(peer: SocketAddr, shown: &Shown) -> Fault {
    let worker = shown.worker;
    if let Some(ports) = &shown.ports {
        let (low, high) = ports.range;
        let all = u32::from(high.saturating_sub(low)) + 1;
        let used = ports.connected + ports.time_wait;
        if used + used / 8 >= all {
            return Fault::error(
                "ports-exhausted",
                format!(
                    "no ephemeral port is left towards {peer}: {used} of {all} are in use, {} of them in TIME_WAIT",
                    ports.time_wait
                ),
                format!(
                    "Keep connections with keepalive in the upstream block, or widen the range; see: nsenter -t {worker} -n sysctl net.ipv4.ip_local_port_range"
                ),
            );
        }
    }
    Fault::error(
        "address-invalid",
        format!("this host has no address to connect to {peer} from"),
        format!(
            "Give an interface an address of that family, or correct the peer's; see: nsenter -t {worker} -n ip addr"
        ),
    )
}

/// No answer in this time.
pub(super) fn silent(peer: SocketAddr, patience: Duration, shown: &Shown) -> Fault {
    let none = ListenerView::default();
    let view = shown.listener.as_ref().unwrap_or(&none);
    let worker = shown.worker;
    let within = match patience.is_zero() {
        true => String::new(),
        false => format!(" within {}", duration(patience)),
    };
    if view.local
        && let Some(full) = view.exact.iter().find(|one| is_full(one))
    {
        return queue_full(&peer.to_string(), full, view.somaxconn);
    }
    if view.local {
        let listens = match view.exact.first() {
            Some(listener) => format!(
                "{} listens on it and has room in its queue",
                holder(listener)
            ),
            None => "it is this host's".to_owned(),
        };
        return Fault::error(
            "firewall-drop",
            format!(
                "{peer} does not answer{within}: {listens}, so a firewall of this host drops the packets"
            ),
            format!(
                "Remove or narrow the DROP rule for tcp dport {}; see: nsenter -t {worker} -n nft list ruleset",
                peer.port()
            ),
        );
    }
    if view.silent_neighbor.is_some() {
        return neighbor(peer, view);
    }
    Fault::error(
        "syn-timeout",
        format!("{peer} does not answer{within}; it is not on this host"),
        format!(
            "Check that the host is up and that no firewall on the way drops port {}; see: nsenter -t {worker} -n traceroute -n -T -p {} {}",
            peer.port(),
            peer.port(),
            peer.ip()
        ),
    )
}

/// Its queue has more than its limit.
pub(super) fn is_full(listener: &Listener) -> bool {
    listener.queue > listener.limit
}

pub(super) fn queue_full(peer: &str, listener: &Listener, somaxconn: Option<u32>) -> Fault {
    let limit = match somaxconn {
        Some(most) if most == listener.limit => format!("{} (net.core.somaxconn)", listener.limit),
        _ => listener.limit.to_string(),
    };
    Fault::error(
        "accept-queue-full",
        format!(
            "the accept queue of {peer} is full: {} wait, the limit is {limit}; {} does not accept them",
            listener.queue,
            holder(listener)
        ),
        format!(
            "Find out what {} is busy with, give it more workers or a larger backlog; see: ss -lt  (Recv-Q waits, Send-Q limits)",
            listener
                .owner
                .as_ref()
                .map_or("the backend", |owner| owner.name.as_str())
        ),
    )
}

/// The TLS handshake did not begin as it should.
pub(super) fn handshake(peer: &str, reply: &tls::Reply, name: Option<&str>) -> Option<Fault> {
    let cause = "tls-handshake-failed";
    let sent = match name {
        Some(name) => format!("with the name {name}"),
        None => "without a name (SNI)".to_owned(),
    };
    let check = format!(
        "openssl s_client -connect {}{}",
        quoted(peer),
        match name {
            Some(name) => format!(" -servername {}", quoted(name)),
            None => " -noservername".to_owned(),
        }
    );
    Some(match reply {
        tls::Reply::Hello => return None,
        tls::Reply::Other(begins) => Fault::error(
            cause,
            format!(
                "{peer} does not speak TLS: it answers {:?}",
                String::from_utf8_lossy(begins)
            ),
            "Use http:// (or grpc://, proxy_ssl off) for this port, or correct the port".to_owned(),
        ),
        tls::Reply::Alert(code) => {
            let fix = match (code, name) {
                (112 | 40, None) => {
                    "Set proxy_ssl_server_name on, so that the server can choose a certificate"
                        .to_owned()
                }
                (112, Some(_)) => "Set proxy_ssl_name to a name that the server has".to_owned(),
                (70 | 71, _) => {
                    "Allow a protocol version in proxy_ssl_protocols that the server has".to_owned()
                }
                _ => "Compare the versions, ciphers and names that both sides allow".to_owned(),
            };
            Fault::error(
                cause,
                format!(
                    "{peer} refuses the TLS handshake {sent}: {}",
                    tls::alert(*code)
                ),
                format!("{fix}; see: {check}"),
            )
        }
        tls::Reply::Closed => Fault::error(
            cause,
            format!("{peer} closes the connection in the TLS handshake, {sent}"),
            format!("Check whether this port speaks TLS, and its log; see: {check}"),
        ),
    })
}
