//! What happened in an attempt, in order of time: the same sentences whatever the cause.

use super::{
    dying,
    ending::{alerted, is_reused, response_began},
    errno, icmp,
    scene::Scene,
    wording,
};
use crate::{
    event::{Connection, Drop, Failure, FailureKind, PeerClosed, Time, Upstream},
    verdict::Evidence,
};

/// The attempt's events, each with its time, in order.
pub(super) fn tell(scene: &Scene<'_>) -> Vec<Evidence> {
    let mut story = match (scene.failure(), scene.connection()) {
        (Some(failure), _) => of_failure(failure),
        (_, Some(connection)) => of_connection(scene, connection),
        _ => Vec::new(),
    };
    story.sort_by_key(|evidence| evidence.time.unwrap_or_default());
    story
}

fn at(time: Time, event: &'static str, text: impl Into<String>) -> Evidence {
    Evidence {
        time: Some(time),
        event,
        text: text.into(),
    }
}

fn of_failure(f: &Failure) -> Vec<Evidence> {
    let mut story = Vec::new();
    let Some(upstream) = &f.upstream else {
        let text = format!(
            "worker {} asks for an upstream: nginx finds none it may use",
            f.worker
        );
        return vec![at(f.start, "no-peer", text)];
    };
    let from = f
        .source
        .map(|source| format!(" from {}", source.ip()))
        .unwrap_or_default();
    let verb = if f.kind() == FailureKind::BeforeConnect {
        "is about to connect"
    } else {
        "connects"
    };
    story.push(at(
        f.start,
        "connect",
        format!("worker {} {verb} to {upstream}{from}", f.worker),
    ));
    if f.routes.lookups > 0 {
        story.push(at(f.start, "route", route(f)));
    }
    let outcome = match (f.kind(), f.errno) {
        (FailureKind::BeforeConnect, 0) => "nginx fails before connect()".to_owned(),
        (FailureKind::BeforeConnect, e) => {
            format!("nginx fails before connect(): {}", errno::name(e))
        }
        (_, 0) => "connect() fails at once".to_owned(),
        (_, e) => format!("connect() fails at once: {}", errno::name(e)),
    };
    story.push(at(f.at, "error", outcome));
    story
}

fn route(f: &Failure) -> String {
    let lookups = wording::count(f.routes.lookups, "route lookup");
    let v6 = matches!(f.upstream, Some(Upstream::Inet(a)) if a.is_ipv6());
    let answer = match (v6, f.routes.kind, f.routes.error) {
        (true, 1, _) => "a route was found".to_owned(),
        (true, 6, _) => "a blackhole route".to_owned(),
        (true, 7, _) => "an unreachable route".to_owned(),
        (true, 8, _) => "a prohibit route".to_owned(),
        (true, 0, _) => "no route".to_owned(),
        (true, kind, _) => format!("a route of type {kind}"),
        (false, _, 0) => "a route was found".to_owned(),
        (false, _, -11) => "nothing matched in the last table".to_owned(),
        (false, _, error) => errno::name(error.unsigned_abs()),
    };
    format!("{lookups}, the last: {answer}")
}

