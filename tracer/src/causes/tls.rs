//! The TLS handshake with the backend did not complete: `tls-handshake-failed`.

use super::{
    cause::{ByHand, Cause},
    ending::{TLS_ALERT, TLS_DATA, TLS_HANDSHAKE, alerted, ending, heard, response_began},
    finding::Finding,
    logged::{self, Logged},
    response,
    scene::Scene,
    waiting, wording,
};
use crate::{
    correlate::HTTP2_SETTINGS,
    event::{Connection, Said, Upstream},
};

pub(super) static TLS_HANDSHAKE_FAILED: Cause = Cause {
    id: "tls-handshake-failed",
    title: "the TLS handshake with the backend did not complete",
    split: "TCP was clean, nginx began a TLS handshake, and the connection ended in it: an alert, a plain answer, a \
            close, silence until nginx's timer, or nginx's own refusal of the certificate.",
    log_lines: &[
        "SSL_do_handshake() failed (SSL: error:0A00010B:SSL routines::wrong version number) while SSL handshaking to upstream",
        "peer closed connection in SSL handshake (104: Connection reset by peer) while SSL handshaking to upstream",
        "upstream SSL certificate verify error: (18:self-signed certificate) while SSL handshaking to upstream",
        "upstream SSL certificate does not match \"backend.example\" while SSL handshaking to upstream",
        "upstream timed out (110: Connection timed out) while SSL handshaking to upstream",
    ],
    logged: &[
        Logged::of(&[
            Said::HandshakeFailed,
            Said::PeerClosedInHandshake,
            Said::CertificateInvalid,
            Said::CertificateMismatch,
            Said::HandshakeRejected,
            Said::SslReadFailed,
            Said::SslWriteFailed,
        ])
        .doing(logged::BEFORE_BODY),
        logged::LATE_IN_HANDSHAKE,
        logged::RESET,
        logged::UNSENT,
        logged::CLOSED,
    ],
    by_hand: ByHand {
        command: "openssl s_client -connect ADDRESS -servername NAME </dev/null",
        shows: "its handshake fails as the line says",
    },
    client_gets: "502, or 504 for silence",
    fix: "Check proxy_ssl_server_name, proxy_ssl_name, proxy_ssl_trusted_certificate, proxy_ssl_protocols; does the \
          port speak TLS? openssl s_client -connect ADDRESS -servername NAME.",
    matches: Some(handshake_failed),
};

/// nginx's own word that the handshake, or the TLS under it, failed.
pub(super) fn said(scene: &Scene<'_>) -> Option<String> {
    let text = scene.case.log_calls.iter().find_map(|call| {
        let text = call.text.as_deref().filter(|text| match call.text_said() {
            Said::HandshakeFailed => true,
            Said::SslReadFailed => text.contains("alert"),
            _ => false,
        })?;
        scene.is_during(call).then(|| text.to_owned())
    });
    text.or_else(|| {
        [
            Said::PeerClosedInHandshake,
            Said::CertificateInvalid,
            Said::CertificateMismatch,
            Said::HandshakeRejected,
        ]
        .into_iter()
        .find_map(|said| scene.said(said))
        .map(|call| {
            call.format
                .split([':', '"'])
                .next()
                .unwrap_or_default()
                .trim_end()
                .to_owned()
        })
    })
}

/// The connection ended in its TLS handshake, or the backend refused it just after.
pub(super) fn broke_in_handshake(scene: &Scene<'_>) -> bool {
    said(scene).is_some()
        || scene.failed_before_body().is_some_and(|c| {
            (scene.in_handshake(c) && scene.logged(Said::is_prematurely_closed).is_none())
                || refusal(scene, c).is_some()
        })
}

/// An alert of TLS 1.3: a record's header, two bytes, their type and a tag of 16 bytes (RFC 8446
/// section 5.2).
const ENCRYPTED_ALERT: u64 = 24;

