//! How an HTTP/2 backend ends a stream or a connection: GOAWAY and RST_STREAM, by nginx's word on
//! them.

use super::{ending::is_reused, finding::Finding, scene::Scene, wording};
use crate::event::{Connection, LogCall, Said, Sent};

const NO_ERROR: u32 = 0;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;
const HTTP_1_1_REQUIRED: u32 = 13;

/// The backend said goodbye without an error and had not taken the request.
pub(super) fn goodbye<'a>(scene: &Scene<'a>) -> Option<&'a LogCall> {
    scene
        .said(Said::Sent(Sent::Goaway))
        .filter(|call| call.number == Some(NO_ERROR))
}

/// The name of an error code (RFC 9113 section 7).
pub(super) fn error_name(code: u32) -> &'static str {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    NAMES.get(code as usize).copied().unwrap_or("unknown")
}

/// The backend retired a kept-alive connection as nginx sent the next request on it.
pub(super) fn race(scene: &Scene<'_>) -> Option<Finding> {
    let c = scene.stood().filter(|c| is_reused(c))?;
    goodbye(scene)?;
    let idle = c
        .idle
        .map(|idle| format!(" after {} idle", wording::duration(idle)))
        .unwrap_or_default();
    let pass = pass(scene);
    let finding = Finding::proven(format!(
        "{} was closing the HTTP/2 connection that nginx reused{idle}: its GOAWAY (error 0, NO_ERROR) crossed the \
         request, which it did not process",
        scene.to()
    ))
    .fact("age", age(c))
    .advise(
        "let nginx retire connections first: in its upstream block, keepalive_timeout, keepalive_time and \
         keepalive_requests below the backend's idle timeout, maximum age (gRPC: max_connection_idle, \
         max_connection_age) and maximum requests",
    )
    .advise(again(pass))
    .advise("is the backend being stopped or deployed at that moment? then drain it before it stops; see its log");
    Some(finding.rests_on_complete_records(scene))
}

/// The same on a new connection: the backend takes no requests.
pub(super) fn refused_new(scene: &Scene<'_>) -> Option<Finding> {
    let c = scene.stood().filter(|c| !is_reused(c))?;
    goodbye(scene)?;
    let to = scene.to();
    let finding = Finding::proven(format!(
        "{to} refused the request on a new HTTP/2 connection: GOAWAY (error 0, NO_ERROR) {} after it was made",
        wording::duration(c.closed.since(c.established.unwrap_or(c.start)))
    ))
    .advise(format!(
        "take {to} out of the upstream block before it stops: a server that drains says so; its log says why"
    ))
    .advise(again(pass(scene)));
    Some(finding.rests_on_complete_records(scene))
}

/// What the error code asks for.
pub(super) fn advice(code: u32) -> Option<&'static str> {
    Some(match code {
        REFUSED_STREAM => {
            "raise the backend's limit of concurrent streams or requests: it refused the request before it processed it"
        }
        ENHANCE_YOUR_CALM => {
            "raise the backend's limits on pings and requests of one connection, or lower nginx's keepalive_requests: \
             it says that nginx asks too much of it"
        }
        HTTP_1_1_REQUIRED => {
            "use proxy_http_version 1.1 for this location: the backend does not serve it over HTTP/2"
        }
        _ => return None,
    })
}

fn age(c: &Connection) -> String {
    let requests = wording::count(c.reuses, "request");
    match c.reused_at {
        Some(at) if c.start.0 != 0 => format!(
            "the connection was {} old and had served {requests}",
            wording::duration(at.since(c.start))
        ),
        _ => format!("the connection is older than the tracing, in which it served {requests}"),
    }
}

fn pass(scene: &Scene<'_>) -> &'static str {
    let mut lines = scene.case.sure_lines();
    // Unless a line says another, it is gRPC: few proxy plain HTTP/2.
    match lines.any(|line| line.upstream.is_some()) && scene.scheme().is_none() {
        true => "proxy",
        false => "grpc",
    }
}

/// nginx takes a GOAWAY for an invalid header.
fn again(pass: &str) -> String {
    format!(
        "{pass}_next_upstream error timeout invalid_header non_idempotent; lets nginx try again; it also repeats \
         requests that a backend may have processed"
    )
}
