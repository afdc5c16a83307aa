//! What fails under load, though it works now: queues, ports, descriptors, connections, timeouts,
//! and the folders that nginx writes to.
//!
//! The bounds are those that no sound configuration reaches; what is only smaller than it could be
//! is none of them.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{
    finding::Finding,
    programs,
    subject::Subject,
    targets::Group,
    tcp::{Fault, Shown, is_full, queue_full},
    words::{ASKED, duration, holder, owner_and_mode, who},
};
use crate::{
    event::{
        Event, Question,
        fact::{self, DescriptorsView, FolderView, Listener, ListenerView, UnixPathView},
    },
    nginx::config::{At, Directive, Host, Protocol, Scope, milliseconds, number, passes, walk},
    process::Netns,
    source::host::Observer,
};

/// A backlog below this is a mistake or a test's.
const SMALL: u32 = 16;
/// The backlog of nginx, php-fpm and node; somaxconn is 4096 since 5.4.
const USUAL: u32 = 511;
/// Linux's own range has 28,232.
const FEW_PORTS: u64 = 8192;
/// Shares, in hundredths, from which on something is nearly used up.
const NEARLY: u64 = 90;

/// What is wrong with a listener that takes connections.
pub(super) fn of_tcp(peer: SocketAddr, shown: &Shown) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Some(view) = &shown.listener {
        for listener in view.exact.iter().take(1) {
            faults.extend(queue(&peer.to_string(), listener, view.somaxconn));
            faults.extend(descriptors(listener));
        }
    }
    if let Some(ports) = &shown.ports {
        let (low, high) = ports.range;
        let all = u64::from(high.saturating_sub(low)) + 1;
        let used = u64::from(ports.connected) + u64::from(ports.time_wait);
        if used * 100 >= all * NEARLY {
            faults.push(Fault::warning(
                "ports-exhausted",
                format!("{used} of {all} ephemeral ports towards {peer} are in use, {} of them in TIME_WAIT", ports.time_wait),
                "Keep connections with keepalive in the upstream block, or widen net.ipv4.ip_local_port_range; see: ss -s".to_owned(),
            ));
        }
    }
    faults
}

/// The same for a unix socket.
pub(super) fn of_unix(path: &str, view: &UnixPathView) -> Option<Fault> {
    let listener = view.listener.as_ref()?;
    queue(&format!("unix:{path}"), listener, view.somaxconn).or_else(|| descriptors(listener))
}

fn queue(peer: &str, listener: &Listener, somaxconn: Option<u32>) -> Option<Fault> {
    if is_full(listener) {
        return Some(queue_full(peer, listener, somaxconn));
    }
    let fix = "Raise the backlog (and net.core.somaxconn above it), then restart the backend; see: ss -lt  (Send-Q limits)";
    let most = somaxconn.filter(|most| *most == listener.limit);
    if listener.limit < SMALL {
        let by = match most {
            Some(_) => "net.core.somaxconn".to_owned(),
            None => format!("the backlog of {}", holder(listener)),
        };
        let text = format!(
            "{peer} lets {} connections wait for accept(): {by}",
            listener.limit + 1
        );
        return Some(Fault::warning("accept-queue-full", text, fix.to_owned()));
    }
    most.filter(|most| *most < USUAL).map(|most| {
        let text = format!(
            "net.core.somaxconn is {most}: it limits the accept queue of {}",
            holder(listener)
        );
        Fault::note("accept-queue-full", text, fix.to_owned())
    })
}

/// The backend has no descriptor left for many connections.
fn descriptors(listener: &Listener) -> Option<Fault> {
    let owner = listener.owner.as_ref()?;
    let view = ask_descriptors(owner.pid)?;
    (view.open * 100 >= view.soft_limit.saturating_mul(NEARLY)).then(|| {
        Fault::warning(
            "backend-not-accepting",
            format!(
                "{} has {} of {} descriptors open: it cannot accept many more connections",
                who(owner),
                view.open,
                view.soft_limit
            ),
            format!(
                "Raise its limit: LimitNOFILE= in its unit; see: cat /proc/{}/limits",
                owner.pid
            ),
        )
    })
}

