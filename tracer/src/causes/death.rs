//! The backend's process ended under the connection: `backend-died`, `backend-oom-killed`.

use super::{
    cause::{ByHand, Cause},
    dying::{self, how, killed_by},
    ending::{is_handshaking, response_began},
    finding::Finding,
    leaving::Leaving,
    logged, programs,
    scene::Scene,
    wording,
};
use crate::event::{Connection, Death, Signal, Upstream};

pub(super) static BACKEND_DIED: Cause = Cause {
    id: "backend-died",
    title: "the backend's process exited or was killed while it served the request",
    split: "The process that closed the upstream's end was exiting as it did, had caught a signal to stop, or exited just \
            after: its exit code or signal, who sent that, and whether others of it go on. It wins over a keep-alive race.",
    log_lines: &[
        "upstream prematurely closed connection while reading response header from upstream",
        "recv() failed (104: Connection reset by peer) while reading response header from upstream",
    ],
    logged: &[
        logged::CLOSED,
        logged::RESET,
        logged::RESET_ON_CONNECT,
        logged::UNSENT,
        logged::CLOSED_IN_HANDSHAKE,
    ],
    by_hand: ByHand {
        command: "sudo ss -ltnp 'sport = :PORT'",
        shows: "ps -o lstart= -p of the pid that it names is later than the line",
    },
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
    logged: &[
        logged::CLOSED,
        logged::RESET,
        logged::RESET_ON_CONNECT,
        logged::UNSENT,
        logged::CLOSED_IN_HANDSHAKE,
    ],
    by_hand: ByHand {
        command: "sudo journalctl -k --grep 'oom-kill|Killed process'",
        shows: "it names the backend at that moment",
    },
    client_gets: "502",
    fix: "Raise the cgroup's memory limit, or find what grew.",
    matches: Some(oom_killed),
};

/// On a unix socket a death this near (nanoseconds) before the stream's end is that end's cause.
const JUST_BEFORE: u64 = 50_000_000;

fn died(scene: &Scene<'_>) -> Option<Finding> {
    if let Some((c, death, finding)) = found(scene, |death| !death.oom) {
        return Some(advise(
            scene,
            &Ended::of(death),
            scope(scene, c, death, finding),
        ));
    }
    left(scene)
}

/// It closed the connection on its way out: no death was seen before or at the close.
fn left(scene: &Scene<'_>) -> Option<Finding> {
    let (c, ending) = scene.ended()?;
    if scene.death().is_some() || scene.deaths_before(ending.at).next().is_some() {
        return None;
    }
    let leaving = scene.leaving().filter(|_| scene.has_left())?;
    let who = wording::process(leaving.name, leaving.pid, leaving.unit);
    let caught = leaving
        .signal
        .map(|signal| format!(" {}", dying::after(signal, ending.at, leaving.pid)))
        .unwrap_or_default();
    let exited = match leaving.death {
        Some(death) if killed_by(death).is_some() => format!(" and {}", how(death)),
        Some(death) => format!(" and exited with code {}", death.code >> 8 & 0xff),
        None => String::new(),
    };
    let finding = Finding::proven(format!(
        "{who}, which served {}, closed the connection{caught}{exited}{}",
        scene.to(),
        when(c)
    ))
    .unless(
        leaving.death.is_some(),
        "whether that signal ends it: it caught the signal, and no exit of it was seen so far",
    )
    .unless(
        leaving.death.is_none_or(|death| scene.is_of_backend(death)),
        inherited(leaving.name),
    )
    .rests_on_complete_records(scene);
    let finding = match leaving.death {
        Some(death) => scope(scene, c, death, finding),
        None => finding,
    };
    Some(advise(scene, &Ended::leaving(&leaving), finding))
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
        Some(unit) => format!(
            "raise the memory limit of {}, or find what grew",
            wording::unit(unit)
        ),
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
        let finding = finding.unless(scene.is_of_backend(death), inherited(&death.name));
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

/// What is not visible where a process of another program held the connection last.
fn inherited(name: &str) -> String {
    format!(
        "who served it: {name} held the connection last, and may have inherited it from the backend's process"
    )
}

fn process(death: &Death) -> String {
    wording::process(&death.name, death.pid, death.unit.as_deref())
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
    let order = death.signal.as_ref().and_then(dying::order);
    if order.is_some_and(Signal::asks_to_stop) {
        return finding.fact("scope", "the whole service: its master is stopping");
    }
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

/// A process that ended, or was about to.
struct Ended<'a> {
    pid: u32,
    name: &'a str,
    parent: u32,
    unit: Option<&'a str>,
    /// What ended it, or led to its exit.
    signal: Option<&'a Signal>,
    killed_by: Option<u8>,
}

impl<'a> Ended<'a> {
    fn of(death: &'a Death) -> Self {
        Self {
            pid: death.pid,
            name: &death.name,
            parent: death.parent,
            unit: death.unit.as_deref(),
            signal: death.signal.as_ref(),
            killed_by: killed_by(death),
        }
    }

    fn leaving(leaving: &Leaving<'a>) -> Self {
        Self {
            pid: leaving.pid,
            name: leaving.name,
            parent: leaving.parent,
            unit: leaving.unit,
            signal: leaving.signal,
            killed_by: None,
        }
    }

    /// The signal that another process sent it.
    fn sent(&self) -> Option<&'a Signal> {
        self.signal
            .filter(|signal| signal.code <= 0 && signal.sender != self.pid)
    }

    /// It, if the server's own master sent it.
    fn by_master(&self) -> Option<&'a Signal> {
        self.sent().filter(|signal| {
            let is_parent = signal.sender == self.parent;
            // Where the master has ended since, another is the parent.
            let is_master = is_parent || !programs::is_interpreter(&signal.sender_name);
            is_master && programs::is_worker(self.name, &signal.sender_name)
        })
    }

    /// It, if its parent sent it, of which nothing is known, and it is none that asks to stop.
    fn by_parent(&self) -> Option<&'a Signal> {
        self.sent().filter(|signal| {
            signal.sender == self.parent
                && matches!(signal.number, 6 | 9)
                && !programs::is_manager(&signal.sender_name)
        })
    }
}

