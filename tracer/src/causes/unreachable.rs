//! The network said no: `icmp-unreachable` (a router's ICMP error), `neighbor-failed` (nobody
//! answers on the link).

use super::{
    cause::{ByHand, Cause},
    drops::{netfilter_drop, telling_drops},
    errno::{self, EACCES, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ENOPROTOOPT, ETIMEDOUT},
    finding::Finding,
    hook, icmp, logged,
    scene::Scene,
    wording,
};
use crate::event::Connection;
use std::net::SocketAddr;

pub(super) static ICMP_UNREACHABLE: Cause = Cause {
    id: "icmp-unreachable",
    title: "a router, or the peer, answered the SYN with an ICMP error",
    split: "The ICMP error was received: its type, code and sender. This host made none and dropped nothing.",
    log_lines: &[
        "connect() failed (113: No route to host) while connecting to upstream",
        "connect() failed (111: Connection refused) while connecting to upstream",
        "connect() failed (101: Network is unreachable) while connecting to upstream",
    ],
    logged: &[
        logged::connect(&[ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EACCES, ENOPROTOOPT])
            .beyond_loopback(),
        logged::SILENT.beyond_loopback(),
    ],
    by_hand: ByHand {
        command: "sudo tcpdump -nvi any 'icmp or icmp6'",
        shows: "an unreachable error that names IP arrives",
    },
    client_gets: "502",
    fix: "Ask the sender's administrator: its route to the upstream is gone, or a filter there prohibits the \
          connection.",
    matches: Some(icmp_unreachable),
};

pub(super) static NEIGHBOR_FAILED: Cause = Cause {
    id: "neighbor-failed",
    title: "no ARP or neighbour discovery answer on the link",
    split: "The kernel freed the waiting SYNs with a NEIGH_ reason, or made a host-unreachable error itself after the \
            seconds that neighbour discovery takes; where nginx gives up before, the neighbour table says who is silent.",
    log_lines: &[
        "connect() failed (113: No route to host) while connecting to upstream",
        "upstream timed out (110: Connection timed out) while connecting to upstream",
    ],
    logged: &[
        logged::connect(&[EHOSTUNREACH]).beyond_loopback(),
        logged::SILENT.beyond_loopback(),
    ],
    by_hand: ByHand {
        command: "ip neigh show IP",
        shows: "it says FAILED or INCOMPLETE (of a routed address: ask for its gateway)",
    },
    client_gets: "502, about 3 s later (504 if nginx's timer is shorter)",
    fix: "The upstream's host (or the gateway to it) is down, moved, or in another VLAN: ip neigh, then the switch \
          or the machine itself.",
    matches: Some(neighbor_failed),
};

fn neigh_drop(c: &Connection) -> bool {
    c.drops.iter().any(|drop| drop.reason.starts_with("NEIGH_"))
}

/// ARP and neighbour discovery try three times, a second apart.
const TRIES: u64 = 1_000_000_000;

/// This host's own report that the neighbour is silent: it comes after ARP's tries, never at once
/// as a rule's does. (That the SYN was sent again is no sign: it is not while the first waits for
/// the neighbour's address.)
fn own_report(scene: &Scene<'_>, c: &Connection) -> bool {
    (c.icmp_sent.is_some() || from_here(scene, c))
        && netfilter_drop(c).is_none()
        && scene.icmp().is_some_and(icmp::Error::is_a_silent_neighbour)
        && (c.syn_retransmits > 0 || c.closed.since(c.start) >= TRIES)
}

/// The ICMP error came from the very address that the SYN left from.
fn from_here(scene: &Scene<'_>, c: &Connection) -> bool {
    let local = c.local.map(|local| local.ip().to_canonical());
    local.is_some() && scene.icmp_sender() == local
}

