//! The backend lives and ended the connection before its response: `backend-closed-early`,
//! `backend-reset`.

use super::{
    cause::{ByHand, Cause},
    drops::netfilter_drop,
    dying, early,
    ending::{Ending, alerted, is_reused, is_tls, received, response_began},
    finding::Finding,
    hook, http2, keepalive, logged, programs, protocol, response,
    scene::Scene,
    wording,
};
use crate::event::{Connection, PeerClosed, Said, Time, Upstream};

pub(super) static BACKEND_CLOSED_EARLY: Cause = Cause {
    id: "backend-closed-early",
    title: "the backend closed the connection before its response, or within the response's header",
    split: "A FIN before the header is complete, while the backend's process lives; the connection was fresh, or the FIN \
            came too long after the request for a keep-alive race.",
    log_lines: &[
        "upstream prematurely closed connection while reading response header from upstream",
    ],
    logged: &[
        logged::CLOSED,
        logged::UNSENT,
        logged::RESET_ON_CONNECT,
        logged::CLOSED_IN_HANDSHAKE,
        logged::GOAWAY,
    ],
    by_hand: ByHand {
        command: "sudo tcpdump -ni any 'host IP and port PORT and tcp[tcpflags] & tcp-fin != 0'",
        shows: "the backend's FIN follows the request, and its process lives on",
    },
    client_gets: "502",
    fix: "The backend's own log: an error or a limit in its request handling, or a TLS or protocol mismatch.",
    matches: Some(closed_early),
};

pub(super) static BACKEND_RESET: Cause = Cause {
    id: "backend-reset",
    title: "the backend reset the connection before its response, or within the response's header",
    split: "A RST after the handshake while the backend's process lives. On this host the kernel says why it was sent: \
            TCP_ABORT_ON_CLOSE, closed with the request unread; TCP_STATE, on purpose (SO_LINGER 0).",
    log_lines: &[
        "recv() failed (104: Connection reset by peer) while reading response header from upstream",
        "connect() failed (104: Connection reset by peer) while connecting to upstream",
        "writev() failed (32: Broken pipe) while sending request to upstream",
    ],
    logged: &[
        logged::RESET,
        logged::RESET_ON_CONNECT,
        logged::UNSENT,
        logged::CLOSED_IN_HANDSHAKE,
    ],
    by_hand: ByHand {
        command: "sudo tcpdump -ni any 'host IP and port PORT and tcp[tcpflags] & tcp-rst != 0'",
        shows: "the backend's RST follows the request, and its process lives on",
    },
    client_gets: "502",
    fix: "The backend closed with the request unread (a size limit, a crash handler), closed with SO_LINGER 0, or a \
          middlebox reset: its log, then tcpdump on its host.",
    matches: Some(reset),
};

/// The kernel's reasons for a RST that a program causes by closing.
const UNREAD: &str = "TCP_ABORT_ON_CLOSE";
const ON_PURPOSE: &str = "TCP_STATE";

/// The upstream ended it, alive as far as is known, and neither TLS nor a keep-alive race is the
/// reason.
fn ended_alive<'a>(scene: &Scene<'a>) -> Option<(&'a Connection, Ending)> {
    let (c, ending) = scene.ended()?;
    let elsewhere = scene.has_death(ending.at)
        || http2::goodbye(scene).is_some()
        || keepalive::may_be_race(scene, c, &ending)
        || super::tls::broke_in_handshake(scene)
        || early::answered_early(scene).is_some()
        || response::rule(scene).is_some();
    (!elsewhere).then_some((c, ending))
}

