//! connect() refused, errno 111, 113 or 13: nobody listens, a firewall rejects, a remote host
//! refuses. One errno, several causes, over loopback, a cable to another namespace and a slow link.

use anyhow::Result;
use tests::backend::listen;
use tests::expected::Expected;
use tests::faults::{firewall, listeners};
use tests::kernel;
use tests::stage::{Fault, Load, Stage};
use tests::tun::{self, Host, Tun};
use tests::veth;

fn no_listener(upstream: &str) -> Expected {
    Expected::new("no-listener", upstream, "ECONNREFUSED")
}

fn reject(upstream: &str, errno: &'static str) -> Fault {
    let expected = Expected::new("firewall-reject", upstream, errno);
    // An ICMPv6 error is made without an event: the drop's reason and the error itself prove it.
    let names_drops = kernel::has("SKB_DROP_REASON_NETFILTER_DROP");
    let expected = expected.proven_if(!upstream.starts_with('[') || names_drops);
    Fault::proxy(expected, "")
}

#[test]
fn a_closed_port_has_no_listener() -> Result<()> {
    let v4 = Fault::proxy(no_listener("127.0.0.1:9001"), "");
    let v6 = Fault::proxy(no_listener("[::1]:9001"), "");
    Stage::new()?.check(vec![v4, v6]).map(drop)
}

#[test]
fn a_closed_port_names_the_listener_on_the_other_address() -> Result<()> {
    let stage = Stage::new()?;
    let _on_v6_alone = listen(&stage.netns, "[::1]:9001")?;
    let expected = no_listener("127.0.0.1:9001").says("[::1]:9001");
    stage.check(vec![Fault::proxy(expected, "")]).map(drop)
}

#[test]
fn a_closed_port_names_the_other_port_of_the_same_program() -> Result<()> {
    let stage = Stage::new()?;
    let _nearby = listen(&stage.netns, "127.0.0.1:9002")?;
    let expected = no_listener("127.0.0.1:9001").says("127.0.0.1:9002");
    stage.check(vec![Fault::proxy(expected, "")]).map(drop)
}

#[test]
fn a_bound_socket_without_listen_is_named() -> Result<()> {
    let stage = Stage::new()?;
    let _bound = listeners::bound(&stage.netns, "127.0.0.1:9001")?;
    let mut expected = no_listener("127.0.0.1:9001");
    if kernel::has("TCP_BOUND_INACTIVE") {
        expected = expected.says("bound");
    } else {
        let reason = "this kernel does not list such sockets (6.8 does): no-listener, without who bound the port";
        kernel::lesser("a_bound_socket_without_listen_is_named", reason);
    }
    stage.check(vec![Fault::proxy(expected, "")]).map(drop)
}

#[test]
fn a_reject_rule_on_the_way_out_is_no_closed_port() -> Result<()> {
    reject_rules("output")
}

#[test]
fn a_reject_rule_on_the_way_in_is_no_closed_port() -> Result<()> {
    reject_rules("input")
}

fn reject_rules(hook: &str) -> Result<()> {
    let stage = Stage::new()?;
    let netns = match hook {
        "input" => stage.netns.backends(),
        _ => &stage.netns,
    };
    // Listeners stand behind the rules: only the rules refuse.
    let _behind = ["127.0.0.1:9002", "127.0.0.1:9003", "[::1]:9002"]
        .map(|address| listen(&stage.netns, address));
    for rule in [
        "tcp dport 9002 reject",
        "tcp dport 9003 reject with tcp reset",
        "tcp dport 9004 reject with icmpx type admin-prohibited",
        "tcp dport 9005 reject with icmpx type host-unreachable",
    ] {
        firewall::rule(netns, hook, rule)?;
    }
    let faults = vec![
        Fault::proxy(no_listener("127.0.0.1:9001"), ""),
        reject("127.0.0.1:9002", "ECONNREFUSED"),
        reject("127.0.0.1:9003", "ECONNREFUSED"),
        reject("127.0.0.1:9004", "EHOSTUNREACH"),
        reject("127.0.0.1:9005", "EHOSTUNREACH"),
        reject("[::1]:9002", "ECONNREFUSED"),
        reject("[::1]:9003", "ECONNREFUSED"),
        // Over IPv6 this answer has the errno of a prohibit route.
        reject("[::1]:9004", "EACCES"),
        reject("[::1]:9005", "EHOSTUNREACH"),
    ];
    // An ICMPv6 error inside connect() does not wake nginx, the one for the next SYN does, after 1
    // s.
    let load = Load {
        concurrency: 20,
        ..Load::default()
    };
    stage.check_with(faults, load).map(drop)
}

#[test]
fn across_a_cable_the_same_refusals_are_distinguished() -> Result<()> {
    let stage = Stage::new()?;
    let far = veth::connect(&stage.netns)?;
    // Ours reject 9002 and 9003 on the way out, the far end 9004 and 9005 on the way in.
    for (netns, hook, rule) in [
        (&stage.netns, "output", "tcp dport 9002 reject"),
        (
            &stage.netns,
            "output",
            "tcp dport 9003 reject with tcp reset",
        ),
        (&far, "input", "tcp dport 9004 reject"),
        (&far, "input", "tcp dport 9005 reject with tcp reset"),
    ] {
        firewall::rule(netns, hook, rule)?;
    }
    let at = |port: u16| format!("{}:{port}", veth::FAR);
    let v6 = format!("[{}]:9001", veth::FAR_V6);
    stage
        .check(vec![
            // The far namespace is this host's: its stack is seen answering for want of a socket.
            Fault::proxy(no_listener(&at(9001)), ""),
            Fault::proxy(no_listener(&v6), ""),
            reject(&at(9002), "ECONNREFUSED"),
            reject(&at(9003), "ECONNREFUSED"),
            reject(&at(9004), "ECONNREFUSED"),
            reject(&at(9005), "ECONNREFUSED"),
        ])
        .map(drop)
}

#[test]
fn across_a_slow_link_a_remote_refusal_is_not_our_own_firewall() -> Result<()> {
    let stage = Stage::new()?;
    let _link = Tun::new(&stage.netns, &[Host::Refusing, Host::Rejecting(3)])?;
    for rule in [
        "tcp dport 9002 reject",
        "tcp dport 9003 reject with tcp reset",
    ] {
        firewall::rule(&stage.netns, "output", rule)?;
    }
    let at = |host: u8, port: u16| format!("{}:{port}", tun::address(host));
    let refused = Expected::new("refused-by-peer", &at(0, 9001), "ECONNREFUSED");
    // The far host's own firewall, as far as an ICMP port unreachable can tell.
    let rejected =
        Expected::new("firewall-reject", &at(1, 9001), "ECONNREFUSED").exactly_inferred();
    stage
        .check(vec![
            Fault::proxy(refused, ""),
            Fault::proxy(rejected.says(tun::address(1).to_string()), ""),
            reject(&at(0, 9002), "ECONNREFUSED"),
            reject(&at(0, 9003), "ECONNREFUSED"),
        ])
        .map(drop)
}
