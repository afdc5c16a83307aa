//! This host's routing refuses: `no-route`, `route-unreachable`, `route-prohibit`,
//! `route-blackhole`.

use std::net::SocketAddr;

use super::{
    addresses,
    cause::{ByHand, Cause},
    errno::{EACCES, EHOSTUNREACH, EINVAL, ENETUNREACH},
    finding::Finding,
    hook::route_hook,
    logged,
    scene::Scene,
};
use crate::event::{Failure, RouteLookup};

pub(super) static NO_ROUTE: Cause = Cause {
    id: "no-route",
    title: "this host has no route to the upstream",
    split: "connect() fails at once with ENETUNREACH after a route lookup that matched nothing. For a broadcast or \
            multicast address a route is found.",
    log_lines: &["connect() to 10.0.0.5:3000 failed (101: Network is unreachable)"],
    logged: &[logged::at_once(&[ENETUNREACH]).inet()],
    by_hand: ByHand {
        command: "ip route get IP",
        shows: "it answers Network is unreachable",
    },
    client_gets: "502",
    fix: "Add the route or the default route in the worker's network namespace (ip route get ADDRESS).",
    matches: Some(no_route),
};

pub(super) static ROUTE_UNREACHABLE: Cause = Cause {
    id: "route-unreachable",
    title: "an `unreachable` route or rule covers the upstream",
    split: "connect() fails at once with EHOSTUNREACH and the route lookup itself gave that error.",
    log_lines: &["connect() to 10.0.0.5:3000 failed (113: No route to host)"],
    logged: &[logged::at_once(&[EHOSTUNREACH]).inet()],
    by_hand: ByHand {
        command: "ip route get IP",
        shows: "it answers No route to host",
    },
    client_gets: "502",
    fix: "Remove the unreachable route (ip route show type unreachable), or route the address elsewhere; VPNs and \
          routing daemons leave such routes when a tunnel is down.",
    matches: Some(unreachable),
};

pub(super) static ROUTE_PROHIBIT: Cause = Cause {
    id: "route-prohibit",
    title: "a `prohibit` route or rule covers the upstream",
    split: "connect() fails with EACCES and routing was reached: a security module or a cgroup program would have \
            refused before any route lookup.",
    log_lines: &["connect() to 10.0.0.5:3000 failed (13: Permission denied)"],
    logged: &[logged::at_once(&[EACCES]).inet()],
    by_hand: ByHand {
        command: "ip route get IP",
        shows: "it answers Permission denied",
    },
    client_gets: "502",
    fix: "Remove the prohibit route or rule (ip route show type prohibit; ip rule).",
    matches: Some(prohibit),
};

pub(super) static ROUTE_BLACKHOLE: Cause = Cause {
    id: "route-blackhole",
    title: "a `blackhole` route or rule covers the upstream",
    split: "connect() fails with EINVAL and the route lookup itself gave that error.",
    log_lines: &["connect() to 10.0.0.5:3000 failed (22: Invalid argument)"],
    logged: &[logged::at_once(&[EINVAL]).inet()],
    by_hand: ByHand {
        command: "ip route get IP",
        shows: "it answers Invalid argument",
    },
    client_gets: "502",
    fix: "Remove the blackhole route or rule (ip route show type blackhole; ip rule).",
    matches: Some(blackhole),
};

/// What stays unseen where only the table was asked.
const ASKED: &str = "the route lookup of that connect(): the table was asked after it";

/// How a lookup ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// A route or its type gave the error.
    Itself,
    /// The tables hold nothing for it: then the error is an `ip rule`'s.
    Nothing,
    /// No lookup was seen, and the hook is not attached.
    OutOfSight,
    /// No lookup was looked for; the table, asked right after, gives that error.
    Asked,
}

fn answer(
    scene: &Scene<'_>,
    remote: SocketAddr,
    routes: RouteLookup,
    error: i32,
    kind: u8,
) -> Option<Answer> {
    if routes.unseen {
        let asked = scene.facts().listener.as_ref()?.route_error;
        return (asked == Some(error.unsigned_abs())).then_some(Answer::Asked);
    }
    if routes.lookups == 0 {
        return (!scene.stands(route_hook(remote))).then_some(Answer::OutOfSight);
    }
    let (itself, nothing) = if remote.is_ipv4() {
        (routes.error == error, matches!(routes.error, -11 | -101))
    } else {
        (routes.kind == kind, matches!(routes.kind, 0 | 7))
    };
    match (itself, nothing) {
        (true, _) => Some(Answer::Itself),
        (_, true) => Some(Answer::Nothing),
        _ => None,
    }
}

/// The rest that all four share.
fn routed(scene: &Scene<'_>, errno: u32, error: i32, kind: u8, word: &str) -> Option<Finding> {
    let (f, remote) = scene
        .refused_at_once()
        .filter(|(f, _)| f.errno == errno && !f.syn_sent)?;
    if addresses::is_at_fault(f, remote) {
        return None;
    }
    let ip = remote.ip();
    let finding = match answer(scene, remote, f.routes, error, kind)? {
        Answer::Itself => Finding::proven(format!("this host's route to {ip} says {word}")),
        Answer::Nothing => Finding::proven(format!("an ip rule of this host says {word} for {ip}")),
        Answer::Asked => {
            Finding::inferred(format!("this host's routing says {word} for {ip}"), ASKED)
        }
        Answer::OutOfSight => Finding::inferred(
            format!("this host's routing says {word} for {ip}"),
            format!(
                "the route lookup: the hook {} is not attached",
                route_hook(remote)
            ),
        ),
    };
    Some(
        finding
            .advise(format!("see: ip route show type {word}; ip rule show"))
            .advise(format!(
                "remove what covers {ip}, or give it a more specific route; check: {}",
                route_get(f, remote)
            )),
    )
}

fn route_get(f: &Failure, remote: SocketAddr) -> String {
    let from = f
        .source
        .map(|source| format!(" from {}", source.ip()))
        .unwrap_or_default();
    format!("ip route get {}{from}", remote.ip())
}

fn unreachable(scene: &Scene<'_>) -> Option<Finding> {
    routed(scene, EHOSTUNREACH, -113, 7, "unreachable")
}

fn prohibit(scene: &Scene<'_>) -> Option<Finding> {
    routed(scene, EACCES, -13, 8, "prohibit")
}

fn blackhole(scene: &Scene<'_>) -> Option<Finding> {
    routed(scene, EINVAL, -22, 6, "blackhole")
}

fn no_route(scene: &Scene<'_>) -> Option<Finding> {
    let (f, remote) = scene
        .refused_at_once()
        .filter(|(f, _)| f.errno == ENETUNREACH && !f.syn_sent)?;
    if addresses::is_at_fault(f, remote) {
        return None;
    }
    let ip = remote.ip();
    let summary = format!("this host has no route to {ip}");
    // In IPv6 the kernel's own null entry, "nothing found", is of the unreachable type: the errno
    // tells it apart.
    let finding = match answer(scene, remote, f.routes, -101, 7)? {
        Answer::Itself | Answer::Nothing => Finding::proven(summary),
        Answer::Asked => Finding::inferred(summary, ASKED),
        Answer::OutOfSight => Finding::inferred(
            summary,
            format!(
                "the route lookup: the hook {} is not attached",
                route_hook(remote)
            ),
        ),
    };
    let family = if remote.is_ipv4() { "" } else { "-6 " };
    Some(
        finding
            .advise(format!(
                "add a route to {ip}, or a default route, in the worker's network namespace"
            ))
            .advise(format!(
                "see: {}; ip {family}route show; ip {family}rule show",
                route_get(f, remote)
            )),
    )
}
