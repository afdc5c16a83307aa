//! The backend answered before it had read the request: `early-response`.

use super::{
    cause::{ByHand, Cause},
    ending::{ending, in_plain, received},
    errno::{self, ECONNRESET, EPIPE},
    finding::Finding,
    hook, logged,
    scene::Scene,
    wording,
};
use crate::event::{Connection, Said, Upstream};

pub(super) static EARLY_RESPONSE: Cause = Cause {
    id: "early-response",
    title: "the backend answered and closed while nginx still sent the request body",
    split: "nginx's write fails (EPIPE, ECONNRESET) on a connection that the backend has answered and closed: its \
            answer lies unread in nginx's socket. The backend's process lives.",
    log_lines: &[
        "writev() failed (32: Broken pipe) while sending request to upstream",
        "writev() failed (104: Connection reset by peer) while sending request to upstream",
    ],
    logged: &[logged::UNSENT, logged::RESET],
    by_hand: ByHand {
        command: "sudo tcpdump -nAi any 'host IP and port PORT'",
        shows: "the response comes before the end of the request's body",
    },
    client_gets: "502",
    fix: "The backend refuses the body (a size limit, missing authorization) and closes without reading it: raise its \
          limit, have it read or drain the body, or refuse in nginx first (client_max_body_size).",
    matches: Some(early),
};

/// A connection on which the backend answered before nginx had written its request, and then went
/// away.
pub(super) fn answered_early<'a>(scene: &Scene<'a>) -> Option<&'a Connection> {
    let c = scene.failed_before_body()?;
    // What came unread is an answer, unless it may be TLS's own, or an earlier request's.
    let is_answer = c.first_byte.is_none() && c.reuses == 0 && received(c) > 0 && in_plain(c)
        || c.first_byte.is_some() && c.status.is_some();
    (is_answer && write_failed(scene, c) && ending(c).is_some()).then_some(c)
}

/// nginx could not write on.
pub(super) fn write_failed(scene: &Scene<'_>, c: &Connection) -> bool {
    let is_gone = |errno: u32| [EPIPE, ECONNRESET].contains(&errno);
    let logged = [Said::WritevFailed, Said::SendFailed, Said::SendfileFailed]
        .into_iter()
        .filter_map(|said| scene.said(said))
        .any(|call| is_gone(call.errno));
    let is_pipe = c.transfer_error.is_some_and(|(errno, _)| errno == EPIPE);
    logged || is_pipe
}

fn early(scene: &Scene<'_>) -> Option<Finding> {
    let c = answered_early(scene)?;
    let ending = ending(c)?;
    if scene.has_death(ending.at) || c.bytes_sent == 0 {
        return None;
    }
    let to = scene.to();
    let who = match scene.peer_closed().or_else(|| scene.accepted_by()) {
        Some(closed) => format!("{} (pid {}) at {to}", closed.name, closed.pid),
        None => to.clone(),
    };
    let answer = match (c.status, c.first_byte) {
        (Some(status), Some(_)) => format!("had answered {status}"),
        _ => format!(
            "had answered ({}, which nginx did not read)",
            wording::count(received(c), "byte")
        ),
    };
    let finding = Finding::proven(format!(
        "{who} {answer} and closed the connection while nginx still sent the request: {} were sent",
        wording::count(c.bytes_sent, "byte")
    ))
    .unless(
        c.first_byte.is_some() || scene.stands(hook::RECEIVED),
        format!(
            "whether nginx read the answer: the hook {} is not attached",
            hook::RECEIVED
        ),
    )
    .rests_on_complete_records(scene);
    let finding = match c.transfer_error {
        Some((e, _)) => finding.fact(
            "transfer",
            format!("nginx's write failed: {}", errno::name(e)),
        ),
        None => finding,
    };
    Some(advise(scene, c, finding))
}

/// What to do about a body that the backend does not read.
pub(super) fn advise(scene: &Scene<'_>, c: &Connection, finding: Finding) -> Finding {
    let to = scene.to();
    let see = match c.remote {
        Upstream::Unix(_) => wording::fetch(&to),
        Upstream::Inet(_) => format!("curl -sv -o /dev/null --data-binary @FILE http://{to}/"),
    };
    finding
        .advise(format!("raise the request body limit of {to}, or refuse such uploads in nginx first: client_max_body_size"))
        .advise("have the backend read or drain the body before it closes; what it answers while nginx still writes is lost")
        .advise("keep proxy_request_buffering on: nginx then sends the body at once, and a backend that reads it can answer")
        .advise(format!("confirm with a body as large: {see}"))
}