fn closed_early(scene: &Scene<'_>) -> Option<Finding> {
    if let Some(finding) = http2::refused_new(scene) {
        return Some(finding);
    }
    let (c, ending) = ended_alive(scene).filter(|(_, ending)| !ending.reset)?;
    // After some bytes a FIN can be a response's proper end that nginx refused: it must have met
    // the end itself.
    let began = response_began(c);
    if began && c.end_read.is_none() && scene.logged(Said::is_prematurely_closed).is_none() {
        return None;
    }
    let what = stage(scene, c);
    let finding = Finding::proven(format!(
        "{} closed the connection{}, {what}",
        scene.to(),
        since(c, &ending)
    ));
    let finding = if scene.in_handshake(c) {
        finding.unless(
            scene.logged(Said::is_prematurely_closed).is_some(),
            "whether the TLS handshake was complete: its bytes are encrypted, and nginx logged nothing",
        )
    } else {
        finding
    };
    let finding = finding.unless(
        !is_reused(c) || alerted(c).is_none(),
        "whether it had taken the request: it said in TLS that it closes (close_notify), and what comes until it does may \
         be read and dropped",
    );
    let is_close_seen = c.fin_received.or(c.end_read).or(alerted(c)).is_some();
    let finding = finding.unless(
        is_close_seen || matches!(c.remote, Upstream::Unix(_)),
        "whether it closed or reset the connection: no FIN was seen, nginx's write failed (EPIPE)",
    );
    let finding = is_alive(scene, c, &ending, finding).rests_on_complete_records(scene);
    let sent = match c.bytes_sent {
        n if n > 0 && !is_reused(c) && !is_tls(c) => {
            format!("; {} had been sent", wording::count(n, "request byte"))
        }
        _ => String::new(),
    };
    let finding = with_request(c, finding);
    let finding = finding.advise_if((!began).then(|| unread(scene, c)).flatten());
    let finding = finding.advise(format!(
        "look at the backend's own log for that moment{sent}"
    ));
    Some(protocol::questioned(scene, c, finding))
}

/// Why the backend's program may close without reading: a setting of its own.
fn unread(scene: &Scene<'_>, c: &Connection) -> Option<String> {
    let program = programs::known(scene.backend_name()?)?;
    let from = match (&c.remote, c.local) {
        (Upstream::Inet(_), Some(local)) => local.ip().to_canonical().to_string(),
        (Upstream::Inet(_), None) => "nginx's address".to_owned(),
        (Upstream::Unix(_), _) if program.is_by_address => return None,
        (Upstream::Unix(_), _) => String::new(),
    };
    (!program.unread.is_empty()).then(|| program.unread.replace("{}", &from))
}

