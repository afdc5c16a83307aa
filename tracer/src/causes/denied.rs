//! Refused before routing, or independently of it: `lsm-denied` (a security module),
//! `cgroup-denied` (a cgroup's BPF program).
//!
//! Where the security hook's own return is seen, it proves a denial. Otherwise nothing shows who
//! returned an errno before the first route lookup, so these are inferred, and only where one of
//! the two is possible.

use std::net::SocketAddr;

use super::{
    cause::{ByHand, Cause},
    drops::{for_every_syn, telling_drops},
    errno::{self, EACCES, ECONNREFUSED, EPERM},
    finding::Finding,
    hook::{SECURITY, route_hook},
    logged,
    scene::Scene,
    story, wording,
};
use crate::event::{Failure, fact::ConfinementView};

pub(super) static LSM_DENIED: Cause = Cause {
    id: "lsm-denied",
    title: "a security module (SELinux, AppArmor, Landlock, BPF LSM) forbids the worker to connect",
    split: "The security hook of connect() returns EACCES or EPERM. Where that is not seen: connect() fails so before \
            any route lookup (a prohibit route needs one), or for a unix \
            path whose modes let the worker through, and an enforcing module confines the worker.",
    log_lines: &[
        "connect() to 10.0.0.5:3000 failed (13: Permission denied)",
        "connect() to unix:/run/app.sock failed (13: Permission denied)",
    ],
    logged: &[logged::at_once(&[EACCES, EPERM])],
    by_hand: ByHand {
        command: "sudo ausearch -m avc -c nginx -ts recent",
        shows: "it lists a denial of that moment (AppArmor: sudo journalctl -k -g apparmor)",
    },
    client_gets: "502",
    fix: "SELinux: setsebool -P httpd_can_network_connect 1. AppArmor: a network rule in nginx's profile. The audit \
          log names the denial.",
    matches: Some(lsm_denied),
};

pub(super) static CGROUP_DENIED: Cause = Cause {
    id: "cgroup-denied",
    title: "a BPF program of the worker's cgroup forbids the connection",
    split: "connect() fails with EPERM before any route lookup and a connect program is attached to the worker's \
            cgroup; or the kernel freed the packets with a BPF_CGROUP reason.",
    log_lines: &[
        "connect() to 10.0.0.5:3000 failed (1: Operation not permitted)",
        "upstream timed out (110: Connection timed out) while connecting to upstream",
    ],
    logged: &[
        logged::at_once(&[EPERM, EACCES, ECONNREFUSED]).inet(),
        logged::SILENT,
        logged::GAVE_UP,
    ],
    by_hand: ByHand {
        command: "sudo bpftool cgroup tree",
        shows: "a connect4, connect6 or egress program covers nginx's cgroup",
    },
    client_gets: "502 (504 where packets are dropped)",
    fix: "systemd: IPAddressAllow= for the upstream, in the unit's and its slices' IPAddressDeny=. In Kubernetes: the \
          CNI's policy.",
    matches: Some(cgroup_denied),
};

/// The security modules that could have refused with an errno, in words.
fn suspects(view: &ConfinementView, errno: u32) -> Vec<String> {
    let label = view.label.as_deref().unwrap_or("no label");
    let has = |name: &str| view.modules.iter().any(|module| module == name);
    let mut suspects = Vec::new();
    if errno == EACCES {
        // Neither refuses what is permissive, in complain mode or unconfined.
        let enforced = view.enforcing != Some(false) && view.label.is_some();
        let unconfined = view
            .label
            .as_deref()
            .is_some_and(|label| label.starts_with("unconfined"));
        if has("selinux") && enforced {
            suspects.push(format!("SELinux ({label})"));
        }
        if has("apparmor") && enforced && !unconfined {
            suspects.push(format!("AppArmor ({label})"));
        }
        if has("landlock") && view.no_new_privs {
            suspects.push("Landlock (no_new_privs is set)".to_owned());
        }
        if has("smack") {
            suspects.push(format!("Smack ({label})"));
        }
    }
    if errno == EPERM && has("tomoyo") {
        suspects.push("TOMOYO".to_owned());
    }
    if has("bpf") {
        suspects.push("a BPF LSM program".to_owned());
    }
    if view.modules.is_empty() {
        suspects.push("a security module (their list could not be read)".to_owned());
    }
    suspects
}

