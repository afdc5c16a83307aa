//! The connection stood and the answer did not come. What is told apart here needs no more than the connection's own
//! life; the rest of the family is catalogued and stays `unexplained` until its evidence is read.

use super::{
    catalogue::Cause,
    errno::{self, ETIMEDOUT},
    finding::Finding,
    scene::Scene,
    wording,
};
use crate::event::{Connection, Upstream};

const ESTABLISHED: u8 = 1;

pub(super) static BACKEND_CLOSED_EARLY: Cause = Cause {
    id: "backend-closed-early",
    title: "the backend closed a fresh connection before the first byte of a response",
    split: "A FIN and not one byte, on a connection that was not kept alive, while the backend's process lives.",
    log_lines: &[
        "upstream prematurely closed connection while reading response header from upstream",
    ],
    client_gets: "502",
    fix: "The backend's own log: an error or a limit in its request handling, or a TLS or protocol mismatch.",
    matches: Some(closed_early),
};

pub(super) static BACKEND_RESET: Cause = Cause {
    id: "backend-reset",
    title: "the backend reset a fresh connection before the first byte of a response",
    split: "A RST after the handshake and not one byte, while the backend's process lives.",
    log_lines: &[
        "recv() failed (104: Connection reset by peer) while reading response header from upstream",
    ],
    client_gets: "502",
    fix: "The backend closed with the request unread (a limit, a crash handler, SO_LINGER 0), or a middlebox did: its \
          log, then tcpdump on its host.",
    matches: Some(reset),
};

pub(super) static BACKEND_DIED: Cause = Cause {
    id: "backend-died",
    title: "the backend's process exited or was killed while it served the request",
    split: "The process that owned the peer's socket exited, its code or signal and who sent it, just before the FIN \
            or RST.",
    log_lines: &[
        "upstream prematurely closed connection while reading response header from upstream",
        "recv() failed (104: Connection reset by peer) while reading response header from upstream",
    ],
    client_gets: "502",
    fix: "The exit code or signal says where to look: a core dump, a restart by the service manager, a deploy.",
    matches: None,
};

pub(super) static BACKEND_OOM_KILLED: Cause = Cause {
    id: "backend-oom-killed",
    title: "the OOM killer killed the backend's process",
    split: "oom:mark_victim names the process that owned the peer's socket; the cgroup whose limit was met.",
    log_lines: &[
        "upstream prematurely closed connection while reading response header from upstream",
    ],
    client_gets: "502",
    fix: "Raise the cgroup's memory limit, or find what grew.",
    matches: None,
};

pub(super) static KEEPALIVE_RACE: Cause = Cause {
    id: "keepalive-race",
    title: "nginx reused an idle connection as the backend was closing it",
    split: "A reused connection, its idle time, and the backend's FIN or RST crossing nginx's write.",
    log_lines: &[
        "upstream prematurely closed connection while reading response header from upstream",
        "writev() failed (32: Broken pipe) while sending request to upstream",
    ],
    client_gets: "502 for methods that nginx does not retry (POST), else a retry hides it",
    fix: "Let the backend keep idle connections longer than nginx does: keepalive_timeout in the upstream block below \
          the backend's own.",
    matches: None,
};

pub(super) static BACKEND_SLOW: Cause = Cause {
    id: "backend-slow",
    title: "the backend took the request and did not answer before nginx's timer",
    split: "Connected, the request sent, the connection still established and silent when nginx's timer ended it.",
    log_lines: &[
        "upstream timed out (110: Connection timed out) while reading response header from upstream",
    ],
    client_gets: "504",
    fix: "What does the backend do in that time? Its log and a stack of it; proxy_read_timeout only if such answers \
          may take so long.",
    matches: Some(slow),
};

pub(super) static BACKEND_NOT_ACCEPTING: Cause = Cause {
    id: "backend-not-accepting",
    title: "the kernel connected, but the backend never accepted the connection",
    split: "The connection waited in the listener's accept queue until nginx's timer; no accept() took it.",
    log_lines: &[
        "upstream timed out (110: Connection timed out) while reading response header from upstream",
    ],
    client_gets: "504",
    fix: "The backend's accept loop stands still: all its workers busy, a deadlock, a stopped process.",
    matches: None,
};

pub(super) static RESPONSE_REJECTED: Cause = Cause {
    id: "response-rejected",
    title: "the backend answered and nginx refused the answer",
    split: "Response bytes came, and nginx closed first; its log line names the rule (too big header, invalid header).",
    log_lines: &[
        "upstream sent too big header while reading response header from upstream",
        "upstream sent invalid header",
    ],
    client_gets: "502",
    fix: "Too big header: proxy_buffer_size (and proxy_buffers). Invalid header or protocol: does the port speak what \
          the *_pass directive says?",
    matches: None,
};

pub(super) static TLS_HANDSHAKE_FAILED: Cause = Cause {
    id: "tls-handshake-failed",
    title: "the TLS handshake with the backend did not complete",
    split: "TCP was clean, and the connection ended in the handshake.",
    log_lines: &[
        "SSL_do_handshake() failed while SSL handshaking to upstream",
        "upstream SSL certificate verify error",
    ],
    client_gets: "502",
    fix: "Check proxy_ssl_server_name, proxy_ssl_name, proxy_ssl_trusted_certificate, proxy_ssl_protocols; does the \
          port speak TLS? openssl s_client -connect ADDRESS -servername NAME.",
    matches: None,
};

