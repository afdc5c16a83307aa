//! A packet filter: `firewall-reject` answers the SYN, `firewall-drop` swallows it.

use super::{
    cause::{ByHand, Cause},
    drops::{filtered_syn, for_every_syn, netfilter_drop, no_socket_for_syn},
    ending::response_began,
    errno::{self, EACCES, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ENOPROTOOPT, ETIMEDOUT},
    finding::Finding,
    hook, icmp, logged,
    scene::Scene,
    story, wording,
};
use crate::event::{Connection, Upstream};
use std::net::SocketAddr;

pub(super) static FIREWALL_REJECT: Cause = Cause {
    id: "firewall-reject",
    title: "a REJECT rule answered the SYN",
    split: "Netfilter dropped the SYN and an ICMP error, or a RST that no socket lookup sent, came back; or the peer \
            itself answered with an ICMP error that no TCP sends for a closed port.",
    log_lines: &[
        "connect() failed (111: Connection refused) while connecting to upstream",
        "connect() failed (113: No route to host) while connecting to upstream",
    ],
    logged: &[
        logged::connect(&[ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EACCES, ENOPROTOOPT]).inet(),
        logged::SILENT,
    ],
    by_hand: ByHand {
        command: "sudo nft list ruleset | grep -nw reject",
        shows: "a rule matches port PORT (older rules: sudo iptables-save)",
    },
    client_gets: "502",
    fix: "Find the rule (nft list ruleset, iptables-save) on the host that the verdict names and let the worker's \
          connections to the backend's port pass.",
    matches: Some(reject),
};

pub(super) static FIREWALL_DROP: Cause = Cause {
    id: "firewall-drop",
    title: "this host's packet filter swallowed the SYN or its answer, or what followed",
    split: "The kernel freed the SYN, the SYN-ACK on its way back, or packets of the established connection, with the reason \
            NETFILTER_DROP, and nothing answered. A silent network shows SYNs sent again and no drop.",
    log_lines: &[
        "upstream timed out (110: Connection timed out) while connecting to upstream",
        "connect() failed (110: Connection timed out) while connecting to upstream",
        "upstream timed out (110: Connection timed out) while reading response header from upstream",
    ],
    logged: &[
        logged::SILENT,
        logged::GAVE_UP,
        logged::LATE.inet(),
        logged::LATE_IN_HANDSHAKE.inet(),
    ],
    by_hand: ByHand {
        command: "sudo nft list ruleset | grep -nw drop",
        shows: "a rule or a chain's policy matches port PORT and its counter grows",
    },
    client_gets: "504, or 502 where the kernel gives up before nginx's timer",
    fix: "Find the DROP rule or policy (nft list ruleset, iptables-save -c: whose counters grow?) and let the \
          worker's connections to the backend pass; for a dropped SYN-ACK look at the input chain.",
    matches: Some(drop),
};

fn reject(scene: &Scene<'_>) -> Option<Finding> {
    let (c, remote) = scene.handshake()?;
    if no_socket_for_syn(c) || (!c.rst_in_syn_sent && scene.errno() == Some(ETIMEDOUT)) {
        return None;
    }
    let dropped = filtered_syn(c);
    let finding = if c.rst_in_syn_sent {
        if !dropped {
            return None;
        }
        Finding::proven(format!(
            "a REJECT rule of this host answered the SYN to {remote} with RST (tcp-reset)"
        ))
    } else if let Some((kind, code, _)) = c.icmp_sent {
        let error = icmp::Error {
            v6: remote.is_ipv6(),
            kind,
            code,
        };
        match dropped {
            true => by_icmp(remote, error),
            // Without drop reasons, only what no neighbour or router failure looks like is left.
            false if error.is_a_refusal_by_rule() && !scene.stands(hook::DROP) => {
                by_icmp(remote, error).unless(
                    false,
                    format!(
                        "netfilter's drop of the SYN: the hook {} is not attached",
                        hook::DROP
                    ),
                )
            }
            false => return None,
        }
    } else if dropped {
        // An error that is not a timeout, after netfilter dropped the SYN: the rule answered.
        let errno = scene.errno()?;
        match scene.icmp() {
            // ICMPv6 errors are made without an event; this one came back for this very SYN.
            Some(error) => by_icmp(remote, error),
            None => Finding::inferred(
                format!(
                    "a REJECT rule of this host answered the SYN to {remote}: {}",
                    errno::name(errno)
                ),
                "the ICMP error itself was not seen; netfilter dropped the SYN and connect failed",
            ),
        }
    } else {
        return by_peer(scene, remote);
    };
    let finding = match netfilter_drop(c) {
        Some(dropped) => for_every_syn(scene, c, dropped, finding),
        None => finding,
    };
    Some(
        finding
            .advise(rule(c, remote))
            .advise(see_rules(scene, remote)),
    )
}