/// Does the backend close idle connections before nginx does?
pub(super) fn kept(peer: &str, kept: Duration, view: &ListenerView) -> Option<Fault> {
    let owner = view.exact.first()?.owner.as_ref()?;
    let own = programs::kept(owner)?;
    (own.time < kept).then(|| {
        let (theirs, ours) = (duration(own.time), duration(kept));
        let fault = match own.is_set {
            true => Fault::warning,
            false => Fault::note,
        };
        let by = match own.is_set {
            true => own.option,
            false => "by default",
        };
        fault(
            "keepalive-race",
            format!("{} closes idle connections of {peer} after {theirs} ({by}), nginx keeps them for {ours}: a request may meet the close", who(owner)),
            format!("Set {} of {} above {}, or keepalive_timeout in the upstream block below {theirs}; measure it: tracer check --idle", own.option, owner.name, kept.as_secs()),
        )
    })
}

fn ask(question: &Question) -> Option<fact::Finding> {
    let events = Observer::new(Vec::new()).answer(question, ASKED, ASKED);
    events.into_iter().find_map(|event| match event {
        Event::Fact(fact) => fact.finding.ok(),
        _ => None,
    })
}

fn ask_descriptors(pid: u32) -> Option<DescriptorsView> {
    match ask(&Question::Descriptors { worker: pid }) {
        Some(fact::Finding::Descriptors(view)) => Some(view),
        _ => None,
    }
}

