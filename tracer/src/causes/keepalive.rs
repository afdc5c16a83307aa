//! nginx wrote to an idle connection that the backend was closing: `keepalive-race`.

use super::{
    cause::{ByHand, Cause},
    dying,
    ending::{Ending, alerted, is_reused, response_began},
    finding::Finding,
    hook, http2, logged, programs,
    scene::Scene,
    wording,
};
use crate::event::Connection;

pub(super) static KEEPALIVE_RACE: Cause = Cause {
    id: "keepalive-race",
    title: "nginx reused an idle connection as the backend was closing it",
    split: "A reused connection, its idle time, and the backend's FIN or RST crossing nginx's write. One that comes \
            long after the write is no race: the backend had the request. Over TLS a close_notify is no response; over \
            HTTP/2 (gRPC) the backend's GOAWAY without an error crosses the request.",
    log_lines: &[
        "upstream sent goaway with error 0 while reading response header from upstream",
        "upstream prematurely closed connection while reading response header from upstream",
        "recv() failed (104: Connection reset by peer) while reading response header from upstream",
        "connect() failed (104: Connection reset by peer) while connecting to upstream",
        "writev() failed (32: Broken pipe) while sending request to upstream",
    ],
    logged: &[
        logged::CLOSED,
        logged::RESET,
        logged::RESET_ON_CONNECT,
        logged::UNSENT,
        logged::CLOSED_IN_HANDSHAKE,
        logged::GOAWAY,
    ],
    by_hand: ByHand {
        command: "sudo nginx -T 2>/dev/null | grep -nE 'keepalive( |_timeout)'",
        shows: "nginx keeps idle connections longer than the backend does",
    },
    client_gets: "502 for methods that nginx does not retry (POST), else a retry hides it",
    fix: "Let the backend keep idle connections longer than nginx does: keepalive_timeout in the upstream block below \
          the backend's own.",
    matches: Some(keepalive_race),
};

/// A close this soon (nanoseconds) after nginx's write may have been on its way already.
const CROSSING: u64 = 10_000_000;
/// … where the way to the backend is not known, and at most.
const FAR: u64 = 250_000_000;

/// Reused, ended before the first byte, and not so late that the backend must have had the request.
pub(super) fn may_be_race(scene: &Scene<'_>, c: &Connection, ending: &Ending) -> bool {
    is_reused(c)
        && !response_began(c)
        && (left_all_unread(scene, c)
            || c.last_sent
                .is_none_or(|sent| ending.at.since(sent) <= crossing(c)))
}

/// The backend closed without having read a byte of the request, however long that took it: it did
/// not know of it.
fn left_all_unread(scene: &Scene<'_>, c: &Connection) -> bool {
    c.asked > 0
        && scene
            .peer_closed()
            .is_some_and(|closed| closed.reset.is_some() && closed.unread == c.asked)
}

/// Twice the round trip of the handshake, where that was seen. A backend that closes by
/// close_notify has its TLS library read what came: its program may not have known of the request
/// for longer than that.
fn crossing(c: &Connection) -> u64 {
    if alerted(c).is_some() {
        return FAR;
    }
    match c.established {
        Some(at) if c.start.0 != 0 => at.since(c.start).saturating_mul(2).clamp(CROSSING, FAR),
        _ => FAR,
    }
}

fn keepalive_race(scene: &Scene<'_>) -> Option<Finding> {
    if let Some(finding) = http2::race(scene) {
        return Some(finding);
    }
    let (c, ending) = scene.ended()?;
    if !may_be_race(scene, c, &ending) || scene.has_death(ending.at) {
        return None;
    }
    let idle = c
        .idle
        .map(|idle| format!(" after {} idle", wording::duration(idle)))
        .unwrap_or_default();
    let order = order(c, &ending);
    let finding = Finding::proven(format!(
        "nginx reused a kept-alive connection to {}{idle} as the backend was closing it: {order}",
        scene.to()
    ));
    let finding = sureness(scene, c, &ending, finding);
    let finding = observed(scene, c, &ending, finding);
    let finding = finding.fact("retry", why_retried(scene, c));
    Some(advise(scene, c, &ending, finding))
}

/// The order of the backend's close and nginx's write, and the gap.
fn order(c: &Connection, ending: &Ending) -> String {
    let sign = if ending.reset { "RST" } else { "close" };
    match c.last_sent {
        None => format!("its {sign} came before nginx could write the request"),
        Some(sent) if ending.at <= sent => format!(
            "its {sign} came {} before nginx wrote the request",
            wording::duration(sent.since(ending.at))
        ),
        Some(sent) => format!(
            "its {sign} came {} after nginx wrote the request",
            wording::duration(ending.at.since(sent))
        ),
    }
}