fn by_icmp(remote: SocketAddr, error: icmp::Error) -> Finding {
    Finding::proven(format!(
        "a REJECT rule of this host answered the SYN to {remote}: {}",
        error.words()
    ))
}

fn by_peer(scene: &Scene<'_>, remote: SocketAddr) -> Option<Finding> {
    let error = scene.icmp().filter(|error| error.is_a_refusal_by_rule())?;
    if scene.icmp_sender()? != remote.ip().to_canonical() {
        return None;
    }
    let whose = if scene.is_local(remote) == Some(true) {
        "this host"
    } else {
        "the peer"
    };
    let finding = Finding::inferred(
        format!(
            "a firewall on {whose} ({}) rejected the SYN: {}",
            remote.ip(),
            error.words()
        ),
        "the rule itself; a TCP stack never answers a SYN so, it sends RST",
    );
    Some(
        finding
            .advise(format!(
                "on {}: let this host's connections to port {} pass",
                remote.ip(),
                remote.port()
            ))
            .advise(format!(
                "see, on {}: nft list ruleset  (firewalld: firewall-cmd --list-all)",
                remote.ip()
            )),
    )
}

fn drop(scene: &Scene<'_>) -> Option<Finding> {
    let Some((c, remote)) = scene.unanswered() else {
        return drop_of_data(scene);
    };
    let dropped = netfilter_drop(c)?;
    let packet = story::packet(dropped);
    let way = if dropped.from_upstream { "from" } else { "to" };
    let summary = format!("this host's packet filter dropped the {packet} {way} {remote}");
    Some(
        for_every_syn(scene, c, dropped, Finding::proven(summary))
            .advise(rule(c, remote))
            .advise(see_rules(scene, remote)),
    )
}

/// The connection was established, and its packets were dropped: a rule that came later, or that
/// lost track of it.
fn drop_of_data(scene: &Scene<'_>) -> Option<Finding> {
    let c = scene
        .failed_before_body()
        .filter(|c| scene.timed_out_waiting() && !response_began(c))?;
    let Upstream::Inet(remote) = c.remote else {
        return None;
    };
    let began = c.reused_at.or(c.established)?;
    let dropped = netfilter_drop(c).filter(|drop| drop.at >= began)?;
    let way = if dropped.from_upstream { "from" } else { "to" };
    let packets = wording::count(u64::from(dropped.count), "packet");
    let finding = Finding::proven(format!(
        "this host's packet filter dropped {packets} {way} {remote} of an established connection; no response came"
    ))
    .unless(
        dropped.count > 1,
        "whether more than that packet was missing: it was not sent again".to_owned(),
    );
    let finding = scene.by_timer(finding);
    Some(
        finding
            .advise(rule(c, remote))
            .advise(see_rules(scene, remote)),
    )
}

/// Netfilter's rules are a network namespace's own, and a container on this host has its own.
fn see_rules(scene: &Scene<'_>, remote: SocketAddr) -> String {
    let see = "see the rules, and whose counters grow: nft list ruleset  (or iptables-save -c)";
    match (scene.container(), scene.is_local(remote)) {
        (Some(_), _) => format!(
            "{see}; in the backend's network namespace too: {}",
            scene.there("nft list ruleset")
        ),
        (None, Some(true)) => see.to_owned(),
        (None, _) => {
            format!("{see}; if the backend is a container here, in its network namespace too")
        }
    }
}

fn rule(c: &Connection, remote: SocketAddr) -> String {
    let returning = netfilter_drop(c).is_some_and(|drop| drop.from_upstream);
    if returning {
        format!(
            "let the answers of {remote} in: an established,related rule before the drop, or the port"
        )
    } else {
        format!(
            "let the workers reach {remote}: no REJECT or DROP for tcp dport {} may match them",
            remote.port()
        )
    }
}