/// The cgroup programs on the way of `connect()` to this family; `None`: they could not be asked.
fn connect_programs(view: &ConfinementView, remote: SocketAddr) -> Option<Vec<String>> {
    let hook = if remote.is_ipv4() {
        "connect4"
    } else {
        "connect6"
    };
    let all = view.cgroup_programs.as_ref()?;
    Some(
        all.iter()
            .filter(|program| program.starts_with(hook))
            .cloned()
            .collect(),
    )
}

/// `connect()` failed before any route lookup, as far as the hooks can say. A run that the kernel
/// skipped may have seen one.
fn before_routing<'a>(scene: &Scene<'a>) -> Option<(&'a Failure, SocketAddr)> {
    scene.refused_at_once().filter(|(f, remote)| {
        // Of an nginx whose log alone tells, no lookups were looked for.
        !f.syn_sent
            && f.routes.lookups == 0
            && !f.routes.unseen
            && !scene.has_skipped(route_hook(*remote))
    })
}

/// The hook that sees the answer of all modules is attached, and saw no denial.
fn is_cleared(scene: &Scene<'_>, f: &Failure) -> bool {
    f.routes.security.is_none() && scene.stands(SECURITY) && !scene.has_skipped(SECURITY)
}

fn lookup_in_sight(scene: &Scene<'_>, remote: SocketAddr, finding: Finding) -> Finding {
    finding.unless(
        scene.stands(route_hook(remote)),
        format!(
            "whether a route was looked up: the hook {} is not attached",
            route_hook(remote)
        ),
    )
}

fn lsm_denied(scene: &Scene<'_>) -> Option<Finding> {
    lsm_on_unix(scene).or_else(|| {
        let (f, remote) =
            before_routing(scene).filter(|(f, _)| matches!(f.errno, EACCES | EPERM))?;
        if f.routes.security == Some(f.errno) {
            return Some(by_the_hook(scene, f.errno, remote));
        }
        if is_cleared(scene, f) {
            return None;
        }
        let view = scene.facts().confinement.as_ref();
        let programs = view.and_then(|view| connect_programs(view, remote));
        // EPERM is what a cgroup's program gives; only their known absence leaves the modules
        // alone.
        if f.errno == EPERM
            && !programs.as_ref().is_some_and(Vec::is_empty)
            && view.is_some_and(|v| v.cgroup_programs.is_some())
        {
            return None;
        }
        let finding = of_module(scene, f.errno, &remote.to_string())?;
        let finding = match programs {
            Some(programs) if !programs.is_empty() => finding.fact(
                "cgroup",
                format!(
                    "also on the way: {}; by default such a program gives EPERM, not EACCES",
                    programs.join(", ")
                ),
            ),
            _ => finding,
        };
        Some(lookup_in_sight(scene, remote, finding))
    })
}

/// The kernel's call of all modules returned that errno.
fn by_the_hook(scene: &Scene<'_>, errno: u32, remote: SocketAddr) -> Finding {
    let (name, view) = (errno::name(errno), scene.facts().confinement.as_ref());
    let mut suspects = view.map_or_else(Vec::new, |view| suspects(view, errno));
    // A privileged program confines itself without `no_new_privs`; nothing in /proc tells of it.
    let silent = |view: &ConfinementView| {
        !view.no_new_privs && view.modules.iter().any(|module| module == "landlock")
    };
    if errno == EACCES && view.is_some_and(silent) {
        suspects.push("Landlock".to_owned());
    }
    let finding = Finding::proven(format!(
        "{} forbids nginx to connect to {remote} ({name})",
        who(&suspects)
    ))
    .fact(
        "security",
        format!("security_socket_connect, which asks all modules, returned {name}"),
    );
    advised(finding, &suspects)
}

/// The module, or those between which nothing decides.
fn who(suspects: &[String]) -> String {
    match suspects {
        [] => "a security module".to_owned(),
        [only] => only.clone(),
        [others @ .., last] => format!("{} or {last}", others.join(", ")),
    }
}

/// A path whose modes let the worker through: what refused was no file mode.
fn lsm_on_unix(scene: &Scene<'_>) -> Option<Finding> {
    let (f, path) = scene
        .unix_failure()
        .filter(|(f, _)| matches!(f.errno, EACCES | EPERM))?;
    let view = scene.facts().unix_path.as_ref()?;
    if view.blocked.is_some() {
        return None;
    }
    of_module(scene, f.errno, &format!("unix:{path}"))
}

