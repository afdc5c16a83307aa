//! A SYN was sent, and the handshake did not end.

use super::*;
use crate::event::{
    Icmp,
    fact::{NameView, NamesView, SilentNeighbor},
};

fn received(kind: u8, code: u8, sender: &str, remote: &str) -> Facts {
    let icmp = Icmp {
        at: after(50_000),
        netns: 1,
        kind,
        code,
        sender: sender.parse().expect("an address"),
        source: address("10.0.0.1:40000"),
        destination: address(remote),
    };
    Facts {
        icmp: Some(icmp),
        ..local(false)
    }
}

#[test]
fn a_refused_port_names_the_nearest_listener() {
    let nearby = ListenerView {
        same_port: vec![listener("[::1]:3000", 0, 511)],
        ..view(true)
    };
    let verdict = verdict(&one(no_socket("127.0.0.1:3000"), listening(nearby)));
    assert_eq!((verdict.cause, verdict.confidence), ("no-listener", Proven));
    assert_eq!(verdict.errno.as_deref(), Some("ECONNREFUSED"));
    assert_eq!(
        verdict.summary,
        "nothing listens on 127.0.0.1:3000; this host answered the SYN with RST"
    );
    let texts: Vec<&str> = verdict.evidence.iter().map(|e| e.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "worker 1234 connects to 127.0.0.1:3000",
            "RST sent by this host: no socket",
            "connect fails: ECONNREFUSED",
            "node (pid 4242, started 25.0 s ago) listens on [::1]:3000 only",
        ]
    );
    assert_eq!(
        verdict.advice,
        [
            "the backend listens on IPv6 alone: make it listen on 127.0.0.1, or proxy_pass http://[::1]:3000",
            "see: ss -ltnp 'sport = :3000'"
        ]
    );
}

#[test]
fn advice_for_an_empty_port_says_what_is_nearest() {
    let first = |view: ListenerView| {
        verdict(&one(no_socket("10.0.0.1:3000"), listening(view))).advice[0].clone()
    };
    let bound = ListenerView {
        bound: vec![node()],
        ..view(true)
    };
    assert!(first(bound).starts_with("node holds the port without listen()"));
    let loopback = ListenerView {
        same_port: vec![listener("127.0.0.1:3000", 0, 9)],
        ..view(true)
    };
    assert!(
        first(loopback)
            .starts_with("the backend listens on the loopback alone: make it listen on 10.0.0.1")
    );
    let other_port = ListenerView {
        nearby: vec![listener("0.0.0.0:3001", 0, 9)],
        ..view(true)
    };
    assert!(first(other_port).ends_with("proxy_pass http://10.0.0.1:3001"));
    let stranger = ListenerView {
        nearby: vec![listener("0.0.0.0:2024", 0, 9)],
        ..view(true)
    };
    assert_eq!(
        first(stranger.clone()),
        "start the backend that should listen on 10.0.0.1:3000"
    );
    let same_container = ListenerView {
        container: Some(node()),
        ..stranger
    };
    assert!(first(same_container).ends_with("proxy_pass http://10.0.0.1:2024"));
    let on_its_loopback = ListenerView {
        same_port: vec![listener("127.0.0.1:3000", 0, 9)],
        container: Some(node()),
        ..view(true)
    };
    assert!(first(on_its_loopback).starts_with("make the backend listen on 0.0.0.0:3000"));
    let back = ListenerView {
        exact: vec![listener("0.0.0.0:3000", 0, 9)],
        ..view(true)
    };
    assert!(first(back).starts_with("node listens again"));
    assert_eq!(
        first(view(true)),
        "start the backend that should listen on 10.0.0.1:3000"
    );
}

#[test]
fn a_container_s_address_is_this_host_s() {
    let view = ListenerView {
        container: Some(node()),
        ..view(true)
    };
    let verdict = verdict(&one(no_socket("10.0.0.2:3000"), listening(view)));
    assert_eq!((verdict.cause, verdict.confidence), ("no-listener", Proven));
    let says = |text: &str| verdict.evidence.iter().any(|e| e.text.contains(text));
    assert!(says("10.0.0.2 is the address of a container on this host"));
    let command = "see: nsenter -t 4242 -n ss -ltnp 'sport = :3000'";
    assert_eq!(verdict.advice.last().map(String::as_str), Some(command));
}

#[test]
fn nothing_on_this_host_is_not_proven_where_a_container_may_have_the_address() {
    let view = ListenerView {
        unclear: true,
        ..view(false)
    };
    let refused = verdict(&one(refused("10.0.0.2:3000"), listening(view)));
    assert_eq!(
        (refused.cause, refused.confidence),
        ("refused-by-peer", Inferred)
    );
}

