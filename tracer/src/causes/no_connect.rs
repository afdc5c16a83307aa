//! nginx connected to nobody: `no-live-upstreams`, `dns-failed`.

use super::{catalogue::Cause, finding::Finding, scene::Scene};

pub(super) static NO_LIVE_UPSTREAMS: Cause = Cause {
    id: "no-live-upstreams",
    title: "nginx tried no upstream: all are marked failed, down or at max_conns",
    split: "nginx asks its balancer for a peer and gets none; there is no connect() at all. The earlier failures that \
            closed each peer have verdicts of their own.",
    log_lines: &["no live upstreams while connecting to upstream"],
    client_gets: "502",
    fix: "Mend the causes of the verdicts before this one; a peer is tried again after fail_timeout (10 s). Look also \
          for down and max_conns in the upstream block.",
    matches: Some(no_live_upstreams),
};

pub(super) static DNS_FAILED: Cause = Cause {
    id: "dns-failed",
    title: "nginx could not resolve the upstream's name",
    split: "nginx's resolver failed before any connect(): an rcode, a refused query, silence, or no resolver at all.",
    log_lines: &[
        "backend.example could not be resolved (3: Host not found)",
        "backend.example could not be resolved (110: Operation timed out)",
        "no resolver defined to resolve backend.example",
    ],
    client_gets: "502",
    fix: "Check the resolver directive: is that server up and reachable from the worker, does it know the name? nginx \
          does not read /etc/hosts or search domains for names in variables.",
    matches: Some(dns_failed),
};

fn no_live_upstreams(scene: &Scene<'_>) -> Option<Finding> {
    let busy = match scene.attempt {
        Some(_) => scene.failure().is_some_and(|f| f.code == -3),
        None => scene.log_call("no live upstreams").is_some(),
    };
    if !busy {
        return None;
    }
    Some(
        Finding::proven("nginx tried no upstream: it holds all of them failed, down or at max_conns")
            .rests_on_complete_records(scene)
            .fact("state", "each worker counts failures for itself, unless the upstream block has a zone")
            .advise("mend what the verdicts of the last seconds say; a peer is tried again after fail_timeout (10 s)")
            .advise("see: nginx -T | grep -nE 'upstream |server .*(down|max_fails|max_conns|fail_timeout)'"),
    )
}

fn dns_failed(scene: &Scene<'_>) -> Option<Finding> {
    if scene.attempt.is_some() {
        return None;
    }
    if scene.log_call("no resolver defined").is_some() {
        return Some(
            Finding::proven("nginx has no resolver to look the upstream's name up with; it says so itself")
                .advise("add a resolver directive (resolver 127.0.0.53 valid=10s;), or an upstream block with the name"),
        );
    }
    scene.log_call("could not be resolved")?;
    Some(
        Finding::inferred(
            "nginx could not resolve the upstream's name; it says so itself",
            "nginx's exchange with its resolver",
        )
        .advise("see nginx's error log for the name and the answer, then ask its resolver: dig @RESOLVER NAME")
        .advise("see: nginx -T | grep -n resolver"),
    )
}
