//! Something ran out: `ports-exhausted`, `fd-limit`, `worker-connections`.

use super::{
    cause::{ByHand, Cause},
    errno::{EADDRNOTAVAIL, EMFILE, ENFILE},
    finding::Finding,
    logged::{self, Logged},
    scene::Scene,
};
use crate::event::{FailureKind, Said};

pub(super) static PORTS_EXHAUSTED: Cause = Cause {
    id: "ports-exhausted",
    title: "no local port is left for another connection to this upstream",
    split: "connect() fails with EADDRNOTAVAIL after the kernel had chosen a route and a source address and moved the \
            socket to SYN_SENT; without that the address is at fault.",
    log_lines: &["connect() to 10.0.0.5:3000 failed (99: Cannot assign requested address)"],
    logged: &[logged::at_once(&[EADDRNOTAVAIL]).inet()],
    by_hand: ByHand {
        command: "ss -Htan dst ADDRESS | wc -l",
        shows: "it is near the size of net.ipv4.ip_local_port_range",
    },
    client_gets: "502",
    fix: "Keep connections alive (keepalive in the upstream block, HTTP/1.1) so that fewer end in TIME_WAIT; widen \
          net.ipv4.ip_local_port_range; more upstream addresses.",
    matches: Some(ports_exhausted),
};

pub(super) static FD_LIMIT: Cause = Cause {
    id: "fd-limit",
    title: "the worker, or the host, has no file descriptor left",
    split: "socket() itself fails: EMFILE is the worker's limit, ENFILE the host's. nginx answers 500.",
    log_lines: &["socket() failed (24: Too many open files) while connecting to upstream"],
    logged: &[Logged::of(&[Said::SocketFailed]).errno(&[EMFILE, ENFILE])],
    by_hand: ByHand {
        command: "sudo ls /proc/PID/fd | wc -l; grep 'open files' /proc/PID/limits",
        shows: "the two numbers are near each other",
    },
    client_gets: "500",
    fix: "Raise worker_rlimit_nofile (and the unit's LimitNOFILE=); a proxied request needs two descriptors.",
    matches: Some(fd_limit),
};

pub(super) static WORKER_CONNECTIONS: Cause = Cause {
    id: "worker-connections",
    title: "the worker has no connection slot left",
    split: "nginx itself says so when it asks for a slot for the upstream's socket; the kernel refused nothing. nginx \
            answers 500.",
    log_lines: &["1024 worker_connections are not enough while connecting to upstream"],
    logged: &[Logged::of(&[Said::NoWorkerConnections])],
    by_hand: ByHand {
        command: "sudo nginx -T 2>/dev/null | grep -n worker_connections",
        shows: "it shows the number that the line names",
    },
    client_gets: "500",
    fix: "Raise worker_connections in events { } (and worker_rlimit_nofile above it); a proxied request needs two.",
    matches: Some(worker_connections),
};

fn ports_exhausted(scene: &Scene<'_>) -> Option<Finding> {
    let (f, remote) = scene
        .refused_at_once()
        .filter(|(f, _)| f.syn_sent && f.errno == EADDRNOTAVAIL)?;
    if let Some(source) = f.source.filter(|source| source.port() != 0) {
        return Some(
            Finding::proven(format!("{source}, the one local port that proxy_bind allows, already has a connection to {remote}"))
                .advise("let proxy_bind name no port, so that the kernel chooses")
                .advise(format!("see: ss -tan 'src {source} and dst {remote}'")),
        );
    }
    let mut finding = Finding::proven(format!(
        "no local port is left for another connection to {remote}"
    ));
    if let Some(ports) = &scene.facts().ports {
        let (low, high) = ports.range;
        let size = u32::from(high).saturating_sub(u32::from(low)) + 1;
        finding = finding
            .fact(
                "ports",
                format!(
                    "range {low}-{high} ({size} ports); to this upstream: {} connected, {} in TIME_WAIT",
                    ports.connected, ports.time_wait
                ),
            )
            .advise(if ports.time_wait > ports.connected {
                "keep connections alive: keepalive in the upstream block (and HTTP/1.1, no Connection header): most \
                 ports wait in TIME_WAIT"
            } else {
                "the connections are in use: more upstream addresses, or fewer concurrent requests; is the backend slow?"
            });
        if size < 20_000 {
            finding = finding
                .advise("widen the range: sysctl -w net.ipv4.ip_local_port_range='1024 65535'");
        }
        // Off is 0; 2 (the default) reuses on the loopback only.
        if ports.time_wait > 0 && ports.tw_reuse.is_some_and(|reuse| reuse != 1) {
            finding = finding.advise("reuse ports in TIME_WAIT: sysctl -w net.ipv4.tcp_tw_reuse=1");
        }
    } else {
        finding = finding
            .advise("keep connections alive (keepalive in the upstream block), or widen net.ipv4.ip_local_port_range");
    }
    Some(finding.advise(format!(
        "see: ss -tan dst {remote} | awk '{{print $1}}' | sort | uniq -c"
    )))
}

fn fd_limit(scene: &Scene<'_>) -> Option<Finding> {
    let f = scene
        .failure()
        .filter(|f| f.kind() == FailureKind::BeforeConnect)?;
    let errno = scene
        .errno()
        .filter(|errno| matches!(*errno, EMFILE | ENFILE))?;
    if scene.said(Said::NoWorkerConnections).is_some() || scene.said(Said::BindFailed).is_some() {
        return None;
    }
    let view = scene.facts().descriptors.as_ref();
    let finding = if errno == ENFILE {
        let finding = Finding::proven("the host has no file descriptor left (fs.file-max)");
        match view {
            Some(d) => finding.fact(
                "limits",
                format!("{} of {} on this host", d.host_open, d.host_limit),
            ),
            None => finding,
        }
        .advise("raise fs.file-max, and find who holds them")
        .advise("see: cat /proc/sys/fs/file-nr")
    } else {
        let finding = Finding::proven(format!(
            "worker {} has no file descriptor left for a socket",
            f.worker
        ));
        match view {
            Some(d) => finding
                .fact(
                    "limits",
                    format!("worker {} holds {} of {} (hard limit {})", f.worker, d.open, d.soft_limit, d.hard_limit),
                )
                .advise(format!(
                    "worker_rlimit_nofile above {} in nginx.conf (two descriptors a proxied request), then reload",
                    d.soft_limit
                )),
            None => finding.advise("raise worker_rlimit_nofile in nginx.conf (two descriptors a proxied request), then reload"),
        }
        .advise(format!("see: ls /proc/{}/fd | wc -l; grep 'open files' /proc/{}/limits", f.worker, f.worker))
    };
    Some(finding)
}

fn worker_connections(scene: &Scene<'_>) -> Option<Finding> {
    if scene
        .failure()
        .is_none_or(|f| f.kind() != FailureKind::BeforeConnect)
        && scene.attempt.is_some()
    {
        return None;
    }
    scene.said(Said::NoWorkerConnections)?;
    let worker = scene.case.worker;
    Some(
        Finding::proven(format!("worker {worker} has no connection slot left: nginx says its worker_connections are not enough"))
            .advise("raise worker_connections in events { } and worker_rlimit_nofile above it; a proxied request needs two slots")
            .advise("see: nginx -T | grep -nE 'worker_connections|worker_rlimit_nofile'"),
    )
}
