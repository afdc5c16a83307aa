//! Established connections, and what the host says of their peers: helpers that make cases after
//! connect.

use super::*;
use crate::event::{Death, PeerClosed, Signal};

pub(super) const HERE: &str = "127.0.0.1:8000";
pub(super) const THERE: &str = "10.0.0.5:80";

/// Connected after 0.1 ms, 120 request bytes sent after 1 ms, closed by nginx after 50 ms with
/// nothing received.
pub(super) fn connected(remote: &str) -> Connection {
    Connection {
        established: Some(after(100_000)),
        last_sent: Some(after(MS)),
        first_sent: Some(b'P'),
        bytes_sent: 120,
        state: 1,
        closed: after(50 * MS),
        ..handshake(remote)
    }
}

/// … because a FIN came.
pub(super) fn closed(remote: &str) -> Connection {
    Connection {
        fin_received: Some(after(49 * MS)),
        end_read: Some(after(49 * MS + 50_000)),
        state: 8,
        ..connected(remote)
    }
}

/// … because a RST came.
pub(super) fn reset(remote: &str) -> Connection {
    Connection {
        rst_received: Some(after(49 * MS)),
        error: Some((104, after(49 * MS))),
        transfer_error: Some((104, after(49 * MS + 50_000))),
        ..connected(remote)
    }
}

/// A unix stream, whose bytes the kernel does not count.
pub(super) fn unix_stream() -> Connection {
    Connection {
        remote: Upstream::Unix("/run/app.sock".to_owned()),
        local: None,
        bytes_sent: 0,
        bytes_received: 0,
        state: 2,
        listener_pid: Some(4242),
        ..connected(HERE)
    }
}

/// `node` (pid 4242) listens there.
pub(super) fn served() -> Facts {
    served_by(node())
}

pub(super) fn served_by(owner: Owner) -> Facts {
    listening(ListenerView {
        exact: vec![Listener {
            owner: Some(owner),
            ..listener(HERE, 0, 128)
        }],
        ..view(true)
    })
}

/// The upstream's end, closed by `gunicorn` (pid 4300) just before nginx saw it.
pub(super) fn by_peer(reset: Option<&str>, death: Option<Death>) -> PeerClosed {
    PeerClosed {
        translated: false,
        signal: None,
        at: after(48 * MS + 900_000),
        local: address("10.0.0.1:40000"),
        remote: address(HERE),
        netns: 0,
        unread: 0,
        pid: 4300,
        name: "gunicorn".to_owned(),
        parent: 4242,
        reset: reset.map(str::to_owned),
        death,
    }
}

/// `gunicorn` (pid 4300), a child of pid 4242, ended with that code.
pub(super) fn death(code: u32) -> Death {
    Death {
        at: after(48 * MS),
        pid: 4300,
        parent: 4242,
        name: "gunicorn".to_owned(),
        unit: Some("app.service".to_owned()),
        code,
        signal: None,
        oom: false,
        cgroup: "/".to_owned(),
        limit: None,
    }
}

pub(super) fn signal(number: u8, code: i32, sender: u32) -> Signal {
    Signal {
        before: None,
        number,
        code,
        sender,
        sender_name: if sender == 1 { "systemd" } else { "bash" }.to_owned(),
        at: after(47 * MS),
    }
}

pub(super) fn with_peer(mut case: Case, closed: PeerClosed) -> Case {
    if let Some(attempt) = case.attempts.last_mut() {
        attempt.peer_closed = Some(Box::new(closed));
    }
    case
}

pub(super) fn logged(mut case: Case, format: &str) -> Case {
    case.log_calls.push(LogCall {
        at: case.time,
        ..log_call(format, 0)
    });
    case
}

/// The client got that status, and a retry hid the failure.
pub(super) fn masked(mut case: Case, status: u16) -> Case {
    case.masked = true;
    case.status = Some(status);
    case
}

/// nginx went on to another upstream, which served the request.
pub(super) fn followed(mut case: Case) -> Case {
    let start = case.time.plus(MS);
    let next = attempt(Course::Succeeded, Facts::default());
    case.attempts.push(Attempt { start, ..next });
    case
}

/// The client got a part of that response.
pub(super) fn cut_short(mut case: Case, status: u16) -> Case {
    case.cut_short = true;
    case.status = Some(status);
    case
}

/// A request with that one attempt, answered with that status.
pub(super) fn answered(status: u16, c: Connection, facts: Facts) -> Case {
    let reused = c.reuses > 0;
    let start = c.reused_at.unwrap_or(c.start);
    let mut attempt = attempt(c, facts);
    attempt.reused = reused;
    attempt.start = start;
    request(status, vec![attempt])
}

pub(super) fn fact<'a>(verdict: &'a Verdict, event: &str) -> &'a str {
    let mut evidence = verdict.evidence.iter();
    evidence
        .find(|e| e.event == event)
        .map_or("", |e| e.text.as_str())
}
