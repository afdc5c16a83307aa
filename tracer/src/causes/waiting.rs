//! nginx's timer ended the wait for a response: `backend-slow`, `backend-not-accepting`.

use super::{
    cause::{ByHand, Cause},
    crowd,
    drops::telling_drops,
    ending::{ending, heard, is_reused, response_began},
    finding::Finding,
    logged, programs, protocol,
    scene::Scene,
    wording,
};
use crate::event::{
    Connection, Upstream,
    fact::{Listener, PeerSocketView},
};

pub(super) static BACKEND_SLOW: Cause = Cause {
    id: "backend-slow",
    title: "the backend took the request and did not answer before nginx's timer",
    split: "Connected, the request sent, the connection still established and silent when nginx's timer ended it; on \
            this host the upstream's socket belongs to a process, so accept() had taken it.",
    log_lines: &[
        "upstream timed out (110: Connection timed out) while reading response header from upstream",
        "upstream timed out (110: Connection timed out) while sending request to upstream",
    ],
    logged: &[logged::LATE],
    by_hand: ByHand {
        command: "curl -so /dev/null -w '%{time_starttransfer} s\\n' http://ADDRESS/",
        shows: "it takes as long as proxy_read_timeout (60 s unless set)",
    },
    client_gets: "504",
    fix: "What does the backend do in that time? Its log and a stack of it; proxy_read_timeout only if such answers \
          may take so long.",
    matches: Some(slow),
};

pub(super) static BACKEND_NOT_ACCEPTING: Cause = Cause {
    id: "backend-not-accepting",
    title: "the kernel connected, but the backend never accepted the connection",
    split: "The upstream's socket of the connection belongs to no process: it waited in the listener's accept queue \
            until nginx's timer.",
    log_lines: &[
        "upstream timed out (110: Connection timed out) while reading response header from upstream",
    ],
    logged: &[logged::LATE, logged::LATE_IN_HANDSHAKE],
    by_hand: ByHand {
        command: "ss -ltn 'sport = :PORT'",
        shows: "Recv-Q is above 0 and stays",
    },
    client_gets: "504",
    fix: "The backend's accept loop is stuck: all its workers busy, a deadlock, a stopped process.",
    matches: Some(not_accepting),
};

/// An established connection until nginx's timer, with something sent that arrived, and which no
/// drop explains.
pub(super) fn waited<'a>(scene: &Scene<'a>) -> Option<&'a Connection> {
    let c = scene
        .failed_before_body()
        .filter(|_| scene.timed_out_waiting())?;
    let sent = c.bytes_sent > 0 || c.last_sent.is_some();
    // The backend's own timer may be the same as nginx's: its FIN then comes as nginx gives up.
    let open = ending(c).is_none_or(|ending| !ending.reset);
    let arrived = scene.unacknowledged().is_none();
    (sent && open && arrived && telling_drops(c).next().is_none()).then_some(c)
}

/// It was shown to wait in the accept queue.
fn is_queued(scene: &Scene<'_>, c: &Connection) -> bool {
    // Its end is without a process also after close().
    let closed = ending(c).is_some() || is_reused(c) || heard(c);
    let view = scene.facts().peer_socket.as_ref();
    let seen = view.is_some_and(|view| view.found && !view.accepted);
    (seen || c.accepted == Some(false)) && !closed
}

