//! The backend's process ended under the connection: `backend-died`, `backend-oom-killed`.

use super::{
    catalogue::Cause,
    dying::{how, killed_by},
    ending::{is_handshaking, response_began},
    finding::Finding,
    programs,
    scene::Scene,
    wording,
};
use crate::event::{Connection, Death, Upstream};

pub(super) static BACKEND_DIED: Cause = Cause {
    id: "backend-died",
    title: "the backend's process exited or was killed while it served the request",
    split: "The process that closed the upstream's end was exiting as it did: its exit code or signal, who sent that, \
            and whether others of it go on. It wins over a keep-alive race.",
    log_lines: &[
        "upstream prematurely closed connection while reading response header from upstream",
        "recv() failed (104: Connection reset by peer) while reading response header from upstream",
    ],
    client_gets: "502",
    fix: "The exit code or signal says where to look: a core dump, a restart by the service manager, a deploy.",
    matches: Some(died),
};

pub(super) static BACKEND_OOM_KILLED: Cause = Cause {
    id: "backend-oom-killed",
    title: "the OOM killer killed the backend's process",
    split: "oom:mark_victim names the process that closed the upstream's end as it died.",
    log_lines: &[
        "upstream prematurely closed connection while reading response header from upstream",
    ],
    client_gets: "502",
    fix: "Raise the cgroup's memory limit, or find what grew.",
    matches: Some(oom_killed),
};

/// On a unix socket a death this near (nanoseconds) before the stream's end is that end's cause.
const JUST_BEFORE: u64 = 50_000_000;

fn died(scene: &Scene<'_>) -> Option<Finding> {
    let (c, death, finding) = found(scene, |death| !death.oom)?;
    Some(advise(scene, death, scope(scene, c, death, finding)))
}

fn oom_killed(scene: &Scene<'_>) -> Option<Finding> {
    let (c, death, finding) = found(scene, |death| death.oom)?;
    let finding = of_limit(death, scope(scene, c, death, finding));
    let limited = || death.limit.as_ref().map(|limit| limit.cgroup.as_str());
    let limit = match death.unit.as_deref().or_else(limited) {
        Some(unit) if unit.ends_with(".service") => {
            let unit = wording::quoted(unit);
            format!(
                "raise its limit, or find what grew: systemctl show {unit} -p MemoryMax -p MemoryPeak"
            )
        }
        Some(unit) => format!("raise the memory limit of {unit}, or find what grew"),
        None => "give the host or its cgroup more memory, or find what grew".to_owned(),
    };
    Some(
        finding
            .advise(limit)
            .advise("see: journalctl -k --grep 'oom-kill|Killed process'  (constraint=CONSTRAINT_MEMCG: its cgroup's limit; NONE: the host's)"),
    )
}

/// The nearest limit on its memory, and whether it was reached.
fn of_limit(death: &Death, finding: Finding) -> Finding {
    let Some(limit) = &death.limit else {
        return finding;
    };
    let reached = if limit.used >= limit.bytes / 20 * 19 {
        ""
    } else {
        ": not reached, so the host itself or a cgroup above ran out of memory"
    };
    finding.fact(
        "limit",
        format!(
            "the cgroup {} held {} of the {} that it may{reached}",
            limit.cgroup,
            wording::bytes(limit.used),
            wording::bytes(limit.bytes)
        ),
    )
}

/// The death that explains the end of the connection.
fn found<'a>(
    scene: &Scene<'a>,
    wanted: fn(&Death) -> bool,
) -> Option<(&'a Connection, &'a Death, Finding)> {
    let (c, ending) = scene.ended()?;
    if let Some(death) = scene.death() {
        let finding = Finding::proven(format!(
            "{}, which served {}, {}{}",
            process(death),
            scene.to(),
            how(death),
            when(c)
        ));
        return wanted(death).then(|| (c, death, finding.rests_on_complete_records(scene)));
    }
    let mut deaths = scene.deaths_before(ending.at);
    let first = deaths.next()?;
    let death = scene
        .deaths_before(ending.at)
        .max_by_key(|death| death.at)
        .unwrap_or(first);
    let alone = deaths.next().is_none();
    let used_it = c
        .holder
        .as_ref()
        .is_some_and(|holder| holder.pid == death.pid);
    let its_own =
        Some(death.pid) == c.listener_pid && alone && ending.at.since(death.at) <= JUST_BEFORE;
    let role = if used_it {
        "which served"
    } else {
        "which listened on or served"
    };
    let finding = Finding::proven(format!(
        "{}, {role} {}, {}{}",
        process(death),
        scene.to(),
        how(death),
        when(c)
    ))
    .unless(
        used_it || its_own,
        "which process held the connection: none was seen to read from it",
    );
    wanted(death).then(|| (c, death, finding.rests_on_complete_records(scene)))
}

