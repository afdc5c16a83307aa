//! A RST answered our SYN: `no-listener` (this host sent it), `refused-by-peer` (another did).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    cause::{ByHand, Cause},
    drops::{netfilter_drop, no_socket_for_syn},
    finding::Finding,
    hook, logged,
    scene::Scene,
    wording,
};
use crate::event::{
    Connection, Time,
    fact::{Listener, ListenerView, is_one_digit_off},
};

pub(super) static NO_LISTENER: Cause = Cause {
    id: "no-listener",
    title: "nothing listens on the address nginx connects to, and the address is this host's own",
    split: "A RST answers the SYN and this host's own TCP sent it for want of a socket. A firewall's RST is not sent \
            by a socket lookup that failed; a remote host's RST is only received here.",
    log_lines: &["connect() failed (111: Connection refused) while connecting to upstream"],
    logged: &[logged::REFUSED],
    by_hand: ByHand {
        command: "ss -ltnp 'sport = :PORT'",
        shows: "it lists no socket that takes ADDRESS",
    },
    client_gets: "502",
    fix: "Start the backend, or point nginx at where it listens: the same program on another port, the same port on \
          another address ([::1] only), or bound without listen().",
    matches: Some(no_listener),
};

pub(super) static REFUSED_BY_PEER: Cause = Cause {
    id: "refused-by-peer",
    title: "another host answered the SYN with a RST",
    split: "The RST was received, no TCP and no netfilter rule of this host made it. Whether the peer's port is \
            closed or its firewall rejects is not visible from this host.",
    log_lines: &["connect() failed (111: Connection refused) while connecting to upstream"],
    logged: &[logged::REFUSED.beyond_loopback()],
    by_hand: ByHand {
        command: "ip route get IP",
        shows: "its answer does not begin with local, and no rule of this host rejects",
    },
    client_gets: "502",
    fix: "On the peer: does the backend listen on that address and port (not on its loopback alone), and does its \
          firewall let this host in?",
    matches: Some(refused_by_peer),
};

fn no_listener(scene: &Scene<'_>) -> Option<Finding> {
    let (c, remote) = scene.reset_handshake()?;
    let view = scene.facts().listener.as_ref();
    if no_socket_for_syn(c) {
        if let Some(end) = c.translated {
            let finding = Finding::proven(format!(
                "nothing listens on {end}, which {remote} is translated to (DNAT); this host answered the SYN with RST"
            ));
            return Some(
                with_neighbourhood(scene, finding, c, end, view).advise(format!(
                    "or correct the translation of {remote} (a service's target port, a published port): {}",
                    wording::see_translation(remote)
                )),
            );
        }
        let (summary, elsewhere) = if scene.is_local(remote) == Some(false) {
            let summary = format!(
                "nothing listens on {remote}; the RST came from another network namespace of this host (a container)"
            );
            (summary, true)
        } else {
            (
                format!("nothing listens on {remote}; this host answered the SYN with RST"),
                false,
            )
        };
        let finding = Finding::proven(summary);
        return Some(with_neighbourhood(
            scene,
            finding,
            c,
            remote,
            view.filter(|_| !elsewhere),
        ));
    }
    // Without the hook that sees RSTs sent, an empty port of our own is the plain reading: only a
    // rule that answers with RST looks the same, and netfilter's drop would show it.
    let blind = !scene.stands(hook::RST_SENT);
    let empty = view.is_some_and(|view| view.local && view.exact.is_empty());
    if !(blind && empty && netfilter_drop(c).is_none() && scene.stands(hook::DROP)) {
        return None;
    }
    let finding = Finding::inferred(
        format!("nothing listens on {remote}, and the SYN was answered with RST"),
        format!(
            "who sent the RST: the hook {} is not attached",
            hook::RST_SENT
        ),
    );
    Some(with_neighbourhood(
        scene,
        finding.rests_on_complete_records(scene),
        c,
        remote,
        view,
    ))
}

/// Who listens nearby, and what that says to do.
fn with_neighbourhood(
    scene: &Scene<'_>,
    mut finding: Finding,
    c: &Connection,
    remote: SocketAddr,
    view: Option<&ListenerView>,
) -> Finding {
    let now = c.closed;
    let port = remote.port();
    let Some(view) = view else {
        return finding
            .advise(format!("start the backend that should listen on {remote}"))
            .advise(format!(
                "see, in that network namespace: ss -ltnp 'sport = :{port}'"
            ));
    };
    if let Some(listener) = view.exact.first() {
        let since = listener
            .owner
            .as_ref()
            .filter(|owner| owner.since > c.start)
            .map_or(
                "listens there now",
                |_| "started after it and listens there now",
            );
        finding = finding
            .fact("listener", format!("{} {since}", wording::holder(listener, now)))
            .advise(format!(
                "{} listens again: nginx asked while it was not up; wait for readiness before sending traffic, or let \
                 nginx try another server (upstream with two servers, proxy_next_upstream)",
                wording::holder_name(listener)
            ))
            .advise_if(restart_log(listener.owner.as_ref().and_then(|owner| owner.unit.as_deref())));
    } else if let Some((other, address)) = view
        .same_port
        .iter()
        .find_map(|listener| Some((listener, listener.address?)))
    {
        finding = finding
            .fact(
                "nearby",
                format!("{} listens on {address} only", wording::holder(other, now)),
            )
            .advise(same_port_elsewhere(scene, remote, address));
    } else if let Some(owner) = view.bound.first() {
        finding = finding
            .fact("nearby", format!("{} has bound port {port} but does not listen", wording::owner(owner, now)))
            .advise(format!(
                "{} holds the port without listen(): it still starts, or hangs before listen(); look at its log",
                owner.name
            ))
            .advise_if(restart_log(owner.unit.as_deref()));
    } else if let Some((near, address, why)) = likely(view, port) {
        let instead = match reachable(scene, address, remote) {
            Some(address) if scene.translated().is_some() => format!("translate to {address}"),
            Some(address) => wording::pass(scene, address),
            None => format!(
                "make it listen on {}: its loopback is its container's own",
                remote.ip()
            ),
        };
        finding = finding
            .fact(
                "nearby",
                format!("{} listens on {address}{why}", wording::holder(near, now)),
            )
            .advise(format!(
                "start the backend on {remote}; if {} on {address} is it: {instead}",
                near.owner
                    .as_ref()
                    .map_or("what listens", |owner| owner.name.as_str()),
            ));
    } else {
        finding = finding.advise(format!("start the backend that should listen on {remote}"));
    }
    finding.advise(wording::see_port(scene, port))
}