#[test]
fn a_refusal_is_told_by_who_sent_the_rst() {
    let remote = "10.0.0.5:3000";
    let by_drop = Connection {
        drops: vec![drop("NO_SOCKET", 0x02, 1)],
        ..refused(remote)
    };
    let by_rule = Connection {
        drops: vec![drop("NETFILTER_DROP", 0x02, 1)],
        ..refused(remote)
    };
    let cases = [
        (
            one(no_socket("10.0.0.1:1"), local(true)),
            ("no-listener", Proven),
        ),
        // The record of a RST sent is not weakened by what was lost elsewhere.
        (
            lossy(one(no_socket("10.0.0.1:1"), local(true))),
            ("no-listener", Proven),
        ),
        (
            one(no_socket(remote), local(false)),
            ("no-listener", Proven),
        ),
        (one(by_drop, local(true)), ("no-listener", Proven)),
        (
            one(refused(remote), local(false)),
            ("refused-by-peer", Proven),
        ),
        (
            lossy(one(refused(remote), local(false))),
            ("refused-by-peer", Inferred),
        ),
        (
            one(refused(remote), Facts::default()),
            ("refused-by-peer", Inferred),
        ),
        (
            without(one(refused(remote), local(false)), "drop_packet"),
            ("refused-by-peer", Inferred),
        ),
        (
            one(by_rule.clone(), local(false)),
            ("firewall-reject", Proven),
        ),
        (
            one(by_rule.clone(), local(true)),
            ("firewall-reject", Proven),
        ),
        // A rule dropped one SYN; the next may have reached the peer, which refused it.
        (
            one(
                Connection {
                    syn_retransmits: 1,
                    ..by_rule
                },
                local(false),
            ),
            ("firewall-reject", Inferred),
        ),
        // The filter drops what the upstream sends: no rule that answers us.
        (
            one(
                Connection {
                    drops: vec![drop("NETFILTER_DROP", 0x12, 1)],
                    ..refused("127.0.0.1:3000")
                },
                local(true),
            ),
            ("unexplained", Unknown),
        ),
        (
            without(
                one(
                    Connection {
                        rst_in_syn_sent: false,
                        rst_received: None,
                        ..no_socket("127.0.0.1:3000")
                    },
                    local(true),
                ),
                "receive_reset",
            ),
            ("no-listener", Proven),
        ),
        // A RST for an address of ours that nothing here sent: translated elsewhere, perhaps. No
        // guess.
        (
            one(refused("127.0.0.1:3000"), local(true)),
            ("unexplained", Unknown),
        ),
        (
            without(one(refused("10.0.0.1:1"), local(true)), "send_reset_plain"),
            ("no-listener", Inferred),
        ),
    ];
    for (i, (case, expected)) in cases.iter().enumerate() {
        assert_eq!(judged(case), *expected, "case {i}");
    }
}

#[test]
fn another_network_namespace_is_named() {
    let verdict = verdict(&one(no_socket("172.17.0.2:80"), local(false)));
    assert!(
        verdict
            .summary
            .contains("another network namespace of this host"),
        "{}",
        verdict.summary
    );
}