/// Proven by the order, or by the RST that says the request came too late or was not read.
fn sureness(scene: &Scene<'_>, c: &Connection, ending: &Ending, finding: Finding) -> Finding {
    let before = c.last_sent.is_none_or(|sent| ending.at <= sent);
    let too_late = ending.reset_after.is_some();
    let unread = |hook| {
        format!("the hook {hook} is not attached: what nginx wrote and read then is not known")
    };
    finding
        .unless(scene.stands(hook::RECEIVED), unread(hook::RECEIVED))
        .unless(
            c.last_sent.is_some() || scene.stands(hook::SENT),
            unread(hook::SENT),
        )
        .unless(
            before || too_late || left_all_unread(scene, c),
            "whether the backend had read the request: it closed just after nginx wrote it",
        )
        .rests_on_complete_records(scene)
}

/// How long the backend kept it, against how long nginx would have.
fn observed(scene: &Scene<'_>, c: &Connection, ending: &Ending, finding: Finding) -> Finding {
    let finding = if c.start.0 == 0 {
        finding.fact("opened", "the connection was opened before tracing began")
    } else {
        finding
    };
    let finding = match scene
        .leaving()
        .and_then(|leaving| Some((leaving, leaving.signal?)))
    {
        Some((leaving, signal)) => finding.fact(
            "peer",
            format!(
                "{} (pid {}) closed it {}",
                leaving.name,
                leaving.pid,
                dying::after(signal, ending.at, leaving.pid)
            ),
        ),
        None => finding,
    };
    let finding = match scene.peer_closed() {
        Some(closed) => finding.fact(
            "peer",
            format!("{} (pid {}) closed it", closed.name, closed.pid),
        ),
        None => finding,
    };
    let finding = if left_all_unread(scene, c) {
        finding.fact(
            "unread",
            format!(
                "it had not read a byte of the request ({})",
                wording::count(c.asked, "byte")
            ),
        )
    } else {
        finding
    };
    match kept(c, ending) {
        Some(kept) => finding.fact(
            "keep-alive",
            format!(
                "the backend closed it {} after its last response; nginx would have kept it longer",
                wording::duration(kept)
            ),
        ),
        None => finding.fact(
            "keep-alive",
            "how long it had been idle is not known: its last response came before tracing",
        ),
    }
}

/// How long the backend kept the connection after its last response: its own keep-alive timeout.
fn kept(c: &Connection, ending: &Ending) -> Option<u64> {
    let last = c.reused_at?.0.checked_sub(c.idle?)?;
    Some(ending.at.0.saturating_sub(last))
}

fn why_retried(scene: &Scene<'_>, c: &Connection) -> String {
    if !scene.is_last() || scene.case.masked {
        return "nginx tried again: nothing of a response had come".to_owned();
    }
    let method = scene.method();
    match method {
        Some(method @ ("POST" | "LOCK" | "PATCH")) if c.last_sent.is_some() => format!(
            "nginx did not try again: {method} is not idempotent and had been sent (proxy_next_upstream has no non_idempotent)"
        ),
        Some(method) => format!(
            "nginx did not try again although {method} may be: proxy_next_upstream, its tries or its timeout did not allow it"
        ),
        None => "nginx did not try again: a request that is not idempotent (POST) had been sent, or proxy_next_upstream \
                 did not allow it"
            .to_owned(),
    }
}

fn advise(scene: &Scene<'_>, c: &Connection, ending: &Ending, finding: Finding) -> Finding {
    let below = match kept(c, ending) {
        Some(kept) if kept >= 1_500_000_000 => {
            format!(
                "keepalive_timeout {}s; (below the {} seen)",
                (kept / 1_000_000_000 - 1).max(1),
                wording::duration(kept)
            )
        }
        Some(kept) => format!(
            "keepalive_timeout below the backend's: it closes after {} here, too short to keep connections at all",
            wording::duration(kept)
        ),
        None => "keepalive_timeout below the backend's own".to_owned(),
    };
    let finding = finding.advise(format!("in nginx's upstream block: {below}"));
    let finding = finding.advise_if(keep_alive(scene).map(|setting| {
        format!("or let the backend keep idle connections longer than nginx (60 s by default): {setting}")
    }));
    if scene.is_last() && !scene.case.masked {
        finding.advise(
            "proxy_next_upstream error timeout non_idempotent; only if the backend may get a request twice",
        )
    } else {
        finding
    }
}

/// The backend's own setting, where it is known which program it is.
fn keep_alive(scene: &Scene<'_>) -> Option<&'static str> {
    let setting = programs::known(scene.backend_name()?)?.keep_alive;
    (!setting.is_empty()).then_some(setting)
}
