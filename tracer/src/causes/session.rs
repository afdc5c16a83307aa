//! A session without a length: an upgraded connection (websocket), or one of `stream {}`:
//! `session-broken`.

use super::{
    cause::{ByHand, Cause},
    dying,
    ending::ending,
    errno,
    finding::Finding,
    logged,
    scene::Scene,
    wording,
};
use crate::event::{Connection, Said};

pub(super) static SESSION_BROKEN: Cause = Cause {
    id: "session-broken",
    title: "a websocket or stream session ended by an error or by nginx's timer",
    split: "An upgraded connection (101) or a stream session that both sides had used; nginx logs how it ended. Such a \
            session has no length, so its end alone is no failure: one that nginx does not log has no verdict.",
    log_lines: &[
        "recv() failed (104: Connection reset by peer) while proxying upgraded connection",
        "upstream timed out (110: Connection timed out) while proxying upgraded connection",
        "recv() failed (104: Connection reset by peer) while proxying and reading from upstream",
    ],
    logged: &[logged::SESSION],
    by_hand: ByHand {
        command: "sudo tcpdump -ni any 'host IP and port PORT and tcp[tcpflags] & tcp-rst != 0'",
        shows: "the backend's RST ends the session; after a silence of proxy_read_timeout it is nginx's timer",
    },
    client_gets: "101, then a closed connection; in stream, a closed connection",
    fix: "Reset: the backend's own log. Timer: send pings more often than proxy_read_timeout, or raise it.",
    matches: Some(broken),
};

/// The connection of a session that was in use.
pub(super) fn session<'a>(scene: &Scene<'a>) -> Option<&'a Connection> {
    let c = scene.connection().filter(|_| scene.in_body())?;
    let is_stream = scene.case.log_calls.iter().any(|call| call.stream);
    (is_stream || c.status == Some(101) || scene.case.client_status == Some(101)).then_some(c)
}

fn broken(scene: &Scene<'_>) -> Option<Finding> {
    let c = session(scene)?;
    let to = scene.to();
    let is_stream = scene.case.log_calls.iter().any(|call| call.stream);
    let (kind, timer) = if is_stream {
        ("stream session", "proxy_timeout")
    } else {
        ("websocket", "proxy_read_timeout")
    };
    let since = c.first_byte.unwrap_or(c.start);
    let lasted = wording::duration(c.closed.since(since));
    let timed_out = scene.said(Said::TimedOut).is_some();
    let seen = ending(c);
    let closed = scene.peer_closed();
    let died = closed.and_then(|closed| closed.death.as_ref());
    let (summary, shown) = if timed_out {
        let last = c.last_received.max(c.last_sent).unwrap_or(since);
        let idle = wording::duration(c.closed.since(last));
        (
            format!(
                "nginx closed the {kind} to {to}: nothing was transferred for {idle} ({timer})"
            ),
            true,
        )
    } else if let Some(death) = died {
        let how = dying::how(death);
        (
            format!(
                "{} (pid {}), which served the {kind} at {to}, {how}",
                death.name, death.pid
            ),
            true,
        )
    } else {
        let how = match seen {
            Some(ending) if ending.reset => "reset",
            Some(_) => "closed",
            None => "ended",
        };
        let who = closed.map_or_else(
            || to.clone(),
            |closed| format!("{} (pid {}) at {to}", closed.name, closed.pid),
        );
        (
            format!("{who} {how} the {kind} after {lasted}"),
            seen.is_some(),
        )
    };
    let finding = Finding::proven(summary)
        .unless(
            shown,
            "who ended it: nginx logged a failure, and no FIN or RST was seen",
        )
        .rests_on_complete_records(scene)
        .fact(
            "session",
            format!(
                "the {kind} lasted {lasted}: {} to the backend, {} from it",
                wording::count(c.bytes_sent, "byte"),
                wording::count(c.bytes_received, "byte")
            ),
        );
    let finding = match c.transfer_error {
        Some((e, _)) => finding.fact(
            "transfer",
            format!("nginx's read or write failed: {}", errno::name(e)),
        ),
        None => finding,
    };
    let finding = if timed_out {
        finding.advise(format!("send pings more often than {timer} (60 s for websockets, 10 min in stream), or raise it"))
    } else {
        finding.advise("look at the backend's own log for that moment: a restart, a limit, an error in its handler")
    };
    Some(finding.advise("confirm: nginx -T 2>/dev/null | grep -nE 'proxy_(read_)?timeout'"))
}