fn neighbor_failed(scene: &Scene<'_>) -> Option<Finding> {
    let (c, remote) = scene.handshake().filter(|(c, _)| !c.rst_in_syn_sent)?;
    if netfilter_drop(c).is_some() {
        return None;
    }
    let summary = format!(
        "nobody on the link answered for {} or its gateway (ARP, neighbour discovery)",
        remote.ip()
    );
    let silent = scene.silent_neighbor();
    let finding = if neigh_drop(c) {
        Finding::proven(summary)
    } else if scene.unanswered().is_some() && silent.is_some() && telling_drops(c).next().is_none()
    {
        let waited = c.closed.since(c.start);
        Finding::proven(summary).unless(
            waited >= TRIES,
            format!(
                "whether it would have answered: nginx gave up after {}",
                wording::duration(waited)
            ),
        )
    } else if silent.is_some() && scene.errno() == Some(EHOSTUNREACH) {
        Finding::proven(summary)
    } else if own_report(scene, c) {
        Finding::inferred(
            summary,
            "the neighbour's failure itself; this host reported its own try as unreachable",
        )
    } else {
        return None;
    };
    let finding = match silent {
        Some(neighbor) => finding.fact(
            "neighbor",
            format!("{neighbor} was asked for on the link and has not answered"),
        ),
        None => finding,
    };
    Some(
        finding
            .advise(format!(
                "is {} up, on this link, in this VLAN? ip route get {}",
                remote.ip(),
                remote.ip()
            ))
            .advise("see: ip neigh show nud failed nud incomplete"),
    )
}

fn icmp_unreachable(scene: &Scene<'_>) -> Option<Finding> {
    let (c, remote) = scene
        .handshake()
        .filter(|(c, _)| !c.rst_in_syn_sent && c.rst_received.is_none())?;
    if c.icmp_sent.is_some() || telling_drops(c).next().is_some() || own_report(scene, c) {
        return None;
    }
    let Some(error) = scene.icmp() else {
        return unseen(scene, c, remote);
    };
    let sender = scene.icmp_sender()?;
    let from_peer = sender == remote.ip().to_canonical();
    if !from_peer && from_here(scene, c) {
        return None;
    }
    // A rule's refusal from the peer itself is a firewall's; an error that TCP shrugs off explains
    // nothing.
    if (from_peer && error.is_a_refusal_by_rule())
        || error.errno().is_none()
        || scene.errno() == Some(ETIMEDOUT)
    {
        return None;
    }
    let who = if from_peer {
        "the peer itself"
    } else {
        "a router on the way"
    };
    Some(
        Finding::proven(format!(
            "{sender}, {who}, answered the SYN to {remote}: {}",
            error.words()
        ))
        .advise(if from_peer {
            format!(
                "on {sender}: why does it not take traffic for itself? ip route get {}",
                remote.ip()
            )
        } else {
            format!(
                "on {sender}: its route or filter towards {}: ip route get {}",
                remote.ip(),
                remote.ip()
            )
        })
        .advise(format!(
            "see: traceroute -T -p {} {}",
            remote.port(),
            remote.ip()
        )),
    )
}

/// An error that only an ICMP message brings, though none was seen.
fn unseen(scene: &Scene<'_>, c: &Connection, remote: SocketAddr) -> Option<Finding> {
    let (errno, _) = c
        .error
        .filter(|(errno, _)| matches!(*errno, 101 | 111 | 113))?;
    let hooks = [hook::RST_RECEIVED, hook::DROP, hook::ICMP_SENT];
    let in_sight = hooks.into_iter().all(|hook| scene.stands(hook)) && scene.is_complete();
    // After the last SYN the kernel may report a route lost on the way instead of ETIMEDOUT.
    if !in_sight
        || c.syn_retransmits >= 5
        || scene.is_local(remote) != Some(false)
        || scene.silent_neighbor().is_some()
    {
        return None;
    }
    Some(
        Finding::inferred(
            format!("the network answered the SYN to {remote} with an error: {}", errno::name(errno)),
            "the ICMP error and its sender; no RST came, nothing on this host dropped or answered it",
        )
        .rests_on_silence_of(scene, &[hook::ICMP_RECEIVED])
        .fact("waited", format!("{} from the SYN to the error", wording::duration(c.closed.since(c.start))))
        .advise(format!("see who answers: traceroute -T -p {} {}", remote.port(), remote.ip()))
        .advise(format!("see: tcpdump -ni any 'icmp or icmp6'  while connecting to {remote}")),
    )
}