fn process(death: &Death) -> String {
    match &death.unit {
        Some(unit) => format!("{} (pid {}, {unit})", death.name, death.pid),
        None => format!("{} (pid {})", death.name, death.pid),
    }
}

fn when(c: &Connection) -> &'static str {
    if response_began(c) {
        ", within the response's header"
    } else if is_handshaking(c) {
        ", within the TLS handshake"
    } else {
        ", before the first byte of a response"
    }
}

/// One worker of several, or the whole service?
fn scope(scene: &Scene<'_>, c: &Connection, death: &Death, finding: Finding) -> Finding {
    if matches!(c.remote, Upstream::Unix(_)) {
        return match c.listener_pid {
            Some(pid) if pid == death.pid => {
                finding.fact("scope", "it is the process that called listen()")
            }
            Some(pid) => finding.fact(
                "scope",
                format!("a child of the process that called listen() (pid {pid})"),
            ),
            None => finding,
        };
    }
    let Some(view) = &scene.facts().listener else {
        return finding;
    };
    let to = scene.to();
    let Some(listener) = view.exact.first() else {
        return if view.local {
            finding.fact(
                "scope",
                format!("the whole service: nobody listens on {to} now"),
            )
        } else {
            finding
        };
    };
    match &listener.owner {
        Some(owner) if owner.pid == death.pid => finding,
        Some(owner) if owner.since > death.at => finding.fact(
            "scope",
            format!(
                "the whole service: {} listens there now, started after it",
                wording::owner(owner, c.closed)
            ),
        ),
        Some(owner) => {
            let parent = if owner.pid == death.parent {
                "its parent "
            } else {
                ""
            };
            finding.fact(
                "scope",
                format!(
                    "one process of several: {parent}{} goes on and listens there",
                    wording::owner(owner, c.closed)
                ),
            )
        }
        None => finding.fact(
            "scope",
            format!("somebody still listens on {to}; who was not found"),
        ),
    }
}

fn advise(scene: &Scene<'_>, death: &Death, finding: Finding) -> Finding {
    let log = death
        .unit
        .as_deref()
        .filter(|unit| unit.ends_with(".service"))
        .map(|unit| format!("see: journalctl -u {} -e", wording::quoted(unit)));
    let sender = death
        .signal
        .as_ref()
        .filter(|signal| signal.code <= 0 && signal.sender != death.pid);
    let by_parent = sender.is_some_and(|signal| signal.sender == death.parent);
    let finding = match killed_by(death) {
        Some(4 | 5 | 7 | 8 | 11 | 31) => finding.advise(format!(
            "{} crashed; see where: coredumpctl info {}; dmesg | grep {}",
            death.name, death.pid, death.pid
        )),
        Some(6) if sender.is_none() => finding.advise(format!(
            "{} aborted (an assertion, a failed allocation): its log; coredumpctl info {}",
            death.name, death.pid
        )),
        Some(_) if by_parent => finding.advise(format!(
            "its own parent killed it, as at a worker timeout{}; what kept {} busy?",
            programs::aside(Some(&death.name), |it| it.limit),
            death.name
        )),
        Some(_) | None if sender.is_some() => finding.advise(format!(
            "it was told to stop: a restart or deploy; let {} end its requests first (a graceful stop, a longer \
             TimeoutStopSec=), and take it out of nginx's upstream before",
            death.name
        )),
        Some(_) => finding.advise(format!("find who killed {}: its log, its service manager's", death.name)),
        None => finding.advise(format!("{} ended by itself: its own log says why", death.name)),
    };
    let finding = finding.advise_if(log);
    if scene.is_last() && !scene.case.masked {
        finding.advise(
            "a second server in the upstream block lets nginx try again (proxy_next_upstream)",
        )
    } else {
        finding
    }
}