fn not_accepting(scene: &Scene<'_>) -> Option<Finding> {
    let c = waited(scene).filter(|c| is_queued(scene, c))?;
    let queued = c
        .established
        .map(|at| format!(" for {}", wording::duration(c.closed.since(at))))
        .unwrap_or_default();
    let stage = if scene.in_handshake(c) && scene.is_timer_shown() {
        "nginx's timer ended the TLS handshake"
    } else {
        scene.end_of_wait()
    };
    let mut finding = Finding::proven(format!(
        "{} never accepted the connection: it waited in the accept queue{queued}, until {stage}",
        scene.to()
    ))
    .rests_on_complete_records(scene);
    finding = scene.by_timer(finding);
    let on_path = || scene.facts().unix_path.as_ref()?.listener.as_ref();
    let listener = queueing(scene).or_else(on_path);
    let mut see = None;
    if let Some(listener) = listener {
        let sharing = sharing(scene);
        let among = match sharing {
            0 | 1 => String::new(),
            n => format!(", one of {n} listeners on that address (SO_REUSEPORT)"),
        };
        let waiting = match listener.queue {
            // Taken meanwhile, or closed by nginx.
            0 => String::new(),
            n => format!(
                ": {} in its accept queue, limit {}",
                wording::count(n, "connection"),
                listener.limit
            ),
        };
        finding = finding.fact(
            "listener",
            format!(
                "{} listens{among}{waiting}",
                wording::holder(listener, c.closed)
            ),
        );
        finding = crowd::described(listener, finding);
        see = crowd::see(listener);
    }
    let owner = listener.and_then(|listener| listener.owner.as_ref());
    let workers = programs::aside(owner.map(|owner| owner.name.as_str()), |it| it.workers);
    let name = listener.map_or("the backend", wording::holder_name);
    let queue = match &c.remote {
        Upstream::Inet(remote) => {
            let command = format!("ss -ltnp 'sport = :{}'", remote.port());
            format!("see: {}", scene.there(&command))
        }
        Upstream::Unix(path) => format!("see: ss -lx src {}", wording::quoted(path)),
    };
    Some(
        finding
            .advise_if(listener.and_then(crowd::end))
            .advise_if(listener.and_then(crowd::full))
            .advise(format!("{name} does not accept: all its workers busy, blocked, or stopped; more workers{workers}, or find what holds them"))
            .advise_if(see)
            .advise(format!("{queue}  (Recv-Q waits to be accepted)")),
    )
}

/// The listener in whose queue the connection waits: the only one on its address, or the one of
/// several with the fullest queue. With SO_REUSEPORT each has its own, and an empty one holds
/// nobody.
fn queueing<'a>(scene: &Scene<'a>) -> Option<&'a Listener> {
    let listeners = || scene.listener_views().flat_map(|view| &view.exact);
    let fullest = listeners().max_by_key(|listener| listener.queue)?;
    (fullest.queue > 0 || sharing(scene) == 1).then_some(fullest)
}

/// How many listeners take connections to the address.
fn sharing(scene: &Scene<'_>) -> usize {
    let views = scene.listener_views();
    views.map(|view| view.exact.len()).max().unwrap_or_default()
}

fn slow(scene: &Scene<'_>) -> Option<Finding> {
    let c = waited(scene).filter(|c| was_taken(scene, c) && !scene.in_handshake(c))?;
    let view = scene
        .facts()
        .peer_socket
        .as_ref()
        .filter(|view| view.found && view.accepted);
    let answering = response_began(c) && !scene.in_tls(c);
    // Over TLS nginx's last write is its goodbye, and what came was of the handshake.
    let last = if scene.in_tls(c) {
        c.last_received
    } else {
        None
    };
    let from = c.reused_at.or(last).or(c.last_sent).or(c.established);
    let silence = from.map_or(0, |at| c.closed.since(at));
    let to = scene.to();
    let sent = match (is_reused(c) || scene.in_tls(c), c.bytes_sent) {
        (false, n) if n > 0 => format!("{n} request bytes"),
        _ => "the request".to_owned(),
    };
    let finding = if answering {
        Finding::proven(format!(
            "{to} began a response header and did not end it before {}",
            scene.end_of_wait()
        ))
    } else {
        Finding::proven(format!(
            "{to} took {sent} and sent nothing in {}",
            wording::duration(silence)
        ))
    };
    let finding = match (view, scene.accepted_by()) {
        (Some(view), _) => accepted(finding, c, view, scene),
        (None, Some(closed)) => finding.fact(
            "peer",
            format!(
                "{} (pid {}) had accepted it, and closed it after nginx did",
                closed.name, closed.pid
            ),
        ),
        (None, None) if answering => finding,
        (None, None) if c.accepted == Some(true) => finding.fact("peer", had_accepted(c)),
        (None, None) if heard(c) => finding.fact(
            "peer",
            "a program had accepted it: it answered the TLS handshake",
        ),
        (None, None) => finding.unless(
            false,
            "whether its program accepted the connection and read the request",
        ),
    };
    let owner = view.and_then(|view| view.owner.as_ref());
    let holder = owner.map(|owner| (&owner.name, owner.pid));
    let used = c.holder.as_ref();
    let holder = holder.or_else(|| used.map(|used| (&used.name, used.pid)));
    let limit = programs::aside(scene.backend_name(), |it| it.limit);
    let finding = scene
        .by_timer(finding)
        .rests_on_complete_records(scene)
        .advise("what does the backend do in that time? its log, its slow queries, a stack of it")
        .advise_if(holder.map(|(name, pid)| {
            format!("see what {name} does: cat /proc/{pid}/stack; gdb -p {pid} -batch -ex bt")
        }))
        .advise(format!(
            "{}_read_timeout longer, only if such answers may take so long{limit}",
            scene.scheme().unwrap_or("proxy")
        ));
    Some(protocol::questioned(scene, c, finding))
}