fn reset(scene: &Scene<'_>) -> Option<Finding> {
    let (c, ending) = ended_alive(scene).filter(|(_, ending)| ending.reset)?;
    // A full queue's RST, and a rule's, are not the backend's.
    let full = scene.full_listener().is_some() || c.drops.iter().any(super::queues::is_overflow);
    let by_peer = scene.peer_closed().filter(|closed| closed.reset.is_some());
    if by_peer.is_none() && (full || netfilter_drop(c).is_some()) {
        return None;
    }
    let what = stage(scene, c);
    let to = scene.to();
    let since = since(c, &ending);
    let finding = match by_peer.and_then(|closed| Some((closed, closed.reset.as_deref()?))) {
        Some((closed, UNREAD)) if early::write_failed(scene, c) => early::advise(
            scene,
            c,
            Finding::proven(format!(
                "{} (pid {}) at {to} closed the connection{since} while nginx still sent the request, {what}; its \
                 kernel reset it",
                closed.name, closed.pid
            )),
        ),
        Some((closed, UNREAD)) => Finding::proven(format!(
            "{} (pid {}) at {to} closed the connection with the request unread{since}, {what}; its kernel reset it",
            closed.name, closed.pid
        ))
        .advise_if(unread(scene, c))
        .advise(format!(
            "check {}'s own log for a size or time limit, a refused client or a full pool: it closed without reading",
            closed.name
        )),
        Some((closed, ON_PURPOSE)) => {
            let gone = scene.facts().listener.as_ref().is_some_and(|view| view.exact.is_empty());
            let finding = Finding::proven(format!(
                "{} (pid {}) at {to} reset the connection on purpose{since}, {what}",
                closed.name, closed.pid
            ));
            if gone {
                finding
                    .fact("listener", "nobody listens there now: closing a listener resets what waits in its accept queue")
                    .advise(format!("was {} being stopped? let it drain its connections before it closes its listener", closed.name))
            } else {
                finding.advise(format!(
                    "{} closes with SO_LINGER 0, or disconnects: look for it in its source or settings, and in its log",
                    closed.name
                ))
            }
        }
        Some((closed, PeerClosed::NO_REASON)) => Finding::proven(format!(
            "{} (pid {}) at {to} reset the connection{since}, {what}",
            closed.name, closed.pid
        ))
        .advise(format!(
            "this kernel does not say why (6.10 does): {} closed with the request unread, or with SO_LINGER 0: its log",
            closed.name
        )),
        Some((closed, reason)) => Finding::proven(format!(
            "this host's kernel reset the connection at {to}'s end{since}, {what}: {reason}"
        ))
        .fact("peer", format!("{} (pid {}) ran at that moment", closed.name, closed.pid))
        .advise("look at the backend's own log for that moment"),
        None if matches!(c.remote, Upstream::Unix(_)) => Finding::proven(format!(
            "{to} closed the connection with the request unread, or before it was accepted{since}, {what}"
        ))
        .advise_if(unread(scene, c))
        .advise("look at the backend's own log for that moment: a limit, a refused request, a restart"),
        None => Finding::inferred(
            format!("{to} reset the connection{since}, {what}"),
            match scene.is_here(c) {
                Some(true) => "who sent the RST: no program of this host was seen to close that connection; an address \
                               translation (DNAT) to elsewhere fits",
                _ => "who sent the RST: the backend's host, whose processes are not visible from here, or something on the path",
            },
        )
        .advise("look at the backend's own log for that moment: it closed with the request unread, or crashed")
        .advise("see who sends it, on the backend's host: tcpdump -ni any 'tcp[13] & 4 != 0'"),
    };
    let finding = if by_peer.is_none() {
        finding.unless(
            scene.stands(hook::RST_RECEIVED) || c.transfer_error.is_some(),
            "the RST itself: its hook is not attached",
        )
    } else {
        finding
    };
    let finding = with_request(c, finding.rests_on_complete_records(scene));
    Some(protocol::questioned(scene, c, finding))
}

