//! nginx tried nobody, by its balancer's word: `no-live-upstreams`.

use std::net::{IpAddr, SocketAddr};

use super::{
    cause::{ByHand, Cause},
    finding::Finding,
    logged::Logged,
    scene::{Earlier, Scene},
    wording,
};
use crate::{
    correlate::{Attempt, Course},
    event::{FailureKind, Said, Upstream, fact::BlockServer},
    verdict::Evidence,
};

pub(super) static NO_LIVE_UPSTREAMS: Cause = Cause {
    id: "no-live-upstreams",
    title: "nginx tried no upstream: all are marked failed, down or at max_conns",
    split: "nginx asks its balancer for a peer and gets none; there is no connect() at all. The worker's earlier \
            failures that closed each peer are named.",
    log_lines: &["no live upstreams while connecting to upstream"],
    logged: &[Logged::of(&[Said::NoLiveUpstreams])],
    by_hand: ByHand {
        command: "tracer causes --log ERROR_LOG",
        shows: "the failures before this line closed each peer; else look for down and max_conns",
    },
    client_gets: "502",
    fix: "Fix the causes of the earlier failures; a peer is tried again after fail_timeout (10 s). Look also for \
          down and max_conns in the upstream block.",
    matches: Some(no_live_upstreams),
};

fn no_live_upstreams(scene: &Scene<'_>) -> Option<Finding> {
    let busy = match scene.attempt {
        Some(_) => scene
            .failure()
            .is_some_and(|f| f.kind() == FailureKind::NoPeer),
        None => scene.said(Said::NoLiveUpstreams).is_some(),
    };
    if !busy {
        return None;
    }
    let name = block(scene);
    let members = Members::of(scene, name.as_deref());
    let peers = peers(scene, &members);
    let who = match &name {
        Some(name) => format!("every server of {name}"),
        None => "every server".to_owned(),
    };
    let summary = match peers.as_slice() {
        [] => format!("nginx tried no upstream: it holds {who} failed, down or at max_conns"),
        peers => {
            let named: Vec<String> = peers
                .iter()
                .take(3)
                .map(|peer| format!("{} ({})", peer.upstream, peer.cause))
                .collect();
            let more = match peers.len().saturating_sub(3) {
                0 => String::new(),
                n => format!(" and {n} more"),
            };
            format!(
                "nginx tried no upstream: it holds {who} failed, after {}{more}",
                named.join(", ")
            )
        }
    };
    let mut finding = Finding::proven(summary).rests_on_complete_records(scene);
    for peer in &peers {
        let times = if peer.count > 1 {
            format!("{} times, last ", peer.count)
        } else {
            String::new()
        };
        finding.evidence.push(Evidence {
            time: None,
            event: "earlier",
            text: format!(
                "{} failed {times}{} before: {}",
                peer.upstream,
                wording::duration(scene.case.time.since(peer.attempt.end)),
                peer.cause
            ),
        });
    }
    if peers.is_empty() {
        finding = finding.fact(
            "earlier",
            "no failure of this worker at these servers was seen in the last minute: down, max_conns, or failures before tracing",
        );
    }
    if let Members::Unknown = members
        && !peers.is_empty()
    {
        finding = finding.fact(
            "earlier",
            "which of these belong to this upstream is not known: the configuration was not read",
        );
    }
    finding = configured(scene, finding);
    let mend = match peers.as_slice() {
        [] => "look for down and max_conns in the upstream block; a failed peer is tried again after fail_timeout (10 s)".to_owned(),
        [one] => format!("fix {} at {}; it is tried again after fail_timeout (10 s)", one.cause, one.upstream),
        [first, ..] => format!(
            "fix what the verdicts before this one report ({} at {}, …); a peer is tried again after fail_timeout (10 s)",
            first.cause, first.upstream
        ),
    };
    Some(
        finding
            .fact("state", "each worker counts failures for itself, unless the upstream block has a zone")
            .advise(mend)
            .advise("max_fails=0 keeps a peer in use whatever fails; right where there is only one")
            .advise("see: nginx -T | grep -nE 'upstream |server .*(down|max_fails|max_conns|fail_timeout)'"),
    )
}