/// Some program has the connection, as far as can be known: it was not shown to wait in a queue,
/// nor may it.
pub(super) fn was_taken(scene: &Scene<'_>, c: &Connection) -> bool {
    !is_queued(scene, c) && (is_accepted(scene, c) || !may_be_queued(scene, c))
}

/// A program of the upstream was seen to have the connection.
pub(super) fn is_accepted(scene: &Scene<'_>, c: &Connection) -> bool {
    let view = scene.facts().peer_socket.as_ref();
    heard(c)
        || c.accepted == Some(true)
        || scene.accepted_by().is_some()
        || view.is_some_and(|view| view.found && view.accepted)
}

/// Who has a unix connection, as far as it was seen.
fn had_accepted(c: &Connection) -> String {
    match &c.holder {
        Some(holder) => format!(
            "{} (pid {}) had accepted it and read from it",
            holder.name, holder.pid
        ),
        None => "a program had accepted it and has not read from it".to_owned(),
    }
}

/// Nobody has shown that it was accepted, and on this host it may wait in the listener's queue.
fn may_be_queued(scene: &Scene<'_>, c: &Connection) -> bool {
    if is_reused(c) || matches!(c.remote, Upstream::Unix(_)) {
        return false;
    }
    let mut listeners = scene
        .listener_views()
        .flat_map(|view| &view.exact)
        .peekable();
    let unseen = scene.is_here(c) == Some(true) && listeners.peek().is_none();
    unseen || listeners.any(|listener| listener.queue > 0)
}

/// The upstream's end belongs to a process: which, and how much of the request that left unread.
fn accepted(finding: Finding, c: &Connection, view: &PeerSocketView, scene: &Scene<'_>) -> Finding {
    let holder = view.owner.as_ref().map_or_else(
        || "a process that could not be found".to_owned(),
        |owner| wording::owner(owner, c.closed),
    );
    // nginx's FIN counts as a byte.
    let unread = u64::from(view.unread).saturating_sub(1).min(c.bytes_sent);
    let read = match unread {
        0 => "has read the request".to_owned(),
        n if n == c.bytes_sent && !is_reused(c) => "has not read a byte of the request".to_owned(),
        n => format!("has left {} unread", wording::count(n, "byte")),
    };
    let untouched = unread > 0 && unread == c.bytes_sent && !is_reused(c);
    let crowded = scene
        .listener_views()
        .flat_map(|view| &view.exact)
        .any(|listener| listener.queue > 0);
    finding
        .fact("peer", format!("{holder} holds the connection and {read}"))
        .unless(
            !(untouched && crowded),
            "when it was accepted: others wait in the accept queue, and it may have been taken after nginx's timer",
        )
}