/// In TLS 1.3 the backend's no, for want of a certificate, comes after nginx's handshake is
/// complete: an alert in place of session tickets and a response. What nginx met of it depends on
/// whether it read the alert before the RST.
fn refusal(scene: &Scene<'_>, c: &Connection) -> Option<&'static str> {
    let ended = scene.in_tls(c)
        && ending(c).is_some()
        && !response_began(c)
        && !scene.timed_out_waiting()
        && scene.logged(Said::is_prematurely_closed).is_none();
    if !ended {
        None
    } else if c.first_received == Some(TLS_DATA) && alerted(c).is_some() {
        Some("which alert: TLS 1.3 encrypts it, and nginx logged nothing of it")
    } else if c.unread == ENCRYPTED_ALERT && heard(c) {
        Some(
            "which alert: TLS 1.3 encrypts it, and nginx met the RST that followed before it read the alert",
        )
    } else {
        None
    }
}

fn handshake_failed(scene: &Scene<'_>) -> Option<Finding> {
    let c = scene.failed_before_body()?;
    let ended = ending(c);
    let died = ended.is_some_and(|ending| scene.has_death(ending.at));
    if died {
        return None;
    }
    if scene.timed_out_waiting() {
        return silent(scene);
    }
    let said = said(scene);
    if said.is_none()
        && let Some(out_of_sight) = refusal(scene, c)
    {
        let finding = Finding::inferred(
            format!(
                "{} refused nginx in the TLS handshake: in place of a response it sent one TLS alert and ended the connection",
                scene.to()
            ),
            out_of_sight,
        )
        .advise(meaning("certificate required"))
        .advise("see its own log for the alert's reason");
        return Some(
            finding
                .advise_if(see(scene, c))
                .rests_on_complete_records(scene),
        );
    }
    if said.is_none()
        && (!scene.in_handshake(c)
            || response::rule(scene).is_some()
            || scene.logged(Said::is_prematurely_closed).is_some())
    {
        return None;
    }
    let to = scene.to();
    let finding = match (&said, c.first_received) {
        (_, Some(first)) if scene.in_handshake(c) && first != TLS_HANDSHAKE && first != TLS_ALERT => Finding::proven(format!(
            "{to} does not speak TLS: it answered nginx's handshake with {}",
            match first {
                b'H' => "plain HTTP".to_owned(),
                HTTP2_SETTINGS => "HTTP/2 without TLS".to_owned(),
                first => format!("a byte {first:#04x}"),
            }
        ))
        .advise("nginx's *_pass says https:// (or grpcs://) to a plain port: drop the s, or point it at the TLS port"),
        (Some(said), _) => explained(Finding::proven(format!("the TLS handshake with {to} failed: {}", short(said))), said),
        (None, Some(TLS_ALERT)) => by_alert(&to, c.tls_alert),
        (None, _) if ended.is_some() => {
            let how = if heard(c) { "before it was complete" } else { "without an answer to it" };
            Finding::proven(format!("{to} ended the connection in the TLS handshake, {how}"))
                .advise("does that port speak TLS, and the versions and ciphers nginx offers? its own log says why it closed")
        }
        // Over TLS a refused response and a refused certificate look alike; the log would tell.
        (None, _) if heard(c) => Finding::inferred(
            format!("nginx gave up the TLS connection to {to} itself: its certificate fits"),
            "why: nginx logged nothing",
        )
        .advise("is the certificate valid for proxy_ssl_name, and signed by proxy_ssl_trusted_certificate?"),
        _ => return None,
    };
    Some(
        finding
            .advise_if(see(scene, c))
            .rests_on_complete_records(scene),
    )
}

/// The handshake made no progress until nginx's timer.
fn silent(scene: &Scene<'_>) -> Option<Finding> {
    let c =
        waiting::waited(scene).filter(|c| scene.in_handshake(c) && waiting::was_taken(scene, c))?;
    let to = scene.to();
    let silence = wording::duration(
        c.closed
            .since(c.last_received.or(c.last_sent).unwrap_or(c.start)),
    );
    let until = scene.end_of_wait();
    let finding = if heard(c) {
        Finding::proven(format!("{to} began the TLS handshake and was silent then: nothing in {silence}, until {until}"))
            .advise("what holds the backend up within the handshake? its own log; is it out of CPU, or waits for a key or certificate?")
    } else {
        Finding::proven(format!("{to} did not answer nginx's TLS handshake: nothing in {silence}, until {until}"))
            .unless(waiting::is_accepted(scene, c), "whether its program accepted the connection")
            .advise("does that port speak TLS? a plain server waits for a request that never comes: drop the s of https:// in *_pass, or point it at the TLS port")
    };
    let finding = scene.by_timer(finding);
    let finding = match scene.accepted_by() {
        Some(closed) => finding.fact(
            "peer",
            format!(
                "{} (pid {}) had accepted it, and closed it after nginx did",
                closed.name, closed.pid
            ),
        ),
        None => finding,
    };
    Some(
        finding
            .advise("proxy_connect_timeout bounds the handshake; longer only if the backend's may take so long")
            .advise_if(see(scene, c))
            .rests_on_complete_records(scene),
    )
}

fn see(scene: &Scene<'_>, c: &Connection) -> Option<String> {
    let Upstream::Inet(remote) = c.remote else {
        return None;
    };
    let name = scene.server_name().unwrap_or("NAME");
    Some(format!(
        "see: openssl s_client -connect {remote} -servername {name}"
    ))
}

/// The backend's first word was an alert, and nginx logged nothing of it.
fn by_alert(to: &str, alert: Option<u8>) -> Finding {
    let Some(alert) = alert else {
        return Finding::proven(format!("{to} refused the TLS handshake with an alert")).fact(
            "unread",
            "which alert it was is in nginx's error log at level error or crit",
        );
    };
    let name = alert_name(alert);
    let finding = Finding::proven(format!(
        "{to} refused the TLS handshake with the alert {name} ({alert})"
    ));
    finding.advise(meaning(name))
}

/// RFC 8446 section 6, in OpenSSL's words.
fn alert_name(alert: u8) -> &'static str {
    match alert {
        0 => "close notify",
        10 => "unexpected message",
        40 => "handshake failure",
        42 => "bad certificate",
        43 => "unsupported certificate",
        44 => "certificate revoked",
        45 => "certificate expired",
        46 => "certificate unknown",
        47 => "illegal parameter",
        48 => "unknown ca",
        49 => "access denied",
        50 => "decode error",
        51 => "decrypt error",
        70 => "protocol version",
        71 => "insufficient security",
        80 => "internal error",
        86 => "inappropriate fallback",
        109 => "missing extension",
        110 => "unsupported extension",
        112 => "unrecognized name",
        116 => "certificate required",
        120 => "no application protocol",
        _ => "of another kind",
    }
}