/// A FIN says that the backend closed, not that its process lives: on this host that must be seen.
fn is_alive(scene: &Scene<'_>, c: &Connection, ending: &Ending, mut finding: Finding) -> Finding {
    if scene.is_here(c) != Some(false) {
        for hook in [hook::SIGNAL, hook::EXIT] {
            finding = finding.unless(
                scene.stands(hook),
                format!("whether its process was ending: the hook {hook} is not attached"),
            );
        }
    }
    if matches!(c.remote, Upstream::Unix(_)) {
        if let Some(holder) = &c.holder {
            return finding.fact(
                "peer",
                format!(
                    "{} (pid {}) had the connection; it {}",
                    holder.name,
                    holder.pid,
                    exit(scene, holder.pid, ending.at)
                        .unwrap_or_else(|| "was not ending as that closed".to_owned())
                ),
            );
        }
        return match c.listener_pid {
            Some(pid) => finding.fact(
                "peer",
                format!("pid {pid} listens on it; no death of it or of its children was seen"),
            ),
            None => finding.unless(
                false,
                "whether its process still lives: who listens on it was not seen",
            ),
        };
    }
    match scene.is_here(c) {
        Some(true) => {}
        Some(false) => {
            return finding.fact(
                "peer",
                "the process there is not visible from this host: only its own host knows whether it closed or died",
            );
        }
        None => {
            return finding.unless(
                false,
                "whether its process still lives: whose address it is could not be asked",
            );
        }
    }
    let listeners = scene.facts().listener.iter().flat_map(|view| &view.exact);
    let owners: Vec<_> = listeners
        .filter_map(|listener| listener.owner.as_ref())
        .collect();
    // Whoever looks at a process's descriptors (ss -p, tracer itself) may be the last to let go of
    // one.
    let is_family = |closed: &PeerClosed| {
        owners.iter().any(|owner| {
            [closed.pid, closed.parent].contains(&owner.pid) || closed.name == owner.name
        })
    };
    if let Some(closed) = scene.accepted_by()
        && !owners.is_empty()
        && !is_family(closed)
    {
        return finding.unless(
            false,
            format!(
                "whether its process still lived: {} (pid {}) was the last to close the connection, and may only \
                 have looked at it",
                closed.name, closed.pid
            ),
        );
    }
    match owners.iter().find(|owner| owner.since <= ending.at) {
        Some(owner) => {
            let listens = format!("{} listens there", wording::owner(owner, c.closed));
            let peer = match scene.accepted_by().filter(|closed| closed.pid != owner.pid) {
                Some(closed) => format!(
                    "{} (pid {}) closed the connection and {}; {listens}",
                    closed.name,
                    closed.pid,
                    exit(scene, closed.pid, closed.at)
                        .unwrap_or_else(|| "was not ending then".to_owned())
                ),
                None => format!("{listens}; it was not ending as the connection closed"),
            };
            finding.fact("peer", peer)
        }
        None => finding.unless(
            false,
            match owners.first() {
                Some(_) => "whether its process still lived: who listens there now started later",
                None => "whether its process still lives: who listens there was not found",
            },
        ),
    }
}

/// How the process that closed at `at` ended, where that was seen: `exited with code 0, 1.00 ms
/// later`.
fn exit(scene: &Scene<'_>, pid: u32, at: Time) -> Option<String> {
    let death = scene
        .attempt?
        .deaths
        .iter()
        .find(|death| death.pid == pid && death.at >= at)?;
    let later = wording::duration(death.at.since(at));
    Some(format!("{}, {later} later", dying::how(death)))
}

/// ` 12 ms after it took it`, by what was last known before.
fn since(c: &Connection, ending: &Ending) -> String {
    match (c.last_sent, c.established) {
        (Some(sent), _) if ending.at >= sent => {
            format!(
                " {} after nginx's last write",
                wording::duration(ending.at.since(sent))
            )
        }
        (None, Some(at)) if ending.at >= at => {
            format!(
                " {} after it was made",
                wording::duration(ending.at.since(at))
            )
        }
        _ => String::new(),
    }
}

/// How far the response had come. Of TLS and HTTP/2 no bytes are counted: they may be tickets, or
/// settings.
fn stage(scene: &Scene<'_>, c: &Connection) -> String {
    // HTTP/2's settings come before any header.
    let is_framed = is_tls(c) || scene.scheme() == Some("grpc");
    match (response_began(c), is_framed) {
        (false, _) => "before the first byte of a response".to_owned(),
        (true, true) => "before nginx had a whole response header".to_owned(),
        (true, false) => format!("after {} of a response header", bytes(c)),
    }
}

/// How much of the response came, as far as it is known for this request alone.
fn bytes(c: &Connection) -> String {
    match (is_reused(c), received(c)) {
        (false, n) if n > 0 => wording::count(n, "byte"),
        _ => "some bytes".to_owned(),
    }
}

fn with_request(c: &Connection, finding: Finding) -> Finding {
    let finding = if is_reused(c) {
        finding.fact(
            "no-race",
            "a kept-alive connection, but the request had reached the backend before it was ended",
        )
    } else {
        finding
    };
    match (c.first_sent, c.first_received) {
        (Some(sent), Some(0x15 | 0x16)) if sent != 0x16 => finding.fact(
            "protocol",
            "the backend answered in TLS: the port expects https (proxy_pass https://)",
        ),
        _ => finding,
    }
}
