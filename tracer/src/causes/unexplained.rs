//! The evidence does not decide: what was seen, and what would have been needed.

use super::{
    cause::{ByHand, Cause},
    drops::{no_socket_for_syn, telling_drops},
    errno,
    finding::Finding,
    scene::Scene,
    wording,
};
use crate::{
    event::{Connection, Failure, FailureKind, LogCall, Upstream},
    verdict::Confidence,
};

pub(super) static UNEXPLAINED: Cause = Cause {
    id: "unexplained",
    title: "the evidence does not decide",
    split: "No cause of the catalogue fits what was seen, or more than one does; the verdict says what was seen and \
            what would have been needed.",
    log_lines: &[],
    logged: &[],
    by_hand: ByHand {
        command: "sudo tracer doctor",
        shows: "hooks are missing",
    },
    client_gets: "any",
    fix: "tracer doctor lists the hooks that are not attached here and what each would show; a capture (tracer record) lets \
          others look at the same evidence.",
    matches: None,
};

/// What can be said of an attempt that no cause fits, or that `rivals` fit equally.
pub(super) fn explain(scene: &Scene<'_>, rivals: &[(&'static Cause, Finding)]) -> Finding {
    let mut finding = match rivals {
        [] => unknown(no_cause(scene)).advise_if(look(scene)),
        rivals => {
            let ids: Vec<&str> = rivals.iter().map(|(cause, _)| cause.id).collect();
            let mut finding = unknown(format!("{} fit what was seen alike", ids.join(" and ")));
            for (cause, rival) in rivals {
                finding = finding.fact("rival", format!("{}: {}", cause.id, rival.summary));
            }
            // The commands of each tell them apart.
            for (_, rival) in rivals {
                finding = finding.advise_if(rival.advice.first().cloned());
            }
            finding
        }
    };
    for call in scene.case.log_calls.iter().take(3) {
        let errno = if call.errno == 0 {
            String::new()
        } else {
            format!(" ({})", errno::name(call.errno))
        };
        finding = finding.fact("log", format!("nginx logs: {}{errno}", &*call.format));
    }
    for why in &scene.facts().unanswered {
        finding = finding.fact("asked", format!("the host could not tell: {why}"));
    }
    if !scene.case.absent_hooks.is_empty() {
        finding = finding
            .fact(
                "hooks",
                format!(
                    "hooks that are not attached: {}",
                    scene.case.absent_hooks.join(", ")
                ),
            )
            .advise("see what they would show: tracer doctor");
    }
    finding.rests_on_complete_records(scene)
}

/// nginx logged the failure of an attempt, after the last that was seen, of which no record came.
pub(super) fn explain_unseen(scene: &Scene<'_>, call: &LogCall) -> Finding {
    let errno = match call.errno {
        0 => String::new(),
        errno => format!(" ({})", errno::name(errno)),
    };
    unknown(format!(
        "nginx logs the failure of an attempt whose record is missing: {}{errno}",
        &*call.format
    ))
    .rests_on_complete_records(scene)
}

/// Where to look for what the hooks do not show.
fn look(scene: &Scene<'_>) -> Option<String> {
    if let (Some(_), Some(c)) = (scene.unacknowledged(), scene.connection())
        && let Upstream::Inet(remote) = c.remote
    {
        let ip = remote.ip();
        return Some(format!(
            "did {ip} go down, or does something on the way drop what belongs to connections? see: ip route get {ip}; \
             tcpdump -ni any 'host {ip} and tcp port {}'",
            remote.port()
        ));
    }
    let (c, remote) = scene.handshake()?;
    let (ip, port) = (remote.ip(), remote.port());
    if c.rst_in_syn_sent {
        return Some(format!(
            "see where {remote} is translated to: nft list ruleset; conntrack -L -d {ip}; ipvsadm -Ln"
        ));
    }
    if let Some(drop) = telling_drops(c).next() {
        return Some(match drop.reason.as_str() {
            "IP_RPFILTER" => format!("see: sysctl -a | grep '\\.rp_filter'; ip route get {ip}"),
            reason => format!(
                "the kernel's name for the drop is {reason}; see: ip route get {ip}; tc -s filter show"
            ),
        });
    }
    (scene.errno() == Some(errno::ETIMEDOUT)).then(|| {
        format!("see: ss -ltn 'sport = :{port}'  (Recv-Q against Send-Q); nstat -az TcpExtListenOverflows")
    })
}

