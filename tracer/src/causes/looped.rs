//! nginx is its own upstream: `proxy-loop`.

use super::{
    cause::{ByHand, Cause},
    errno::{EADDRNOTAVAIL, EMFILE, ENFILE},
    finding::Finding,
    logged::{self, Logged},
    scene::Scene,
};
use crate::event::Said;

pub(super) static PROXY_LOOP: Cause = Cause {
    id: "proxy-loop",
    title: "nginx passes the request to itself, again and again",
    split: "The local address of nginx's connection to the upstream is the client's address of another of its requests, \
            which goes to the same address again, at least three times. The requests of a loop have one verdict.",
    log_lines: &[
        "1024 worker_connections are not enough",
        "recv() failed (104: Connection reset by peer) while reading response header from upstream",
    ],
    logged: &[
        Logged::of(&[Said::NoWorkerConnections]),
        logged::CLOSED,
        logged::RESET,
        logged::RESET_ON_CONNECT,
        logged::UNSENT,
        logged::LATE,
        logged::SILENT,
        Logged::of(&[Said::SocketFailed]).errno(&[EMFILE, ENFILE]),
        logged::at_once(&[EADDRNOTAVAIL]).inet(),
    ],
    by_hand: ByHand {
        command: "sudo ss -ltnp 'sport = :PORT'",
        shows: "nginx itself listens there",
    },
    client_gets: "502, or 500",
    fix: "Have proxy_pass name the backend, not an address that this nginx listens on; a host name may have come to point \
          here.",
    matches: Some(looped),
};

fn looped(scene: &Scene<'_>) -> Option<Finding> {
    let looped = scene.case.looped.filter(|_| scene.is_last())?;
    let (to, passes) = (looped.to, looped.passes);
    let finding = Finding::proven(format!(
        "nginx passes this request to itself: {to} is its own address; it was passed on {passes} times until that failed"
    ))
    .rests_on_complete_records(scene)
    .fact(
        "loop",
        format!(
            "one client's request ({}) became {passes} of nginx's own, each from the connection of the one before; no \
             other verdict is given on them",
            looped.client
        ),
    );
    Some(
        finding
            .advise(format!(
                "have proxy_pass name the backend instead of {to}, which this nginx listens on; more worker_connections only make the loop longer"
            ))
            .advise(format!(
                "confirm: nginx -T 2>/dev/null | grep -nE 'listen|server_name|proxy_pass|server .*:{}'",
                to.port()
            ))
            .advise("does a host name in proxy_pass or upstream resolve to this host? see: getent hosts NAME"),
    )
}