/// OpenSSL's words without its numbers and routines: `wrong version number` of
/// `… (SSL: error:0A00010B:SSL routines::wrong version number)`.
fn short(said: &str) -> &str {
    let Some((_, words)) = said.split_once("(SSL: ") else {
        return said;
    };
    words
        .trim_end_matches(')')
        .split(':')
        .rfind(|part| !part.is_empty() && !part.starts_with("SSL alert"))
        .unwrap_or(words)
}

/// nginx's or OpenSSL's words, and what they ask for.
fn explained(finding: Finding, said: &str) -> Finding {
    finding
        .fact("log", format!("nginx says: {said}"))
        .advise(meaning(said))
}

fn meaning(said: &str) -> &'static str {
    let is = |words: &str| said.contains(words);
    if is("wrong version number") || is("http request") || is("packet length too long") {
        "the port does not speak TLS: drop the s of https:// in *_pass, or point it at the TLS port"
    } else if is("does not match") {
        "the certificate is for another name: set proxy_ssl_name to the name it has, or renew it"
    } else if is("verify") || is("unable to get") {
        "nginx does not trust the certificate: proxy_ssl_trusted_certificate must hold the CA that signed it; has it expired?"
    } else if is("unrecognized name") {
        "the backend knows no such name: proxy_ssl_server_name on; and proxy_ssl_name NAME;"
    } else if is("certificate required") || is("bad certificate") || is("unknown ca") {
        "the backend wants a client certificate it trusts: proxy_ssl_certificate and proxy_ssl_certificate_key"
    } else if is("protocol version") || is("unsupported protocol") {
        "no common TLS version: proxy_ssl_protocols, or the backend's"
    } else if is("handshake failure") || is("no shared cipher") || is("no ciphers") {
        "no common cipher, or the backend wants SNI: proxy_ssl_server_name on; then proxy_ssl_ciphers"
    } else if is("no application protocol") {
        "the backend has no HTTP/2 at that port, which grpc_pass grpcs:// needs: turn it on there (ALPN h2), or use proxy_pass https://"
    } else if is("closed connection") {
        "the backend closed in the handshake: its own log; does it want SNI (proxy_ssl_server_name on;)?"
    } else {
        "check proxy_ssl_server_name, proxy_ssl_name, proxy_ssl_protocols against what the backend wants; its own log"
    }
}