/// A listener on another port that may be the one meant, and why: a stranger's is no advice.
fn likely(view: &ListenerView, port: u16) -> Option<(&Listener, SocketAddr, &'static str)> {
    let is_container = view.container.as_ref().is_some_and(|owner| owner.pid != 1);
    let mut nearby = view
        .nearby
        .iter()
        .filter_map(|listener| Some((listener, listener.address?)));
    nearby.find_map(|(listener, address)| {
        if is_one_digit_off(address.port(), port) {
            Some((listener, address, ", a port one digit off"))
        } else {
            is_container.then_some((listener, address, ", in the same container"))
        }
    })
}

fn same_port_elsewhere(scene: &Scene<'_>, remote: SocketAddr, other: SocketAddr) -> String {
    let alone = match (remote.is_ipv4(), other.is_ipv4(), other.ip().is_loopback()) {
        (_, _, true) if scene.container().is_some() => {
            "on the loopback of its container alone, which nobody outside reaches".to_owned()
        }
        (true, false, _) => "on IPv6 alone".to_owned(),
        (false, true, _) => "on IPv4 alone".to_owned(),
        (_, _, true) => "on the loopback alone".to_owned(),
        _ => format!("on {} alone", other.ip()),
    };
    match reachable(scene, other, remote).filter(|_| scene.translated().is_none()) {
        Some(address) => format!(
            "the backend listens {alone}: make it listen on {}, or {}",
            remote.ip(),
            wording::pass(scene, address)
        ),
        None => {
            let any = match remote.is_ipv4() {
                true => "0.0.0.0",
                false => "[::]",
            };
            if !other.ip().is_loopback() && other.is_ipv4() == remote.is_ipv4() {
                return format!(
                    "the backend listens {alone}: make it listen on {}",
                    remote.ip()
                );
            }
            format!(
                "make the backend listen on {any}:{} in its container: it listens {alone}",
                remote.port()
            )
        }
    }
}

/// Where nginx can reach a listener: a wildcard is no address to connect to, another namespace's
/// loopback cannot be.
fn reachable(scene: &Scene<'_>, listener: SocketAddr, remote: SocketAddr) -> Option<SocketAddr> {
    let is_elsewhere = scene.container().is_some();
    let same_family = listener.is_ipv4() == remote.is_ipv4();
    match listener.ip() {
        ip if !ip.is_unspecified() => (!is_elsewhere || !ip.is_loopback()).then_some(listener),
        _ if same_family => Some(SocketAddr::new(remote.ip(), listener.port())),
        // The address of the other family is not known there.
        _ if is_elsewhere => None,
        IpAddr::V4(_) => Some((Ipv4Addr::LOCALHOST, listener.port()).into()),
        IpAddr::V6(_) => Some((Ipv6Addr::LOCALHOST, listener.port()).into()),
    }
}

fn restart_log(unit: Option<&str>) -> Option<String> {
    unit.filter(|unit| unit.ends_with(".service"))
        .map(|unit| format!("see: journalctl -u {} -e", wording::quoted(unit)))
}

fn refused_by_peer(scene: &Scene<'_>) -> Option<Finding> {
    let (c, remote) = scene.reset_handshake()?;
    let local = scene.is_local(remote);
    if no_socket_for_syn(c) || netfilter_drop(c).is_some() || local == Some(true) {
        return None;
    }
    let took = c
        .rst_received
        .map(|at: Time| wording::duration(at.since(c.start)));
    let after = took
        .map(|took| format!(" after {took}"))
        .unwrap_or_default();
    let finding = Finding::proven(format!("{} answered the SYN with RST{after}; nothing on this host made it", remote.ip()))
        .rests_on_silence_of(scene, &[hook::RST_SENT, hook::DROP])
        .unless(local.is_some(), format!("whether {} is an address of this host could not be asked", remote.ip()))
        .fact("peer", "a closed port and a firewall that resets look the same from here")
        .advise(format!(
            "on {}: does the backend listen on port {}, and on that address rather than its loopback? ss -ltnp 'sport = :{}'",
            remote.ip(),
            remote.port(),
            remote.port()
        ))
        .advise(format!("and does its firewall let this host in? nft list ruleset, on {}", remote.ip()));
    Some(finding)
}