fn of_module(scene: &Scene<'_>, errno: u32, target: &str) -> Option<Finding> {
    let view = scene.facts().confinement.as_ref()?;
    let suspects = suspects(view, errno);
    if suspects.is_empty() {
        return None;
    }
    let name = errno::name(errno);
    let mut finding = Finding::inferred(
        format!(
            "{} forbids nginx to connect to {target} ({name})",
            who(&suspects)
        ),
        format!(
            "who returned {name}: it came before any route lookup or file check; possible: {}",
            suspects.join(", ")
        ),
    );
    if view.seccomp == 2 {
        finding = finding.fact(
            "seccomp",
            "a seccomp filter is also set; one that forbids connect() would forbid all of them",
        );
    }
    Some(advised(finding, &suspects))
}

/// What to do about each module that may have denied.
fn advised(mut finding: Finding, suspects: &[String]) -> Finding {
    let has = |word: &str| suspects.iter().any(|suspect| suspect.starts_with(word));
    if has("SELinux") {
        finding = finding
            .advise("see: ausearch -m avc -c nginx -ts recent")
            .advise("let nginx connect: setsebool -P httpd_can_network_connect 1");
    }
    if has("AppArmor") {
        finding = finding
            .advise("see: journalctl -k -g 'apparmor=\"DENIED\"' -n 20")
            .advise("add the network or path rule to nginx's profile in /etc/apparmor.d, then: apparmor_parser -r");
    }
    if has("Landlock") {
        finding = finding.advise(
            "Landlock is set by who starts nginx: look at its service manager or sandbox wrapper",
        );
    }
    if has("a BPF LSM") {
        finding = finding.advise("see: bpftool prog show type lsm; bpftool link show");
    }
    finding
}

fn cgroup_denied(scene: &Scene<'_>) -> Option<Finding> {
    cgroup_drop(scene).or_else(|| {
        let (f, remote) = before_routing(scene)
            .filter(|(f, _)| matches!(f.errno, EPERM | EACCES | ECONNREFUSED))?;
        let view = scene.facts().confinement.as_ref()?;
        let name = errno::name(f.errno);
        let programs = connect_programs(view, remote);
        let modules = if is_cleared(scene, f) {
            Vec::new()
        } else {
            suspects(view, f.errno)
        };
        let possible = match (&programs, f.errno) {
            (Some(programs), EACCES) => !programs.is_empty() && modules.is_empty(),
            (Some(programs), _) => !programs.is_empty(),
            // Not asked: possible, and so the verdict is only given where no module is.
            (None, EPERM) => true,
            (None, _) => false,
        };
        if !possible {
            return None;
        }
        let programs = programs.unwrap_or_default();
        let names = if programs.is_empty() { "a BPF program".to_owned() } else { programs.join(", ") };
        let of = view.cgroup.as_deref().unwrap_or("the worker's cgroup");
        let mut finding = Finding::inferred(
            format!("{names} of the worker's cgroup refused the connection to {remote} ({name})"),
            format!("who returned {name}: it came before any route lookup, and the kernel does not say who on this path"),
        )
        .fact("cgroup", format!("on {of} or above it: {names}"));
        if !modules.is_empty() && !programs.is_empty() {
            finding = finding.fact("modules", format!("also possible, but not their usual errno: {}", modules.join(", ")));
        }
        let finding = finding
            .advise(format!("see: bpftool cgroup tree /sys/fs/cgroup{}", view.cgroup.as_deref().unwrap_or_default()))
            .advise(format!("let that program's owner (the CNI, an agent, systemd) allow {remote}"));
        Some(lookup_in_sight(scene, remote, finding))
    })
}

/// A cgroup's packet program dropped what was sent or received.
fn cgroup_drop(scene: &Scene<'_>) -> Option<Finding> {
    let (c, remote) = scene.unanswered()?;
    let drop = telling_drops(c).find(|drop| drop.reason.starts_with("BPF_CGROUP"))?;
    let unit = scene
        .case
        .identity
        .as_ref()
        .and_then(|worker| worker.unit.as_deref())
        .filter(|unit| unit.ends_with(".service"))
        .map(wording::quoted);
    let finding = Finding::proven(format!(
        "a BPF program of a cgroup dropped the {} {} {remote}",
        story::packet(drop),
        if drop.from_upstream { "from" } else { "to" }
    ));
    Some(
        for_every_syn(scene, c, drop, finding)
            .advise(match unit {
                Some(unit) => format!(
                    "see: systemctl show {unit} -p IPAddressDeny -p IPAddressAllow, and its slices'"
                ),
                None => {
                    "see: systemctl show nginx -p IPAddressDeny -p IPAddressAllow, and its slices'"
                        .to_owned()
                }
            })
            .advise(format!(
                "allow it: IPAddressAllow={}; else: bpftool cgroup tree",
                remote.ip()
            )),
    )
}
