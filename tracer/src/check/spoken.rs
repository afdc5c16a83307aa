//! What it means how a peer speaks once it is connected to.

use std::io;

use super::{
    Options,
    connect::{Attempt, Outcome},
    tcp::{self, Fault},
    words::{duration, quoted},
};

/// No connection can leave from the address of `proxy_bind`.
pub(super) fn unbound(attempt: &Attempt, errno: i32, worker: u32) -> Fault {
    let ip = attempt.bind.map_or(String::new(), |ip| ip.to_string());
    let why = io::Error::from_raw_os_error(errno);
    Fault::error(
        "bind-failed",
        format!("no connection can leave from {ip} (proxy_bind): {why}; requests fail with 500"),
        format!(
            "Give an interface that address, or correct proxy_bind; see: nsenter -t {worker} -n ip addr"
        ),
    )
}

/// What is wrong with what the peer says.
pub(super) fn judge(attempt: &Attempt, outcome: &Outcome, options: &Options) -> Option<Fault> {
    let peer = attempt.address.to_string();
    let word = quoted(&peer);
    let patience = duration(options.timeout);
    match outcome {
        Outcome::Tls(reply) => {
            let name = attempt.tls.as_ref().and_then(|tls| tls.name.as_deref());
            tcp::handshake(&peer, reply, name)
        }
        Outcome::Broken(errno) if attempt.tls.is_some() => {
            let how = match errno {
                Some(_) => "resets the connection in the TLS handshake".to_owned(),
                None => format!("does not answer a TLS hello within {patience}"),
            };
            Some(Fault::error(
                "tls-handshake-failed",
                format!("{peer} {how}"),
                format!(
                    "Check whether this port speaks TLS; see: openssl s_client -connect {word}"
                ),
            ))
        }
        Outcome::Broken(Some(_)) => Some(Fault::warning(
            "backend-reset",
            format!("{peer} resets the connection before its answer to HEAD /"),
            "Check the backend's log".to_owned(),
        )),
        Outcome::Broken(None) => Some(Fault::warning(
            "backend-slow",
            format!("{peer} does not answer HEAD / within {patience}"),
            format!("Find out what the backend waits for; see: curl -I http://{word}/"),
        )),
        Outcome::Closed => Some(Fault::warning(
            "backend-closed-early",
            format!("{peer} closes the connection before its answer to HEAD /"),
            "Check the backend's log".to_owned(),
        )),
        Outcome::Status(400) => None,
        Outcome::Status(status) => Some(Fault::warning(
            "passed-through",
            format!("{peer} answers HEAD / with {status} itself"),
            "Check the backend's log, and what it depends on".to_owned(),
        )),
        Outcome::NotHttp(begins) => {
            let is_tls = begins.first() == Some(&21) || begins.first() == Some(&22);
            Some(match is_tls {
                true => Fault::error(
                    "response-rejected",
                    format!("{peer} speaks TLS, and nginx is configured to speak plain HTTP"),
                    "Use https:// for this port".to_owned(),
                ),
                false => Fault::error(
                    "response-rejected",
                    format!("{peer} does not speak HTTP: it answers {:?}", String::from_utf8_lossy(begins)),
                    "Correct the port, or use the directive of its protocol (fastcgi_pass, uwsgi_pass, grpc_pass)".to_owned(),
                ),
            })
        }
        Outcome::Idle(after) => {
            let kept = duration(attempt.idle.unwrap_or_default());
            let after = duration(*after);
            Some(Fault::warning(
                "keepalive-race",
                format!(
                    "{peer} closes idle connections after {after}, nginx keeps them for {kept}: a request may meet the close"
                ),
                format!(
                    "Set keepalive_timeout in the upstream block below {after}, or the backend's above {kept}"
                ),
            ))
        }
        Outcome::Well
        | Outcome::Unbound(_)
        | Outcome::Failed(_)
        | Outcome::Silent
        | Outcome::Untried(_) => None,
    }
}