/// A peer that failed before, by its last failure.
struct Peer<'a> {
    upstream: String,
    attempt: &'a Attempt,
    cause: &'static str,
    count: usize,
}

/// The servers of the upstream.
enum Members<'a> {
    /// Those of its block.
    Listed(&'a [BlockServer]),
    /// The one that `proxy_pass` names.
    One(&'a str),
    Unknown,
}

impl<'a> Members<'a> {
    fn of(scene: &Scene<'a>, name: Option<&'a str>) -> Self {
        match scene.case.host.block.as_ref() {
            Some(block) if block.at.is_some() => Self::Listed(&block.servers),
            _ => match name {
                Some(name) if name.parse::<SocketAddr>().is_ok() || name.starts_with("unix:") => {
                    Self::One(name)
                }
                _ => Self::Unknown,
            },
        }
    }

    fn has(&self, upstream: &Upstream) -> bool {
        match self {
            Self::Listed(servers) => servers
                .iter()
                .any(|server| is_at(&server.address, upstream)),
            Self::One(name) => is_at(name, upstream),
            Self::Unknown => true,
        }
    }
}

/// May a server that is written so be at this address? Where a host name leads is not asked: its
/// port has to be the same.
fn is_at(server: &str, upstream: &Upstream) -> bool {
    let address = match upstream {
        Upstream::Unix(path) => return server.strip_prefix("unix:") == Some(path.as_str()),
        Upstream::Inet(address) => address,
    };
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (server, Some(80)),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_host = host
        .parse::<IpAddr>()
        .map_or(!server.starts_with("unix:"), |ip| {
            ip.to_canonical() == address.ip().to_canonical()
        });
    is_host && port == Some(address.port())
}

/// The name of the upstream: from nginx's memory, else from its log's line.
pub(super) fn block(scene: &Scene<'_>) -> Option<String> {
    let last = scene.case.attempts.last();
    let seen = last.and_then(|last| match &last.course {
        Course::FailedAtOnce(failure) => failure.block.clone(),
        _ => None,
    });
    let logged = || {
        let mut lines = scene.case.sure_lines();
        let line = lines.find(|line| Said::of(&line.message) == Said::NoLiveUpstreams)?;
        let upstream = line.upstream.as_deref()?;
        let rest = upstream
            .split_once("://")
            .map_or(upstream, |(_, rest)| rest);
        Some(rest.split('/').next()?.to_owned())
    };
    seen.or_else(logged).filter(|name| !name.is_empty())
}

/// What the block itself says of its servers.
fn configured(scene: &Scene<'_>, finding: Finding) -> Finding {
    let Some(block) = scene.case.host.block.as_ref() else {
        return finding;
    };
    let Some(at) = &block.at else {
        return finding;
    };
    let mut finding = finding.fact(
        "config",
        format!(
            "{}:{}: {}, {}",
            at.file,
            at.line,
            at.text,
            wording::count(block.servers.len() as u64, "server")
        ),
    );
    for server in &block.servers {
        let marks = server.parameters.iter();
        let mut marks =
            marks.filter(|word| word.as_str() == "down" || word.starts_with("max_conns="));
        if let Some(mark) = marks.next() {
            finding = finding.fact("config", format!("server {} has {mark}", server.address));
        }
    }
    finding
}

/// The worker's earlier failures by peer, the latest first.
fn peers<'a>(scene: &Scene<'a>, members: &Members<'_>) -> Vec<Peer<'a>> {
    let mut peers: Vec<Peer<'a>> = Vec::new();
    for Earlier { attempt, cause } in scene.earlier {
        let upstream = attempt.upstream.as_ref();
        let Some(upstream) = upstream.filter(|upstream| members.has(upstream)) else {
            continue;
        };
        let upstream = upstream.to_string();
        match peers.iter_mut().find(|peer| peer.upstream == upstream) {
            Some(known) => known.count += 1,
            None => peers.push(Peer {
                upstream,
                attempt,
                cause,
                count: 1,
            }),
        }
    }
    peers
}
