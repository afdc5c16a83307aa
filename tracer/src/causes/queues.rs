//! The backend does not accept fast enough: `accept-queue-full`.

use super::{
    cause::{ByHand, Cause},
    crowd,
    drops::{netfilter_drop, telling_drops},
    ending::{ending, heard, is_reused},
    errno::EAGAIN,
    finding::Finding,
    logged, programs,
    scene::Scene,
    wording,
};
use crate::event::{Connection, Drop, Time, Upstream, fact::Listener};

pub(super) static ACCEPT_QUEUE_FULL: Cause = Cause {
    id: "accept-queue-full",
    title: "the listener's accept queue is full: the backend does not accept fast enough",
    split: "TCP: the SYN stays unanswered without a drop while the listener's queue is over its limit; or the ACK after \
            it is dropped (TCP_LISTEN_OVERFLOW, with SYN cookies NO_SOCKET), or reset. Unix socket: connect() gives \
            EAGAIN, which only a full queue does.",
    log_lines: &[
        "upstream timed out (110: Connection timed out) while connecting to upstream",
        "upstream timed out (110: Connection timed out) while reading response header from upstream",
        "connect() to unix:/run/app.sock failed (11: Resource temporarily unavailable)",
    ],
    logged: &[
        logged::SILENT,
        logged::GAVE_UP,
        logged::LATE,
        logged::LATE_IN_HANDSHAKE,
        logged::RESET,
        logged::RESET_ON_CONNECT,
        logged::UNSENT,
        logged::CLOSED_IN_HANDSHAKE,
        logged::connect(&[EAGAIN]),
    ],
    by_hand: ByHand {
        command: "ss -ltn 'sport = :PORT'",
        shows: "Recv-Q is above Send-Q, or nstat -az TcpExtListenOverflows grows",
    },
    client_gets: "504 over TCP, 502 over a unix socket",
    fix: "Let the backend accept faster (more workers, no blocking work in the accept loop); a longer queue (its \
          listen backlog and net.core.somaxconn) buys time only.",
    matches: Some(accept_queue_full),
};

fn accept_queue_full(scene: &Scene<'_>) -> Option<Finding> {
    on_unix(scene)
        .or_else(|| on_handshake(scene))
        .or_else(|| on_last_ack(scene))
}

fn on_unix(scene: &Scene<'_>) -> Option<Finding> {
    let (f, path) = scene.unix_failure().filter(|(f, _)| f.errno == EAGAIN)?;
    let view = scene.facts().unix_path.as_deref();
    let mut finding = Finding::proven(format!(
        "the accept queue of unix:{path} was full: connect() gives EAGAIN for nothing else"
    ));
    if let Some(listener) = view.and_then(|view| view.listener.as_ref()) {
        finding = of_listener(
            finding,
            listener,
            view.and_then(|view| view.somaxconn),
            f.at,
        );
    }
    Some(finding.advise(format!(
        "see: ss -lx src {}  (Recv-Q waits, Send-Q is the limit)",
        wording::quoted(path)
    )))
}

/// The SYN is dropped without a trace while the queue is over its limit.
fn on_handshake(scene: &Scene<'_>) -> Option<Finding> {
    let (c, remote) = scene.unanswered()?;
    if let Some(overflow) = overflow(c) {
        let finding = Finding::proven(format!(
            "the accept queue of {remote} was full: this host dropped the {}",
            super::story::packet(overflow)
        ));
        return Some(with_listener(scene, finding, c, remote.port()));
    }
    scene.full_listener()?;
    if netfilter_drop(c).is_some() || telling_drops(c).next().is_some() {
        return None;
    }
    let finding = Finding::inferred(
        format!("the accept queue of {remote} was full and its SYNs were ignored"),
        "the drop of the SYN: the kernel makes it without an event on this path; the queue was over its limit",
    );
    Some(with_listener(scene, finding, c, remote.port()))
}