#[test]
fn icmp_answers_are_told_by_who_made_them() {
    let remote = "10.0.0.5:3000";
    let made = |kind, code, drops: Vec<Drop>| Connection {
        state: 2,
        icmp_sent: Some((kind, code, after(30_000))),
        drops,
        ..handshake(remote)
    };
    let filtered = || vec![drop("NETFILTER_DROP", 0x02, 1)];
    let failed = |errno| Connection {
        error: Some((errno, after(60_000))),
        ..handshake(remote)
    };
    let neighbour = |drops| Connection {
        error: Some((113, after(3 * SECOND))),
        closed: after(3 * SECOND),
        syn_retransmits: 2,
        ..made(3, 1, drops)
    };
    let cases = [
        (
            one(made(3, 3, filtered()), local(true)),
            ("firewall-reject", Proven),
        ),
        (
            one(made(3, 1, filtered()), local(true)),
            ("firewall-reject", Proven),
        ),
        (
            one(made(3, 13, filtered()), local(false)),
            ("firewall-reject", Proven),
        ),
        (
            without(one(made(3, 3, vec![]), local(true)), "drop_packet"),
            ("firewall-reject", Inferred),
        ),
        (
            without(one(made(3, 1, vec![]), local(true)), "drop_packet"),
            ("unexplained", Unknown),
        ),
        (
            one(
                Connection {
                    drops: filtered(),
                    ..failed(111)
                },
                local(true),
            ),
            ("firewall-reject", Inferred),
        ),
        (
            one(failed(111), received(3, 3, "10.0.0.5", remote)),
            ("firewall-reject", Inferred),
        ),
        (
            one(failed(113), received(3, 13, "10.0.0.5", remote)),
            ("firewall-reject", Inferred),
        ),
        (
            one(failed(113), received(3, 13, "10.9.9.9", remote)),
            ("icmp-unreachable", Proven),
        ),
        (
            one(failed(113), received(3, 1, "10.9.9.9", remote)),
            ("icmp-unreachable", Proven),
        ),
        (
            one(failed(113), local(false)),
            ("icmp-unreachable", Inferred),
        ),
        (
            lossy(one(failed(113), local(false))),
            ("unexplained", Unknown),
        ),
        (
            without(one(failed(111), local(false)), "receive_reset"),
            ("unexplained", Unknown),
        ),
        (one(failed(113), local(true)), ("unexplained", Unknown)),
        (
            one(neighbour(vec![drop("NEIGH_FAILED", 0x02, 3)]), local(false)),
            ("neighbor-failed", Proven),
        ),
        (
            one(neighbour(vec![]), local(false)),
            ("neighbor-failed", Inferred),
        ),
        (
            one(
                neighbour(vec![drop("NETFILTER_DROP", 0x02, 3)]),
                local(false),
            ),
            ("firewall-reject", Proven),
        ),
        // Only the first of three SYNs was dropped.
        (
            one(neighbour(filtered()), local(false)),
            ("firewall-reject", Inferred),
        ),
    ];
    for (i, (case, expected)) in cases.iter().enumerate() {
        assert_eq!(judged(case), *expected, "case {i}: {:#?}", verdict(case));
    }
}

#[test]
fn an_error_inside_connect_has_its_errno_from_the_icmp_error() {
    let c = Connection {
        state: 2,
        icmp_sent: Some((3, 3, after(30_000))),
        drops: vec![drop("NETFILTER_DROP", 0x02, 1)],
        ..handshake("127.0.0.1:3000")
    };
    let verdict = verdict(&one(c, local(true)));
    assert_eq!(verdict.errno.as_deref(), Some("ECONNREFUSED"));
    assert!(
        verdict.summary.contains("port unreachable (ICMP 3/3)"),
        "{}",
        verdict.summary
    );
}