pub(super) static RESPONSE_TRUNCATED: Cause = Cause {
    id: "response-truncated",
    title: "the backend's connection ended in the body; the client got a short answer",
    split: "A FIN or RST after the header, before the promised length.",
    log_lines: &["upstream prematurely closed connection while reading upstream"],
    client_gets: "the original status, truncated",
    fix: "The backend's own log: an error or a time limit while it writes the body.",
    matches: None,
};

pub(super) static PASSED_THROUGH: Cause = Cause {
    id: "passed-through",
    title: "the backend itself answered 502 or 504",
    split: "A clean connection whose response carries that status; nginx only passed it on.",
    log_lines: &[],
    client_gets: "502 or 504, as the backend sent it",
    fix: "Look for the cause at the backend: it is itself a proxy (a gateway, a sidecar, a load balancer).",
    matches: Some(passed_through),
};

/// A connection that stood, was never reused, and brought not one byte.
fn silent<'a>(scene: &Scene<'a>) -> Option<&'a Connection> {
    scene.connection().filter(|c| {
        let connected = c.established.is_some() || matches!(c.remote, Upstream::Unix(_));
        connected
            && c.reuses == 0
            && c.bytes_received == 0
            && c.first_byte.is_none()
            && c.drops.is_empty()
    })
}

fn closed_early(scene: &Scene<'_>) -> Option<Finding> {
    let c = silent(scene).filter(|c| c.rst_received.is_none())?;
    let fin = c.fin_received?;
    // A FIN that comes as nginx gives up explains nothing: its timer had already spoken.
    if scene.case.status == Some(504) && scene.is_last() {
        return None;
    }
    let after = c
        .established
        .map(|at| format!(" {} after it took it", wording::duration(fin.since(at))));
    Some(
        Finding::inferred(
            format!(
                "{} closed the connection{}, before the first byte of a response",
                scene.to(),
                after.unwrap_or_default()
            ),
            "whether its process still lives",
        )
        .advise(format!(
            "look at the backend's own log for that moment; {} request bytes had been sent",
            c.bytes_sent
        )),
    )
}

fn reset(scene: &Scene<'_>) -> Option<Finding> {
    let c = silent(scene).filter(|c| !c.rst_in_syn_sent)?;
    c.rst_received?;
    let errno = scene
        .errno()
        .map(|e| format!(" ({})", errno::name(e)))
        .unwrap_or_default();
    Some(
        Finding::inferred(
            format!("{} reset the connection before the first byte of a response{errno}", scene.to()),
            "whether its process still lives, and whether it or something on the way sent the RST",
        )
        .advise("look at the backend's own log for that moment: it closed with the request unread, or crashed")
        .advise(format!("{} request bytes had been sent: is there a size limit in the backend?", c.bytes_sent)),
    )
}

fn slow(scene: &Scene<'_>) -> Option<Finding> {
    let c = silent(scene).filter(|c| {
        c.state == ESTABLISHED
            && c.bytes_sent > 0
            && c.fin_received.is_none()
            && c.rst_received.is_none()
    })?;
    let timed_out = scene.log_call("upstream timed out").is_some()
        || (scene.is_last() && scene.case.status == Some(504))
        || c.error.is_some_and(|(errno, _)| errno == ETIMEDOUT);
    if !timed_out {
        return None;
    }
    // A connection that nobody accepted looks the same on this side: on this host, an empty queue must rule that out.
    let mut listeners = scene
        .listener_views()
        .flat_map(|view| &view.exact)
        .peekable();
    let here = match &c.remote {
        Upstream::Inet(remote) => scene.is_local(*remote) == Some(true),
        Upstream::Unix(_) => true,
    };
    if (here && listeners.peek().is_none()) || listeners.any(|listener| listener.queue > 0) {
        return None;
    }
    let waited = c
        .established
        .map(|at| wording::duration(c.closed.since(at)))
        .unwrap_or_default();
    Some(
        Finding::inferred(
            format!(
                "{} took {} request bytes and sent nothing in {waited}",
                scene.to(),
                c.bytes_sent
            ),
            "whether its program accepted the connection and read the request",
        )
        .advise("what does the backend do in that time? its log, its slow queries, a stack of it")
        .advise("proxy_read_timeout longer, only if such answers may take so long"),
    )
}

fn passed_through(scene: &Scene<'_>) -> Option<Finding> {
    let c = scene.connection()?;
    let status = c.status.filter(|status| matches!(status, 502 | 504))?;
    if !scene.is_last() || scene.case.status != Some(status) {
        return None;
    }
    Some(
        Finding::inferred(
            format!("{} itself answered {status}", scene.to()),
            "what the backend met: its own upstream is beyond this host's nginx",
        )
        .advise(format!(
            "look at {}: it is a proxy itself, and its log says why it answered {status}",
            scene.to()
        )),
    )
}