/// What the configuration has of groups.
pub(super) fn of_groups(subject: &Subject, groups: &[Group<'_>]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for upstream in groups.iter().filter_map(|group| group.upstream.as_ref()) {
        let at = &upstream.directive.at;
        if !seen.insert(at) {
            continue;
        }
        let all_down =
            !upstream.servers.is_empty() && upstream.servers.iter().all(|one| one.has("down"));
        if all_down {
            found.push(finding(
                subject,
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
            found.push(finding(
                subject,
                only.at,
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

fn finding(subject: &Subject, at: &At, fault: Fault) -> Finding {
    Finding {
        severity: fault.severity,
        master: subject.master,
        at: at.clone(),
        peer: None,
        cause: fault.cause,
        text: fault.text,
        fix: fault.fix,
    }
}

/// What the configuration and the workers show.
pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(connections(subject));
    found.extend(timeouts(subject));
    found.extend(folders(subject));
    found.extend(confined(subject));
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
        let Some(view) = ask_descriptors(*worker) else {
            continue;
        };
        // What a reload will set counts, where it says so.
        let limit = rlimit.unwrap_or(view.soft_limit);
        if count > limit {
            found.push(finding(subject, at, Fault::warning(
                "fd-limit",
                format!("worker_connections is {count}, and a worker may open {limit} descriptors: beyond, requests fail with 500"),
                format!("Set worker_rlimit_nofile {}, or lower worker_connections; see: cat /proc/{worker}/limits", count.saturating_mul(2)),
            )));
        }
        if view.open * 100 >= view.soft_limit.saturating_mul(NEARLY) {
            found.push(finding(
                subject,
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
        found.push(finding(
            subject,
            &directive.at,
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
        finding(
            subject,
            at,
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
                found.push(finding(
                    subject,
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

const FOLDERS: [(&str, Option<Protocol>); 5] = [
    ("client_body_temp_path", None),
    ("proxy_temp_path", Some(Protocol::Http)),
    ("fastcgi_temp_path", Some(Protocol::FastCgi)),
    ("uwsgi_temp_path", Some(Protocol::Uwsgi)),
    ("scgi_temp_path", Some(Protocol::Scgi)),
];

/// Folders that are configured for a pass, which a worker cannot write to.
fn folders(subject: &Subject) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut look = |scope: &Scope<'_>, name: &str| {
        let (at, path) = match scope.find(name) {
            Some(directive) => (directive.at.clone(), directive.value().to_owned()),
            // As it was compiled: `--http-proxy-temp-path`.
            None => match subject.temporary.get(name) {
                Some(path) => (subject.whole(), path.to_string_lossy().into_owned()),
                None => return,
            },
        };
        if !seen.insert(path.clone()) {
            return;
        }
        let path = match &subject.prefix {
            Some(prefix) => prefix.join(path),
            None => PathBuf::from(path),
        };
        if !path.is_absolute() || subject.workers.is_empty() {
            return;
        }
        let question = Question::Folder {
            worker: subject.viewer,
            path: path.to_string_lossy().into_owned(),
        };
        if let Some(fact::Finding::Folder(view)) = ask(&question) {
            let fault = folder(name, &path.to_string_lossy(), &view);
            found.extend(fault.map(|fault| finding(subject, &at, fault)));
        }
    };
    for pass in passes(&subject.tree) {
        let limit = pass.find("max_temp_file_size").map(Directive::value);
        for (name, protocol) in FOLDERS {
            // A response is not written there then.
            if protocol.is_some() && limit == Some("0") {
                continue;
            }
            if protocol.is_none_or(|one| one == pass.protocol) && pass.protocol != Protocol::Stream
            {
                look(&pass.scope, name);
            }
        }
    }
    found
}

fn folder(name: &str, path: &str, view: &FolderView) -> Option<Fault> {
    let user = view
        .worker_user
        .clone()
        .unwrap_or(view.worker_uid.to_string());
    let cause = "proxy-storage";
    if view.missing.is_some() {
        return Some(Fault::error(
            cause,
            format!(
                "{path} ({name}) is missing: requests or responses that do not fit into memory fail"
            ),
            "Reload nginx, which makes it: nginx -s reload".to_owned(),
        ));
    }
    if let Some(blocked) = &view.blocked {
        return Some(Fault::error(
            cause,
            format!(
                "{user} may not write to {path} ({name}): {} is {}",
                blocked.path,
                owner_and_mode(blocked)
            ),
            format!(
                "Give it to the worker's user: chown {user} {}",
                blocked.path
            ),
        ));
    }
    let room = view.room?;
    let full = |what: &str| {
        Fault::error(
            cause,
            format!("{path} ({name}) is on a file system {what}"),
            format!("Make room, or move it to another file system; see: df -h {path}"),
        )
    };
    if room.read_only {
        return Some(full("that is mounted read-only"));
    }
    if room.size > 0 && room.free == 0 {
        return Some(full("that is full"));
    }
    (room.free_files == Some(0)).then(|| full("without a free inode"))
}

/// SELinux that keeps nginx from connecting.
fn confined(subject: &Subject) -> Vec<Finding> {
    let question = Question::Confinement {
        worker: subject.viewer,
    };
    let Some(fact::Finding::Confinement(view)) = ask(&question) else {
        return Vec::new();
    };
    let is_httpd = view
        .label
        .as_deref()
        .is_some_and(|label| label.contains(":httpd_t:"));
    let is_denied = is_httpd
        && view.enforcing == Some(true)
        && ["httpd_can_network_connect", "httpd_can_network_relay"]
            .iter()
            .all(|name| boolean(name) == Some(false));
    let passes = passes(&subject.tree);
    let over_tcp = passes
        .iter()
        .find(|pass| !pass.directive.value().contains("unix:"));
    let Some(pass) = over_tcp.filter(|_| is_denied) else {
        return Vec::new();
    };
    vec![finding(subject, &pass.directive.at, Fault::warning(
        "lsm-denied",
        "SELinux does not let nginx connect to TCP ports of other kinds than http_port_t: the boolean httpd_can_network_connect is off".to_owned(),
        "Turn it on: setsebool -P httpd_can_network_connect 1".to_owned(),
    ))]
}

/// A boolean of SELinux's: its value now.
fn boolean(name: &str) -> Option<bool> {
    let path = format!("/sys/fs/selinux/booleans/{name}");
    let text = crate::process::read_start(path, 16).ok()?;
    Some(text.first() == Some(&b'1'))
}
