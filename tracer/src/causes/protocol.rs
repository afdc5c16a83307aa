//! nginx speaks one protocol to a port and the program there another.

use super::{
    ending::{TLS_ALERT, TLS_HANDSHAKE, ending, heard, is_reused, is_tls},
    finding::Finding,
    scene::Scene,
    wording,
};
use crate::{
    correlate::HTTP2_SETTINGS,
    event::{Connection, Said, Sent, Upstream},
};

/// What begins an HTTP/1 response.
const HTTP1: u8 = b'H';
/// What begins a FastCGI record: its version.
const FASTCGI: u8 = 1;

/// A protocol that a `*_pass` directive stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http,
    FastCgi,
    Uwsgi,
    Scgi,
    Grpc,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::FastCgi => "FastCGI",
            Self::Uwsgi => "the uwsgi protocol",
            Self::Scgi => "SCGI",
            Self::Grpc => "HTTP/2 (gRPC)",
        }
    }

    fn directive(self) -> &'static str {
        match self {
            Self::Http => "proxy_pass http://",
            Self::FastCgi => "fastcgi_pass",
            Self::Uwsgi => "uwsgi_pass",
            Self::Scgi => "scgi_pass",
            Self::Grpc => "grpc_pass",
        }
    }
}

/// The backend answered nginx's HTTP/1 request in HTTP/2: nginx takes that for HTTP/0.9 and passes
/// its bytes on.
pub(super) fn http2_for_http1(scene: &Scene<'_>) -> Option<Finding> {
    let c = scene
        .stood()
        .filter(|c| c.first_received == Some(HTTP2_SETTINGS))?;
    scene.said(Said::Sent(Sent::NoHttp1Header))?;
    let to = scene.to();
    let finding = Finding::proven(format!(
        "{to} answered in HTTP/2 to nginx's HTTP/1 request: nginx found no HTTP/1 header in it (status 009)"
    ))
    .advise(format!(
        "serve HTTP/1 at {to}, or use grpc_pass grpc:// for gRPC, or proxy_http_version 2 where nginx has it (1.29.4)"
    ));
    let finding = match c.remote {
        Upstream::Inet(remote) => finding.advise(format!(
            "see: curl -sv -o /dev/null --http2-prior-knowledge http://{remote}/"
        )),
        Upstream::Unix(_) => finding,
    };
    Some(finding.rests_on_complete_records(scene))
}

/// The answer's first byte shows another protocol than nginx spoke.
pub(super) fn by_first_byte(scene: &Scene<'_>, c: &Connection, finding: Finding) -> Finding {
    let to = scene.to();
    let spoken = spoken(scene, c);
    match (c.first_received, spoken) {
        (Some(TLS_ALERT | TLS_HANDSHAKE), _) if !is_tls(c) => finding
            .fact("protocol", "the answer's first byte is TLS: the port expects https")
            .advise(format!("{to} speaks TLS: proxy_pass https:// (grpc_pass grpcs://)")),
        (Some(HTTP1), Some(Protocol::FastCgi)) => finding
            .fact("protocol", "the answer begins like HTTP; nginx spoke FastCGI to it")
            .advise(format!("{to} speaks HTTP: proxy_pass instead of fastcgi_pass, or the port of the FastCGI server")),
        (Some(HTTP1), Some(Protocol::Grpc)) if !is_tls(c) => finding
            .fact("protocol", "the answer begins like HTTP/1; nginx spoke HTTP/2 to it")
            .advise(format!("{to} speaks HTTP/1: proxy_pass instead of grpc_pass, or turn on HTTP/2 without TLS (h2c) there")),
        (Some(HTTP2_SETTINGS), Some(spoken)) if spoken != Protocol::Grpc => finding
            .fact("protocol", format!("the answer begins like HTTP/2; nginx spoke {} to it", spoken.name()))
            .advise(format!("{to} speaks HTTP/2: grpc_pass instead of {}", spoken.directive())),
        _ => finding,
    }
}

/// Where the backend ended or ignored a new connection without an answer: does its program speak
/// what nginx speaks?
pub(super) fn questioned(scene: &Scene<'_>, c: &Connection, mut finding: Finding) -> Finding {
    if is_reused(c) || is_tls(c) || heard(c) {
        return finding;
    }
    let Some(spoken) = spoken(scene, c) else {
        return finding;
    };
    let to = scene.to();
    let program = scene.backend_name().and_then(program);
    let question = match (program, spoken, &c.remote) {
        (Some((name, speaks)), ..) if !speaks.contains(&spoken) => {
            let other = speaks[0];
            finding.advice.insert(
                0,
                format!(
                    "use {} for {to}: {name} speaks {} by default, and nginx spoke {}",
                    other.directive(),
                    other.name(),
                    spoken.name(),
                ),
            );
            None
        }
        (_, Protocol::Http, Upstream::Inet(remote)) if is_at_once(c) => Some(format!(
            "does the port expect TLS (https://)? see: openssl s_client -connect {remote}"
        )),
        (_, Protocol::Http, _) => None,
        _ => Some(format!(
            "check that the port speaks {}; if it speaks HTTP, use proxy_pass; see: {}",
            spoken.name(),
            wording::fetch(&to)
        )),
    };
    finding.advise_if(question)
}

/// The backend ended it so soon (nanoseconds) that it need not have worked on the request.
const AT_ONCE: u64 = 100_000_000;

fn is_at_once(c: &Connection) -> bool {
    let sent = c.last_sent.or(c.established);
    ending(c)
        .zip(sent)
        .is_some_and(|(ending, sent)| ending.at.since(sent) <= AT_ONCE)
}

/// What nginx spoke, by its log's word on the upstream, else by its first byte.
fn spoken(scene: &Scene<'_>, c: &Connection) -> Option<Protocol> {
    let mut lines = scene.case.sure_lines();
    let logged = lines.find_map(|line| line.upstream.as_deref()?.split_once("://"));
    match logged.map(|(scheme, _)| scheme) {
        Some("http" | "https") => Some(Protocol::Http),
        Some("fastcgi") => Some(Protocol::FastCgi),
        Some("uwsgi" | "suwsgi") => Some(Protocol::Uwsgi),
        Some("scgi") => Some(Protocol::Scgi),
        Some("grpc" | "grpcs") => Some(Protocol::Grpc),
        Some(_) => None,
        None if c.first_sent == Some(FASTCGI) => Some(Protocol::FastCgi),
        None => None,
    }
}

type Speaks = (&'static str, &'static [Protocol]);

/// Programs whose ports for a proxy speak these, the usual one first.
fn program(name: &str) -> Option<Speaks> {
    use Protocol::{FastCgi, Grpc, Http, Uwsgi};
    const PROGRAMS: [Speaks; 6] = [
        ("php-fpm", &[FastCgi]),
        // Its --socket; --http-socket and others are the exception.
        ("uwsgi", &[Uwsgi]),
        ("gunicorn", &[Http]),
        ("uvicorn", &[Http]),
        ("puma", &[Http]),
        ("hypercorn", &[Http, Grpc]),
    ];
    let mut programs = PROGRAMS.into_iter();
    programs.find(|(begin, _)| name.starts_with(begin))
}
