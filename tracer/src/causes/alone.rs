//! Of an nginx whose functions are not seen: what its log says, where the kernel shows nothing wrong.

use super::{
    cause::Cause,
    finding::Finding,
    response::{RESPONSE_REJECTED, RESPONSE_TRUNCATED},
    scene::Scene,
    tls::TLS_HANDSHAKE_FAILED,
};
use crate::correlate::HARMLESS;

/// nginx's own word on what it met: the sentence is its own.
pub(super) fn by_words(scene: &Scene<'_>) -> Option<(&'static Cause, Finding)> {
    if !scene.case.is_alone {
        return None;
    }
    let (cause, said) = scene
        .case
        .log_calls
        .iter()
        .find_map(|call| Some((cause(&call.format)?, &call.format)))?;
    let to = scene.to();
    let finding = Finding::inferred(
        format!("nginx's log says of {to}: {said}"),
        "the connection itself: nothing went wrong with it as far as the kernel shows",
    );
    Some((cause, finding.advise(cause.fix)))
}

fn cause(said: &str) -> Option<&'static Cause> {
    const ENDS: [&str; 3] = [
        "upstream prematurely closed",
        "recv() failed",
        "upstream timed out",
    ];
    const TLS: [&str; 3] = [
        "SSL_do_handshake() failed",
        "peer closed connection in SSL handshake",
        "upstream SSL certificate",
    ];
    if said.starts_with("upstream sent ") && !HARMLESS.iter().any(|words| said.contains(words)) {
        Some(&RESPONSE_REJECTED)
    } else if said.contains("while reading upstream")
        && ENDS.iter().any(|words| said.starts_with(words))
    {
        Some(&RESPONSE_TRUNCATED)
    } else if TLS.iter().any(|words| said.starts_with(words)) {
        Some(&TLS_HANDSHAKE_FAILED)
    } else {
        None
    }
}
