//! Settings that fail requests under load, or all of them: of upstream blocks, connections and
//! timeouts.

use std::{collections::BTreeSet, time::Duration};

use super::{finding::Finding, host, load::NEARLY, subject::Subject, targets::Group, tcp::Fault};
use crate::{
    nginx::config::{At, Directive, Host, Protocol, milliseconds, number, passes, walk},
    process::Netns,
};

/// Linux's own range has 28,232.
const FEW_PORTS: u64 = 8192;

/// All but those of upstream blocks.
pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    let mut found = connections(subject);
    found.extend(timeouts(subject));
    found
}

/// What the configuration has of groups.
pub(super) fn of_groups(subject: &Subject, groups: &[Group<'_>]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for upstream in groups.iter().filter_map(|group| group.upstream.as_ref()) {
        let at = &upstream.directive.at;
        if !seen.insert(at) {
            continue;
        }
        let all_down =
            !upstream.servers.is_empty() && upstream.servers.iter().all(|one| one.has("down"));
        if all_down {
            found.push(subject.finding(
                at,
                Fault::error(
                    "no-live-upstreams",
                    format!(
                        "every server of upstream {} is marked down: requests fail with 502",
                        upstream.name
                    ),
                    "Remove down from a server".to_owned(),
                ),
            ));
        }
        let [only] = &upstream.servers[..] else {
            continue;
        };
        // A name may be several servers.
        let is_one = !matches!(only.target.host, Host::Name(_)) && only.has("max_fails");
        let is_off = only.parameters.iter().any(|one| one == "max_fails=0");
        if is_one && !is_off {
            found.push(subject.finding(only.at,
                Fault::note(
                    "no-live-upstreams",
                    format!(
                        "upstream {} has one server: nginx ignores its max_fails, and tries no other",
                        upstream.name
                    ),
                    "Add a second server or a backup, or leave the parameter out".to_owned(),
                ),
            ));
        }
    }
    found
}

/// `worker_connections` against what a worker may open, and the connections that it keeps.
fn connections(subject: &Subject) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut directive: Option<(&Directive, u64)> = None;
    let mut rlimit = None;
    let mut kept: Vec<(&Directive, u64)> = Vec::new();
    walk(&subject.tree, &mut |scope, one| match one.name() {
        "worker_connections" if scope.block("events").is_some() => {
            directive = number(one.value()).map(|count| (one, count));
        }
        "worker_rlimit_nofile" => rlimit = number(one.value()),
        "keepalive" if scope.block("upstream").is_some() => {
            kept.extend(number(one.value()).map(|count| (one, count)));
        }
        _ => {}
    });
    let whole = subject.whole();
    let (at, count) = directive.map_or((&whole, 512), |(one, count)| (&one.at, count));
    for worker in subject.workers.iter().take(1) {
        let Some(view) = host::descriptors(*worker) else {
            continue;
        };
        // What a reload will set counts, where it says so.
        let limit = rlimit.unwrap_or(view.soft_limit);
        if count > limit {
            found.push(subject.finding(at, Fault::warning(
                "fd-limit",
                format!("worker_connections is {count}, and a worker may open {limit} descriptors: beyond, requests fail with 500"),
                format!("Set worker_rlimit_nofile {}, or lower worker_connections; see: cat /proc/{worker}/limits", count.saturating_mul(2)),
            )));
        }
        if view.open * 100 >= view.soft_limit.saturating_mul(NEARLY) {
            found.push(subject.finding(
                at,
                Fault::warning(
                    "fd-limit",
                    format!(
                        "worker {worker} has {} of {} descriptors open",
                        view.open, view.soft_limit
                    ),
                    format!("Raise worker_rlimit_nofile; see: ls /proc/{worker}/fd | wc -l"),
                ),
            ));
        }
    }
    found.extend(ports(subject, at, count));
    let most = kept.into_iter().max_by_key(|(_, kept)| *kept);
    if let Some((directive, kept)) = most.filter(|(_, kept)| *kept >= count) {
        found.push(subject.finding(&directive.at,
            Fault::warning(
                "worker-connections",
                format!("keepalive lets a worker keep {kept} idle connections to this upstream, and worker_connections is {count}"),
                "Raise worker_connections, or lower keepalive: it counts for each worker".to_owned(),
            ),
        ));
    }
    found
}

/// Fewer ephemeral ports than one worker may have connections.
fn ports(subject: &Subject, at: &At, connections: u64) -> Option<Finding> {
    let worker = *subject.workers.first()?;
    let range = Netns::of(worker)
        .ok()?
        .setting("ipv4/ip_local_port_range")?;
    let mut ports = range.split_ascii_whitespace().map(str::parse::<u64>);
    let (low, high) = (ports.next()?.ok()?, ports.next()?.ok()?);
    let all = high.saturating_sub(low) + 1;
    (all < connections && all < FEW_PORTS).then(|| {
        subject.finding(at,
            Fault::warning(
                "ports-exhausted",
                format!("{all} ephemeral ports are there for each upstream address, and a worker may have {connections} connections"),
                format!("Widen the range; see: nsenter -t {worker} -n sysctl net.ipv4.ip_local_port_range"),
            ),
        )
    })
}

/// Timeouts of 0 end each request, and nginx cannot wait for a connection longer than the kernel.
fn timeouts(subject: &Subject) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for pass in passes(&subject.tree) {
        for name in ["connect_timeout", "read_timeout", "send_timeout", "timeout"] {
            let is_stream = pass.protocol == Protocol::Stream;
            if is_stream != (name == "timeout") && name != "connect_timeout" {
                continue;
            }
            let Some(directive) = pass.find(name) else {
                continue;
            };
            if found.iter().any(|one| one.at == directive.at) {
                continue;
            }
            if milliseconds(directive.value()) == Some(Duration::ZERO) {
                found.push(subject.finding(
                    &directive.at,
                    Fault::warning(
                        "backend-slow",
                        format!(
                            "{} 0 is no time at all, not no limit: requests fail with 504",
                            directive.name()
                        ),
                        format!(
                            "Set {} to the longest time that is sound, such as 60s",
                            directive.name()
                        ),
                    ),
                ));
            }
        }
    }
    found
}
