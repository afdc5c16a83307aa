//! Of an nginx whose functions are not seen: what its log says, where the kernel shows nothing
//! wrong.

use super::{
    cause::Cause,
    finding::Finding,
    response::{RESPONSE_REJECTED, RESPONSE_TRUNCATED},
    scene::Scene,
    tls::TLS_HANDSHAKE_FAILED,
};
use crate::event::{LogCall, Said};

/// nginx's own word on what it met: the sentence is its own.
pub(super) fn by_words(scene: &Scene<'_>) -> Option<(&'static Cause, Finding)> {
    if !scene.case.is_alone {
        return None;
    }
    let (cause, said) = scene
        .case
        .log_calls
        .iter()
        .find_map(|call| Some((cause(call)?, &call.format)))?;
    let to = scene.to();
    let finding = Finding::inferred(
        format!("nginx's log says of {to}: {}", &**said),
        "the connection itself: nothing went wrong with it as far as the kernel shows",
    );
    Some((cause, finding.advise(cause.fix)))
}

fn cause(call: &LogCall) -> Option<&'static Cause> {
    let in_body = || call.format.contains("while reading upstream");
    match call.said() {
        said if said.is_refusal() => Some(&RESPONSE_REJECTED),
        Said::TimedOut | Said::RecvFailed if in_body() => Some(&RESPONSE_TRUNCATED),
        said if said.is_premature_end() && in_body() => Some(&RESPONSE_TRUNCATED),
        Said::HandshakeFailed | Said::PeerClosedInHandshake => Some(&TLS_HANDSHAKE_FAILED),
        said if said.is_of_certificate() => Some(&TLS_HANDSHAKE_FAILED),
        _ => None,
    }
}