fn advise(scene: &Scene<'_>, ended: &Ended<'_>, finding: Finding) -> Finding {
    let (name, pid) = (ended.name, ended.pid);
    let log = ended
        .unit
        .filter(|unit| unit.ends_with(".service"))
        .map(|unit| format!("see: journalctl -u {} -e", wording::quoted(unit)));
    let finding = match (ended.killed_by, ended.by_master(), ended.sent()) {
        (Some(4 | 5 | 7 | 8 | 11 | 31), ..) => finding.advise(format!(
            "{name} crashed; see where: coredumpctl info {pid}; dmesg | grep {pid}"
        )),
        (Some(6), _, None) => finding.advise(format!(
            "{name} aborted (an assertion, a failed allocation): its log; coredumpctl info {pid}"
        )),
        (_, Some(signal), _) => by_master(name, signal, finding),
        (_, None, Some(signal)) if ended.by_parent().is_some() => {
            let limit = programs::known(name).map_or("", |program| program.limit);
            by_unknown(name, signal, limit, finding)
        }
        (_, None, Some(signal)) => stopped(name, signal, finding),
        (Some(_), None, None) => finding.advise(format!(
            "find who killed {name}: its log, its service manager's"
        )),
        (None, None, None) => finding.advise(format!(
            "look at {name}'s own log for why it ended: no signal was sent to it"
        )),
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

/// The server's master ended its worker: for a stop or a reload that it was asked for, or at a
/// limit that it enforces.
fn by_master(name: &str, signal: &Signal, finding: Finding) -> Finding {
    let master = signal.sender_name.as_str();
    let Some(program) = programs::known(master) else {
        return finding;
    };
    let is_limit = program.ends_by.contains(&signal.number);
    let order = dying::order(signal).filter(|_| signal.number != 6);
    match order {
        None if is_limit && programs::is_interpreter(master) => {
            by_unknown(name, signal, program.limit, finding)
        }
        None if programs::is_interpreter(master) => stopped(name, signal, finding),
        None if is_limit => finding
            .advise(format!(
                "find what keeps {name} busy: its master ended it, as it does at its time limit ({})",
                program.limit
            ))
            .advise_if((!program.says.is_empty()).then(|| {
                format!("see {name}'s own log: grep -i '{}'", program.says)
            })),
        _ => {
            let by = order.map_or_else(
                || "its master".to_owned(),
                |order| {
                    format!(
                        "{} from {} (pid {}) to its master",
                        dying::signal_name(order.number),
                        order.sender_name,
                        order.sender
                    )
                },
            );
            finding.advise(format!(
                "let {name} finish its requests as its master reloads or stops{}: {by} began this restart or deploy",
                programs::aside(Some(master), |it| it.graceful)
            ))
        }
    }
}

/// Its parent killed it, and why is not known.
fn by_unknown(name: &str, signal: &Signal, limit: &str, finding: Finding) -> Finding {
    let limit = match limit {
        "" => String::new(),
        limit => format!(" ({limit})"),
    };
    finding.advise(format!(
        "find why {} (pid {}), its own parent, killed {name}: a worker timeout{limit}, or a stop{}; its log says which",
        signal.sender_name,
        signal.sender,
        programs::aside(Some(name), |it| it.graceful)
    ))
}

/// Somebody else stopped it: a deploy.
fn stopped(name: &str, signal: &Signal, finding: Finding) -> Finding {
    let (sender, pid) = (&signal.sender_name, signal.sender);
    if signal.number == 9 && programs::is_manager(sender) {
        return finding.advise(format!(
            "let {name} stop in time{}: {sender} (pid {pid}) killed it in a restart or deploy, as its stop took too long \
             (TimeoutStopSec=, docker stop -t)",
            programs::aside(Some(name), |it| it.graceful)
        ));
    }
    if signal.number == 9 {
        return finding.advise(format!(
            "find why {sender} (pid {pid}) killed {name}: a stop that took too long (TimeoutStopSec=, docker stop -t) in a \
             restart or deploy, a memory killer (earlyoom, systemd-oomd), an operator"
        ));
    }
    finding.advise(format!(
        "let {name} finish its requests before it stops{}: {sender} (pid {pid}) stopped it, as in a restart or deploy; \
         give it time for that (TimeoutStopSec=, docker stop -t), and take it out of nginx's upstream before",
        programs::aside(Some(name), |it| it.graceful)
    ))
}