/// The queue filled between the SYN and the ACK: nginx is connected, the backend never is.
fn on_last_ack(scene: &Scene<'_>) -> Option<Finding> {
    let c = scene
        .failed_before_body()
        .filter(|c| !is_reused(c) && !heard(c) && scene.peer_closed().is_none())?;
    let Upstream::Inet(remote) = c.remote else {
        return None;
    };
    let reset = ending(c).is_some_and(|ending| ending.reset);
    let full = scene.full_listener().is_some();
    let view = scene.facts().peer_socket.as_ref();
    let is_taken = view.is_some_and(|view| view.found && view.accepted);
    // Unless it is known that nobody listens: in another network namespace a listener is out of
    // sight.
    let listens = scene
        .listener_views()
        .all(|view| !view.exact.is_empty() || !view.local);
    let queue = format!("the accept queue of {remote} was full");
    let finding = if overflow(c).is_some() && reset {
        Finding::proven(format!(
            "{queue}, and this host reset the connection for it (net.ipv4.tcp_abort_on_overflow)"
        ))
    } else if overflow(c).is_some() {
        Finding::proven(format!(
            "{queue}: this host dropped the ACK that ends the handshake"
        ))
        .unless(
            !is_taken,
            "whether the full queue or the program used up the time: it accepted the connection later",
        )
    } else if lost_cookie(c) && listens && !reset {
        Finding::proven(format!(
            "{queue}: this host answered with a SYN cookie and then had no room for the connection"
        ))
        .unless(full, "the queue as it was then: it is not full now")
        .rests_on_complete_records(scene)
    } else if reset && full {
        Finding::inferred(
            format!(
                "{queue}, and the connection was reset for it (net.ipv4.tcp_abort_on_overflow)"
            ),
            "the drop of the last ACK; no program was seen to reset the connection, and the queue was over its limit",
        )
    } else {
        return None;
    };
    Some(with_listener(scene, finding, c, remote.port()))
}

fn overflow(c: &Connection) -> Option<&Drop> {
    c.drops.iter().find(|drop| is_overflow(drop))
}

/// The kernel says that the listener's queue was full.
pub(super) fn is_overflow(drop: &Drop) -> bool {
    drop.reason.contains("LISTEN_OVERFLOW")
}

/// The ACK that ends the handshake found no socket, while there is a listener: with SYN cookies
/// that is a full queue.
fn lost_cookie(c: &Connection) -> bool {
    c.drops.iter().any(|drop| {
        drop.reason == "NO_SOCKET" && drop.tcp_flags & 0x12 == 0x10 && !drop.from_upstream
    })
}

fn with_listener(scene: &Scene<'_>, finding: Finding, c: &Connection, port: u16) -> Finding {
    let now = c.closed;
    let finding = match c.full_queue {
        Some((waiting, limit)) => finding.fact(
            "queue",
            format!("as it took no more: {waiting} waited in the accept queue of port {port}, limit {limit}"),
        ),
        None => finding,
    };
    let finding = match scene.full_listener() {
        Some((listener, somaxconn)) => of_listener(finding, listener, somaxconn, now),
        None => finding.advise(
            "let the backend accept faster: more workers, no blocking work where it accepts",
        ),
    };
    let queue = scene.there(&format!("ss -ltn 'sport = :{port}'"));
    let overflows = scene.there("nstat -az TcpExtListenOverflows");
    finding.advise(format!(
        "see: {queue}  (Recv-Q waits, Send-Q is the limit); {overflows}"
    ))
}

fn of_listener(
    finding: Finding,
    listener: &Listener,
    somaxconn: Option<u32>,
    now: Time,
) -> Finding {
    let holder = wording::holder(listener, now);
    let host = somaxconn
        .map(|limit| format!(", net.core.somaxconn {limit}"))
        .unwrap_or_default();
    let finding = finding.fact(
        "listener",
        format!(
            "{holder}: {} wait in its accept queue, limit {}{host}",
            listener.queue, listener.limit
        ),
    );
    let finding = crowd::described(listener, finding)
        .advise_if(crowd::end(listener))
        .advise_if(crowd::full(listener));
    let name = wording::holder_name(listener).to_owned();
    let program = listener.owner.as_ref().map(|owner| owner.name.as_str());
    let workers = programs::aside(program, |it| it.workers);
    let backlog = programs::aside(program, |it| it.backlog);
    let finding = finding.advise(format!(
        "{name} does not accept fast enough: more workers{workers}, or find what blocks it"
    ));
    let finding = finding.advise_if(
        (!listener.others.is_empty())
            .then(|| crowd::see(listener))
            .flatten(),
    );
    let longer = match somaxconn {
        Some(host) if listener.limit >= host => format!(
            "a longer queue buys time: the limit {} is net.core.somaxconn ({host}); raise it and the backlog{backlog}, then restart {name}",
            listener.limit
        ),
        Some(host) => format!(
            "a longer queue buys time: {name} asked listen() for {}; up to {host} need no sysctl{backlog}",
            listener.limit
        ),
        None => format!(
            "a longer queue buys time: the limit is {name}'s listen() backlog{backlog}, capped by net.core.somaxconn"
        ),
    };
    finding.advise(longer)
}