fn unknown(summary: impl Into<String>) -> Finding {
    let mut finding = Finding::proven(summary);
    finding.confidence = Confidence::Unknown;
    finding
}

fn no_cause(scene: &Scene<'_>) -> String {
    if let Some(failure) = scene.failure() {
        return failed_at_once(scene, failure);
    }
    if let Some(c) = scene.connection() {
        return match scene.handshake() {
            Some(_) => in_handshake(scene, c),
            None => after(scene, c),
        };
    }
    if scene.attempt.is_some() {
        return format!(
            "{} served the request; why nginx answered with an error was not seen",
            scene.to()
        );
    }
    if scene.case.has_upstream {
        "nginx tried no upstream, and what it logged does not say why".to_owned()
    } else {
        let status = scene.case.status.unwrap_or(502);
        format!(
            "nginx answers {status} itself: its configuration says so (`return {status}`); no upstream is involved"
        )
    }
}

fn failed_at_once(scene: &Scene<'_>, f: &Failure) -> String {
    let errno = scene
        .errno()
        .map_or_else(|| "no errno".to_owned(), errno::name);
    let call = if f.kind() == FailureKind::BeforeConnect {
        "nginx failed before connect()"
    } else {
        "connect() failed at once"
    };
    let routes = match f.routes.lookups {
        0 => "no route lookup was seen".to_owned(),
        n => wording::count(n, "route lookup") + " came before",
    };
    format!("{call} towards {} with {errno}; {routes}", scene.to())
}

fn in_handshake(scene: &Scene<'_>, c: &Connection) -> String {
    let to = scene.to();
    if c.rst_in_syn_sent && !no_socket_for_syn(c) {
        return format!(
            "a RST answered the SYN to {to}, an address of this host, and neither its TCP nor a drop of its packet \
             filter was seen to cause it: an address translation (DNAT, IPVS) to elsewhere fits, or a program at the \
             device"
        );
    }
    let waited = wording::duration(c.closed.since(c.start));
    if let Some(drop) = telling_drops(c).next() {
        return format!(
            "this host dropped packets of the handshake with {to}: {}",
            drop.reason
        );
    }
    match scene.errno() {
        Some(errno::ETIMEDOUT) => format!(
            "{} to {to} in {waited}, no answer and no drop seen; the address is this host's own: an accept queue that \
             was full for a moment fits",
            wording::count(u64::from(c.syn_retransmits) + 1, "SYN")
        ),
        Some(errno) => format!(
            "connecting to {to} ended with {} after {waited}; who caused it was not seen",
            errno::name(errno)
        ),
        None => format!(
            "nginx ended its attempt to connect to {to} after {waited}; no error and no answer was seen"
        ),
    }
}

fn after(scene: &Scene<'_>, c: &Connection) -> String {
    if let Some(times) = scene.unacknowledged() {
        return format!(
            "{} took the connection and was not heard of again: what nginx sent last was sent again {} and never \
             acknowledged",
            scene.to(),
            wording::count(u64::from(times), "time")
        );
    }
    // Captures of before have no counts of a unix connection's bytes.
    let is_counted = matches!(c.remote, Upstream::Inet(_)) || c.bytes_sent > 0;
    let mut seen = if is_counted {
        vec![
            wording::count(c.bytes_sent, "byte") + " sent",
            wording::count(c.bytes_received, "byte") + " received",
        ]
    } else {
        Vec::new()
    };
    if c.reuses > 0 {
        seen.push(format!(
            "a kept-alive connection, reused {}",
            wording::count(c.reuses, "time")
        ));
    }
    if c.fin_received.is_some() {
        seen.push("the upstream closed".to_owned());
    }
    if c.rst_received.is_some() {
        seen.push("the upstream reset".to_owned());
    }
    if let Some(errno) = scene.errno() {
        seen.push(errno::name(errno));
    }
    format!(
        "the connection to {} was established, and the request failed: {}",
        scene.to(),
        seen.join(", ")
    )
}