#[test]
fn silence_is_told_by_what_this_host_did_with_the_packets() {
    let (here, there) = ("10.0.0.1:3000", "10.0.0.5:3000");
    let with = |remote, drops: Vec<Drop>| Connection {
        drops,
        ..silent(remote)
    };
    let full = |queue| Facts {
        queue_at_retransmit: Some(Box::new(ListenerView {
            exact: vec![listener(here, queue, 128)],
            ..view(true)
        })),
        ..local(true)
    };
    let alone = |source: &str| {
        listening(ListenerView {
            silent_neighbor: Some(SilentNeighbor {
                address: "10.0.0.5".parse().unwrap(),
                source: source.parse().unwrap(),
            }),
            ..view(false)
        })
    };
    let by_kernel = Connection {
        state: 7,
        error: Some((110, after(127 * SECOND))),
        ..silent(there)
    };
    let unreachable = Connection {
        state: 7,
        error: Some((113, after(3 * SECOND))),
        ..silent(there)
    };
    let short = Connection {
        syn_retransmits: 0,
        closed: after(300 * MS),
        ..silent(there)
    };
    let cases = [
        (one(silent(there), local(false)), ("syn-timeout", Proven)),
        (one(by_kernel, local(false)), ("syn-timeout", Proven)),
        (one(short.clone(), local(false)), ("syn-timeout", Inferred)),
        (
            one(silent(there), alone("10.0.0.1")),
            ("neighbor-failed", Proven),
        ),
        (one(short, alone("10.0.0.1")), ("neighbor-failed", Inferred)),
        // Whatever else was not seen.
        (
            skipping(one(unreachable, alone("10.0.0.1"))),
            ("neighbor-failed", Proven),
        ),
        // It is on another way than the SYN's.
        (
            one(silent(there), alone("10.0.3.1")),
            ("syn-timeout", Proven),
        ),
        (
            one(
                with(there, vec![drop("NETFILTER_DROP", 0x02, 3)]),
                alone("10.0.0.1"),
            ),
            ("firewall-drop", Proven),
        ),
        (
            one(silent(there), Facts::default()),
            ("syn-timeout", Inferred),
        ),
        (
            lossy(one(silent(there), local(false))),
            ("syn-timeout", Inferred),
        ),
        (
            without(one(silent(there), local(false)), "drop_packet"),
            ("syn-timeout", Inferred),
        ),
        // What ends every connection's life is no reason.
        (
            one(
                with(there, vec![drop("QUEUE_PURGE", 0x02, 1)]),
                local(false),
            ),
            ("syn-timeout", Proven),
        ),
        (
            one(
                with(there, vec![drop("NETFILTER_DROP", 0x02, 3)]),
                local(false),
            ),
            ("firewall-drop", Proven),
        ),
        (
            one(
                with(here, vec![drop("NETFILTER_DROP", 0x12, 5)]),
                local(true),
            ),
            ("firewall-drop", Proven),
        ),
        (
            one(
                with(there, vec![drop("NETFILTER_DROP", 0x02, 1)]),
                local(false),
            ),
            ("firewall-drop", Inferred),
        ),
        (
            lossy(one(
                with(there, vec![drop("NETFILTER_DROP", 0x02, 3)]),
                local(false),
            )),
            ("firewall-drop", Proven),
        ),
        (
            one(
                with(there, vec![drop("BPF_CGROUP_EGRESS", 0x02, 3)]),
                local(false),
            ),
            ("cgroup-denied", Proven),
        ),
        (
            one(
                with(there, vec![drop("BPF_CGROUP_EGRESS", 0x02, 1)]),
                local(false),
            ),
            ("cgroup-denied", Inferred),
        ),
        (
            one(
                with(there, vec![drop("NEIGH_FAILED", 0x02, 3)]),
                local(false),
            ),
            ("neighbor-failed", Proven),
        ),
        (
            one(
                with(there, vec![drop("IP_RPFILTER", 0x12, 3)]),
                local(false),
            ),
            ("unexplained", Unknown),
        ),
        (
            one(silent(here), full(129)),
            ("accept-queue-full", Inferred),
        ),
        // At its limit a queue still takes one.
        (one(silent(here), full(128)), ("unexplained", Unknown)),
        (one(silent(here), local(true)), ("unexplained", Unknown)),
        (
            one(
                with(here, vec![drop("TCP_LISTEN_OVERFLOW", 0x02, 3)]),
                local(true),
            ),
            ("accept-queue-full", Proven),
        ),
    ];
    for (i, (case, expected)) in cases.iter().enumerate() {
        assert_eq!(judged(case), *expected, "case {i}: {:#?}", verdict(case));
    }
}

#[test]
fn a_rule_that_rejects_the_syn_ack_answers_the_upstream_not_us() {
    let c = Connection {
        icmp_sent: Some((3, 3, after(30_000))),
        drops: vec![drop("NETFILTER_DROP", 0x12, 3)],
        ..silent("10.0.0.1:3000")
    };
    let case = request(504, vec![attempt(c, local(true))]);
    assert_eq!(judged(&case), ("firewall-drop", Proven));
    assert_eq!(verdict(&case).errno.as_deref(), Some("ETIMEDOUT"));
}

#[test]
fn a_drop_without_a_cause_is_named_all_the_same() {
    let c = Connection {
        drops: vec![drop("IP_RPFILTER", 0x12, 3)],
        ..silent("10.0.0.5:80")
    };
    let verdict = verdict(&one(c, local(false)));
    assert!(
        verdict.summary.contains("IP_RPFILTER"),
        "{}",
        verdict.summary
    );
}

#[test]
fn a_full_queue_names_its_listener_and_limit() {
    let here = "10.0.0.1:3000";
    let full = ListenerView {
        exact: vec![listener(here, 129, 128)],
        ..view(true)
    };
    let verdict = verdict(&one(silent(here), listening(full)));
    let listener = verdict
        .evidence
        .iter()
        .find(|e| e.event == "listener")
        .expect("the listener");
    assert_eq!(
        listener.text,
        "node (pid 4242, started 30.0 s ago): 129 wait in its accept queue, limit 128, net.core.somaxconn 4096"
    );
    assert!(verdict.advice[1].contains("node asked listen() for 128; up to 4096 need no sysctl"));
}

/// A container's configuration may name anything: no shell runs a part of it.
#[test]
fn a_hostile_host_name_is_quoted_in_commands() {
    let mut case = one(no_socket("10.0.0.5:80"), local(true));
    for (now, advice) in [(Vec::new(), 1), (vec!["10.0.0.6".parse().unwrap()], 0)] {
        case.host.names = Some(NamesView {
            names: vec![NameView {
                name: "`id`;app".to_owned(),
                now,
                ..NameView::default()
            }],
        });
        let verdict = verdict(&case);
        let command = &verdict.advice[advice];
        assert!(command.ends_with("getent hosts '`id`;app'"), "{command}");
    }
}
