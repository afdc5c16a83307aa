//! What nginx's resolver and a name server said to each other about one name.

use std::net::SocketAddr;

use super::{
    errno::{self, ECONNREFUSED},
    finding::Finding,
    wording,
};
use crate::{
    event::{Dns, DnsStep, Time},
    verdict::Evidence,
};

/// In one turn of its event loop nginx does so much (nanoseconds).
const AT_ONCE: u64 = 5_000_000;

/// See the module.
pub(super) struct Exchange<'a> {
    pub(super) name: String,
    pub(super) server: SocketAddr,
    over_tcp: bool,
    steps: Vec<&'a Dns>,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Copy)]
pub(super) enum Outcome {
    Answered(u8),
    /// NOERROR without an answer record.
    Empty,
    Failed(u32),
    Silence,
}

impl<'a> Exchange<'a> {
    /// The last exchange about that name, or about the name asked last; `None` if it was answered
    /// well, or none was seen.
    pub(super) fn of(steps: &'a [Dns], name: Option<&str>) -> Option<Self> {
        let is_question = |step: &&Dns| {
            step.step == DnsStep::Asked && name.is_none_or(|name| step.is_about(name))
        };
        let last = steps.iter().rposition(|step| is_question(&step))?;
        let name = name.unwrap_or(&steps[last].name).to_owned();
        let ids = both_families(steps[..=last].iter().filter(|step| step.is_about(&name)));
        let of_name = |step: &Dns| {
            (step.is_about(&name) || step.name.is_empty()) && ids.contains(&Some(step.id))
        };
        let first = steps
            .iter()
            .position(|step| is_question(&step) && of_name(step))?;
        let servers: Vec<SocketAddr> = steps[first..]
            .iter()
            .filter(|step| of_name(step))
            .map(|step| step.server)
            .collect();
        let mine: Vec<&Dns> = steps[first..]
            .iter()
            .filter(|step| match step.step {
                // It names neither id nor question: it belongs to its server.
                DnsStep::Failed { .. } => servers.contains(&step.server),
                _ => of_name(step),
            })
            .collect();
        let is_good = |step: &&Dns| matches!(step.step, DnsStep::Answered { rcode: 0, answers } if answers > 0);
        if mine.iter().any(is_good) {
            return None;
        }
        let known = mine.iter().rev().find_map(|step| {
            let outcome = match step.step {
                DnsStep::Answered { rcode: 0, .. } => Outcome::Empty,
                DnsStep::Answered { rcode, .. } => Outcome::Answered(rcode),
                DnsStep::Failed { errno } => Outcome::Failed(errno),
                DnsStep::Asked | DnsStep::Truncated => return None,
            };
            Some((*step, outcome))
        });
        let (step, outcome) = known.or_else(|| Some((*mine.last()?, Outcome::Silence)))?;
        Some(Self {
            name,
            server: step.server,
            over_tcp: step.over_tcp
                || (known.is_none() && mine.iter().any(|step| step.step == DnsStep::Truncated)),
            steps: mine,
            outcome,
        })
    }

    /// Did it fail just before? nginx answers the requests that wait for a name as it reads that
    /// there is none. Whose request waited for one that is not answered is not seen.
    pub(super) fn ends_at_once_before(&self, time: Time) -> bool {
        let end =
            self.steps.iter().rev().find(|step| {
                matches!(step.step, DnsStep::Answered { .. } | DnsStep::Failed { .. })
            });
        end.is_some_and(|end| end.at <= time && time.since(end.at) <= AT_ONCE)
    }

    pub(super) fn tell(&self) -> Finding {
        let Self { name, server, .. } = self;
        let over = if self.over_tcp { " over TCP" } else { "" };
        match self.outcome {
            Outcome::Answered(rcode) => advise_on(
                Finding::proven(format!("{server} answered {} for {name}{over}", rcode_name(rcode))),
                rcode,
            ),
            Outcome::Empty => Finding::proven(format!("{server} answered without an address for {name}{over}")).advise(
                "the name exists without an A (or AAAA) record: correct the zone; does resolver … ipv4=off or ipv6=off hide it?",
            ),
            Outcome::Failed(ECONNREFUSED) => {
                Finding::proven(format!(
                    "nginx's query for {name}{over} was refused (ECONNREFUSED): nothing listens at the resolver {server}, \
                     or a firewall rejects it"
                ))
                    .advise(if self.over_tcp {
                        format!("the name server must answer over TCP too (port {}/tcp): its settings, a firewall", server.port())
                    } else {
                        format!(
                            "start the name server, correct nginx's resolver directive, or let the firewall pass its port ({}/udp)",
                            server.port()
                        )
                    })
            }
            Outcome::Failed(e) => Finding::proven(format!(
                "nginx could not reach its resolver {server}{over} to ask for {name}: {}",
                errno::name(e)
            ))
            .advise(format!("see: ip route get {}", server.ip())),
            Outcome::Silence => Finding::proven(format!("the resolver {server} did not answer nginx's query for {name}{over}"))
                .advise(if self.over_tcp {
                    format!("its answer is too long for UDP: does {server} answer over TCP, and does a firewall drop it?")
                } else {
                    format!("is {server} up, and does a firewall drop UDP to it? nginx asks again every 5 s until resolver_timeout (30 s)")
                }),
        }
    }

    pub(super) fn story(&self) -> impl Iterator<Item = Evidence> {
        let Self { name, steps, .. } = self;
        steps.iter().rev().take(6).rev().map(move |step| {
            let server = step.server;
            let over = if step.over_tcp { " over TCP" } else { "" };
            let (event, text) = match step.step {
                DnsStep::Asked => ("dns-asked", format!("nginx asks {server} for {name}{over}")),
                DnsStep::Truncated => (
                    "dns-answered",
                    format!("{server} answers that its answer is too long for UDP"),
                ),
                DnsStep::Answered { rcode, answers } => (
                    "dns-answered",
                    format!(
                        "{server} answers {}, {}{over}",
                        rcode_name(rcode),
                        wording::count(answers, "record")
                    ),
                ),
                DnsStep::Failed { errno } => (
                    "dns-failed",
                    format!("the query to {server}{over} fails: {}", errno::name(errno)),
                ),
            };
            Evidence {
                time: Some(step.at),
                event,
                text,
            }
        })
    }
}

/// The ids of the last question and of its twin: nginx asks for both address families at once, each
/// under an id that it keeps until it gives up.
fn both_families<'a>(steps: impl DoubleEndedIterator<Item = &'a Dns>) -> [Option<u16>; 2] {
    let mut steps = steps.rev();
    let last = steps.next().map(|step| step.id);
    let beside = steps
        .next()
        .filter(|step| step.step == DnsStep::Asked)
        .map(|step| step.id);
    [last, beside]
}

pub(super) fn rcode_name(rcode: u8) -> String {
    let known = match rcode {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        other => return format!("rcode {other}"),
    };
    known.to_owned()
}

pub(super) fn advise_on(finding: Finding, rcode: u8) -> Finding {
    match rcode {
        2 => finding.advise("the name server itself failed (its upstream, DNSSEC): its log"),
        3 => finding.advise("the name does not exist there: correct it, or the zone; nginx uses no search domains and no /etc/hosts"),
        5 => finding.advise("the name server refuses this client or zone: its access rules (allow-query, allow-recursion)"),
        _ => finding.advise("the name server does not understand the query: is it a DNS server, and the right one?"),
    }
}