fn of_connection(scene: &Scene<'_>, c: &Connection) -> Vec<Evidence> {
    let mut story = Vec::new();
    if is_reused(c) {
        // Its making may be hours ago: times count from what matters now.
        if let Some(reused) = c.reused_at.filter(|_| c.start.0 != 0) {
            let ago = wording::duration(reused.since(c.start));
            let text =
                format!("the connection was made {ago} before nginx took it out of its cache");
            story.push(Evidence {
                time: None,
                event: "opened",
                text,
            });
        }
    } else if c.start.0 != 0 {
        story.push(at(
            c.start,
            "connect",
            format!("worker {} connects to {}", c.worker, scene.to()),
        ));
    }
    for drop in c.drops.iter().filter(|drop| !shown_by_rst(c, drop)) {
        story.push(at(drop.at, "drop", dropped(drop)));
    }
    if let (Some(last), true) = (c.last_retransmit, c.syn_retransmits > 0) {
        let times = wording::count(c.syn_retransmits, "time");
        story.push(at(
            last,
            "retransmit",
            format!("the SYN has been sent again {times}"),
        ));
    }
    if let Some(rst) = &c.rst_sent {
        let why = match rst.reason.as_deref() {
            None | Some("NO_SOCKET") => "no socket".to_owned(),
            Some(reason) => reason.to_owned(),
        };
        story.push(at(
            rst.at,
            "rst-sent",
            format!("RST sent by this host: {why}"),
        ));
    }
    let v6 = matches!(c.remote, Upstream::Inet(address) if address.is_ipv6());
    if let Some((kind, code, time)) = c.icmp_sent {
        let words = icmp::Error { v6, kind, code }.words();
        story.push(at(
            time,
            "icmp",
            format!("this host answers with an ICMP error: {words}"),
        ));
    } else if let Some(received) = &scene.facts().icmp {
        let words = icmp::Error {
            v6,
            kind: received.kind,
            code: received.code,
        }
        .words();
        story.push(at(
            received.at,
            "icmp",
            format!("{} answers: {words}", received.sender),
        ));
    }
    if let Some(time) = c.established.filter(|_| !is_reused(c)) {
        story.push(at(time, "established", "connected"));
    }
    if let Some(time) = c.reused_at {
        let times = wording::count(c.reuses, "time");
        let text = format!("nginx takes it out of its keep-alive cache ({times} so far)");
        story.push(at(time, "reused", text));
    }
    if let Some(time) = c.last_sent {
        let what = if c.first_byte.is_some_and(|first| first <= time) {
            "nginx's last write"
        } else if scene.in_handshake(c) {
            "nginx begins the TLS handshake"
        } else {
            "nginx writes the request"
        };
        story.push(at(time, "sent", what));
    }
    story.extend(of_upstream_end(scene));
    if let Some(time) = c.first_byte {
        let status = c
            .status
            .map(|status| format!(", status {status}"))
            .unwrap_or_default();
        let what = if scene.in_tls(c) && !response_began(c) {
            "TLS handshake"
        } else {
            "response"
        };
        story.push(at(
            time,
            "first-byte",
            format!("first byte of the {what}{status}"),
        ));
    }
    if let Some(time) = alerted(c) {
        story.push(at(time, "tls-alert", "nginx reads a TLS alert"));
    }
    if let Some(time) = c.fin_received {
        story.push(at(time, "fin-received", "FIN received"));
    }
    if let (Some(time), None) = (c.rst_received, &c.rst_sent) {
        story.push(at(time, "rst-received", "RST received"));
    }
    let now = |time: &Time| *time >= c.reused_at.unwrap_or_default();
    if let (Some(time), None) = (c.end_read.filter(now), c.fin_received) {
        story.push(at(time, "end-read", "nginx reads the end of the stream"));
    }
    if let Some((e, time)) = c.transfer_error.filter(|(_, time)| now(time)) {
        let text = format!("nginx's read or write fails: {}", errno::name(e));
        story.push(at(time, "transfer-error", text));
    }
    let connecting = !c.was_established() && c.reuses == 0;
    let reported = c.error.filter(|(errno, _)| *errno != 0);
    match (reported, scene.errno()) {
        (Some((e, time)), _) if connecting => {
            story.push(at(
                time,
                "error",
                format!("connect fails: {}", errno::name(e)),
            ));
        }
        (Some((e, time)), _) => {
            story.push(at(
                time,
                "error",
                format!("the socket reports {}", errno::name(e)),
            ));
        }
        (None, Some(e)) if connecting && e != errno::ETIMEDOUT => {
            story.push(at(
                c.closed,
                "error",
                format!("connect fails: {}", errno::name(e)),
            ));
        }
        _ if connecting => story.push(at(c.closed, "close", "nginx gives up")),
        _ if c.open => {}
        _ if scene.is_timer_shown() => {
            story.push(at(
                c.closed,
                "close",
                "nginx's timer ends the wait: it closes the connection",
            ));
        }
        _ => story.push(at(c.closed, "close", "nginx closes the connection")),
    }
    story
}

/// What was seen of the upstream's side: signals, deaths, the close.
fn of_upstream_end(scene: &Scene<'_>) -> Vec<Evidence> {
    let closed = scene.peer_closed();
    let mut story = Vec::new();
    if let Some((closed, reason)) =
        closed.and_then(|closed| Some((closed, closed.reset.as_deref()?)))
    {
        let mut text = format!(
            "{} (pid {}) closes its end, which sends a RST",
            closed.name, closed.pid
        );
        if reason != PeerClosed::NO_REASON {
            text = format!("{text}: {reason}");
        }
        story.push(at(closed.at, "peer-reset", text));
    }
    let of_tcp = closed.and_then(|closed| closed.death.as_ref());
    let of_unix = scene.attempt.iter().flat_map(|attempt| &attempt.deaths);
    for death in of_tcp.into_iter().chain(of_unix) {
        let text = format!("{} (pid {}) {}", death.name, death.pid, dying::how(death));
        story.push(at(death.at, "died", text));
        if let Some(signal) = death
            .signal
            .as_ref()
            .filter(|signal| dying::killed_by(death) == Some(signal.number))
        {
            let name = dying::signal_name(signal.number);
            story.push(at(
                signal.at,
                "signal",
                format!("{name} for {} (pid {})", death.name, death.pid),
            ));
        }
    }
    story
}

/// The RST that answers a SYN for want of a socket reports it already.
fn shown_by_rst(c: &Connection, drop: &Drop) -> bool {
    c.rst_sent.is_some() && drop.reason == "NO_SOCKET"
}

fn dropped(drop: &Drop) -> String {
    let packet = packet(drop);
    let times = if drop.count > 1 {
        format!(", {} times", drop.count)
    } else {
        String::new()
    };
    format!("this host drops the {packet}: {}{times}", drop.reason)
}

/// What was dropped: `SYN`, `SYN-ACK`, ….
pub(super) fn packet(drop: &Drop) -> &'static str {
    match (drop.tcp_flags & 0x17, drop.from_upstream) {
        (0x02, _) => "SYN",
        (0x12, _) => "SYN-ACK",
        (flags, true) if flags & 0x04 != 0 => "upstream's RST",
        (flags, false) if flags & 0x04 != 0 => "RST",
        (_, true) => "upstream's packet",
        (_, false) => "packet",
    }
}
