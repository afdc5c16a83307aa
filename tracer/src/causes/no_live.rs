//! nginx tried nobody, by its balancer's word: `no-live-upstreams`.

use super::{catalogue::Cause, finding::Finding, scene::Scene, wording};
use crate::{
    correlate::{Attempt, Course},
    verdict::Evidence,
};

pub(super) static NO_LIVE_UPSTREAMS: Cause = Cause {
    id: "no-live-upstreams",
    title: "nginx tried no upstream: all are marked failed, down or at max_conns",
    split: "nginx asks its balancer for a peer and gets none; there is no connect() at all. The worker's earlier \
            failures that closed each peer are named.",
    log_lines: &["no live upstreams while connecting to upstream"],
    client_gets: "502",
    fix: "Mend the causes of the earlier failures; a peer is tried again after fail_timeout (10 s). Look also for \
          down and max_conns in the upstream block.",
    matches: Some(no_live_upstreams),
};

fn no_live_upstreams(scene: &Scene<'_>) -> Option<Finding> {
    let busy = match scene.attempt {
        Some(_) => scene.failure().is_some_and(|f| f.code == -3),
        None => scene.log_call("no live upstreams").is_some(),
    };
    if !busy {
        return None;
    }
    let peers = peers(scene);
    let summary = match peers.as_slice() {
        [] => {
            "nginx tried no upstream: it holds all of them failed, down or at max_conns".to_owned()
        }
        peers => {
            let told: Vec<String> = peers
                .iter()
                .take(3)
                .map(|peer| format!("{} ({})", peer.upstream, peer.cause))
                .collect();
            let more = match peers.len().saturating_sub(3) {
                0 => String::new(),
                n => format!(" and {n} more"),
            };
            format!(
                "nginx tried no upstream: it holds all of them failed, after {}{more}",
                told.join(", ")
            )
        }
    };
    let mut finding = Finding::proven(summary).rests_on_complete_records(scene);
    for peer in &peers {
        let times = if peer.count > 1 {
            format!("{} times, last ", peer.count)
        } else {
            String::new()
        };
        finding.evidence.push(Evidence {
            time: None,
            event: "earlier",
            text: format!(
                "{} failed {times}{} before: {}",
                peer.upstream,
                wording::duration(scene.case.time.since(peer.attempt.end)),
                peer.cause
            ),
        });
    }
    if peers.is_empty() {
        finding = finding.fact(
            "earlier",
            "no failure of this worker was seen in the last minute: down, max_conns, or failures before tracing",
        );
    }
    let mend = match peers.as_slice() {
        [] => "look for down and max_conns in the upstream block; a failed peer is tried again after fail_timeout (10 s)".to_owned(),
        [one] => format!("mend {} at {}; it is tried again after fail_timeout (10 s)", one.cause, one.upstream),
        [first, ..] => format!(
            "mend what the verdicts before this one say ({} at {}, …); a peer is tried again after fail_timeout (10 s)",
            first.cause, first.upstream
        ),
    };
    Some(
        finding
            .fact("state", "each worker counts failures for itself, unless the upstream block has a zone")
            .advise(mend)
            .advise("max_fails=0 keeps a peer in use whatever fails; right where there is only one")
            .advise("see: nginx -T | grep -nE 'upstream |server .*(down|max_fails|max_conns|fail_timeout)'"),
    )
}

/// A peer that failed before, by its last failure.
struct Peer<'a> {
    upstream: String,
    attempt: &'a Attempt,
    cause: &'static str,
    count: usize,
}

/// The worker's earlier failures by peer, the latest first.
fn peers<'a>(scene: &Scene<'a>) -> Vec<Peer<'a>> {
    let mut peers: Vec<Peer<'a>> = Vec::new();
    for attempt in scene.case.earlier.iter().rev() {
        let tried = !matches!(&attempt.course, Course::FailedAtOnce(f) if f.code == -3)
            && !matches!(attempt.course, Course::Succeeded);
        let Some(upstream) = attempt.upstream.as_ref().filter(|_| tried) else {
            continue;
        };
        let upstream = upstream.to_string();
        if let Some(known) = peers.iter_mut().find(|peer| peer.upstream == upstream) {
            known.count += 1;
            continue;
        }
        let earlier = Scene {
            case: scene.case,
            attempt: Some(attempt),
        };
        let cause = super::diagnose(&earlier).0.id;
        peers.push(Peer {
            upstream,
            attempt,
            cause,
            count: 1,
        });
    }
    peers
}
