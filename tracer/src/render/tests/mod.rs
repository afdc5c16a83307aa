//! Words as they are printed: golden files in `tracer/tests/golden` (`BLESS=1 cargo test -p tracer`
//! writes them anew).

mod burst;
mod hostile;
mod notices;
mod words;

use std::{fs, io, path::PathBuf};

use crate::{
    event::{Clock, Time},
    verdict::{AttemptVerdict, Confidence, Evidence, Request, Verdict},
};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
/// 2026-11-20T10:15:23.412345678Z is second 1000 since boot.
const CLOCK: Clock = Clock {
    boot: 1000 * SECOND,
    wall: 1_795_169_723_412_345_678,
};
const AT: Time = Time(1000 * SECOND);

/// The verdict of the README.
fn refused() -> Verdict {
    let zero = AT;
    let event = |after: u64, event, text: &str| Evidence {
        time: Some(zero.plus(after)),
        event,
        text: text.to_owned(),
    };
    Verdict {
        time: AT,
        status: Some(502),
        masked: false,
        cause: "no-listener",
        confidence: Confidence::Proven,
        worker: 1234,
        unit: Some("nginx.service".to_owned()),
        connection: Some(67890),
        request: Some(Request {
            client: Some("192.168.1.1".to_owned()),
            host: Some("shop.example.com".to_owned()),
            line: Some("GET /api/cart HTTP/1.1".to_owned()),
            server_name: Some("shop.example.com".to_owned()),
            ..Request::default()
        }),
        upstream: Some("127.0.0.1:3000".to_owned()),
        errno: Some("ECONNREFUSED".to_owned()),
        attempts: vec![AttemptVerdict {
            upstream: Some("127.0.0.1:3000".to_owned()),
            cause: Some("no-listener"),
            errno: Some("ECONNREFUSED".to_owned()),
            reused: false,
            start: zero,
            end: zero.plus(80_000),
        }],
        summary: "nothing listens on 127.0.0.1:3000; this host answered the SYN with RST".to_owned(),
        evidence: vec![
            event(0, "connect", "worker 1234 connects to 127.0.0.1:3000"),
            event(60_000, "rst-sent", "RST sent by this host: no socket"),
            event(80_000, "error", "connect fails: ECONNREFUSED"),
            Evidence {
                time: None,
                event: "nearby",
                text: "node (pid 4242, started 25.0 s ago) listens on [::1]:3000 only".to_owned(),
            },
        ],
        advice: vec![
            "the backend listens on IPv6 alone: make it listen on 127.0.0.1, or proxy_pass http://[::1]:3000".to_owned(),
            "see: ss -ltnp 'sport = :3000'".to_owned(),
        ],
        upstream_name: None,
        lost_events: 0,
    }
}

/// A retry hid a dead peer; little is known of the request.
fn masked() -> Verdict {
    Verdict {
        status: Some(200),
        masked: true,
        cause: "syn-timeout",
        confidence: Confidence::Inferred,
        request: None,
        upstream: Some("10.0.0.5:80".to_owned()),
        summary: "1 SYN to 10.0.0.5:80 in 300 ms, no answer; nothing on this host dropped them"
            .to_owned(),
        evidence: vec![
            Evidence {
                time: Some(AT),
                event: "connect",
                text: "worker 1234 connects to 10.0.0.5:80".to_owned(),
            },
            Evidence {
                time: Some(AT.plus(3 * SECOND)),
                event: "close",
                text: "nginx gives up".to_owned(),
            },
            Evidence {
                time: None,
                event: "unseen",
                text:
                    "whether a second SYN would have been answered: only one was sent in 300 ms; \
                       proxy_connect_timeout is shorter than the first retransmission (1 s)"
                        .to_owned(),
            },
        ],
        ..refused()
    }
}

/// nginx tried nobody.
fn untried() -> Verdict {
    Verdict {
        cause: "unexplained",
        unit: Some("edge".to_owned()),
        confidence: Confidence::Unknown,
        request: Some(Request {
            client: Some("192.168.1.1".to_owned()),
            ..Request::default()
        }),
        upstream: None,
        errno: None,
        attempts: vec![],
        summary: "nginx tried no upstream, and what it logged does not say why".to_owned(),
        evidence: vec![],
        advice: vec![],
        ..refused()
    }
}

/// A connection of a `stream {}` proxy, in a container.
fn streamed() -> Verdict {
    Verdict {
        status: None,
        unit: Some("3f2a1bc4d5e6".to_owned()),
        request: None,
        ..refused()
    }
}

fn golden(name: &str, printed: &str) {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name]
        .iter()
        .collect();
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, printed).expect("the golden file is writable");
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        printed, wanted,
        "{name}: if this is what it should say, BLESS=1 cargo test -p tracer"
    );
}

fn printed(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).expect("a Vec takes all");
    String::from_utf8(out).expect("UTF-8")
}
