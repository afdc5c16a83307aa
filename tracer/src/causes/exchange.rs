//! What nginx's resolver and a name server said to each other about one name.

use std::net::SocketAddr;

use super::{
    errno::{self, ECONNREFUSED},
    finding::Finding,
    wording,
};
use crate::{
    event::{Dns, DnsStep},
    verdict::Evidence,
};

/// See the module.
pub(super) struct Exchange<'a> {
    pub(super) name: String,
    pub(super) server: SocketAddr,
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
    /// The failing exchange about that name, or the last failing one; `None` if all was answered well, or nothing seen.
    pub(super) fn of(steps: &'a [Dns], name: Option<&str>) -> Option<Self> {
        let about = |step: &Dns, name: &str| same_name(&step.name, name);
        let name = match name {
            Some(name) => name.to_owned(),
            None => steps
                .iter()
                .rev()
                .find(|step| !step.name.is_empty())?
                .name
                .clone(),
        };
        // A failed send or receive names nothing: it belongs to its server.
        let servers: Vec<SocketAddr> = steps
            .iter()
            .filter(|step| about(step, &name))
            .map(|step| step.server)
            .collect();
        let mine: Vec<&Dns> = steps
            .iter()
            .filter(|step| {
                about(step, &name)
                    || (step.name.is_empty()
                        && (servers.is_empty() || servers.contains(&step.server)))
            })
            .collect();
        let good = |step: &&&Dns| matches!(step.step, DnsStep::Answered { rcode: 0, answers } if answers > 0);
        if mine.iter().any(|step| good(&step)) {
            return None;
        }
        let outcome = |step: &&Dns| match step.step {
            DnsStep::Answered { rcode: 0, .. } => Some(Outcome::Empty),
            DnsStep::Answered { rcode, .. } => Some(Outcome::Answered(rcode)),
            DnsStep::Failed { errno } => Some(Outcome::Failed(errno)),
            DnsStep::Asked => None,
        };
        let told = mine
            .iter()
            .rev()
            .find_map(|step| Some((step.server, outcome(step)?)));
        let (server, outcome) = told.or_else(|| Some((mine.last()?.server, Outcome::Silence)))?;
        Some(Self {
            name,
            server,
            steps: mine,
            outcome,
        })
    }

    pub(super) fn tell(&self) -> Finding {
        let (name, server) = (&self.name, self.server);
        match self.outcome {
            Outcome::Answered(rcode) => advise_on(
                Finding::proven(format!("{server} answered {} for {name}", rcode_name(rcode))),
                rcode,
            ),
            Outcome::Empty => Finding::proven(format!("{server} answered without an address for {name}")).advise(
                "the name exists without an A (or AAAA) record: correct the zone; does resolver … ipv4=off or ipv6=off hide it?",
            ),
            Outcome::Failed(ECONNREFUSED) => {
                Finding::proven(format!("nothing listens at the resolver {server}: nginx's query for {name} was refused (ECONNREFUSED)"))
                    .advise("start the name server, or correct nginx's resolver directive")
            }
            Outcome::Failed(e) => Finding::proven(format!(
                "nginx could not reach its resolver {server} to ask for {name}: {}",
                errno::name(e)
            ))
            .advise(format!("see: ip route get {}", server.ip())),
            Outcome::Silence => Finding::proven(format!("the resolver {server} did not answer nginx's query for {name}"))
                .advise(format!("is {server} up, and does a firewall drop UDP to it? nginx asks again every 5 s until resolver_timeout (30 s)")),
        }
    }

    pub(super) fn story(&self) -> impl Iterator<Item = Evidence> {
        let Self { name, steps, .. } = self;
        steps.iter().rev().take(6).rev().map(move |step| {
            let server = step.server;
            let (event, text) = match step.step {
                DnsStep::Asked => ("dns-asked", format!("nginx asks {server} for {name}")),
                DnsStep::Answered { rcode, answers } => (
                    "dns-answered",
                    format!(
                        "{server} answers {}, {}",
                        rcode_name(rcode),
                        wording::count(answers, "record")
                    ),
                ),
                DnsStep::Failed { errno } => (
                    "dns-failed",
                    format!("the query to {server} fails: {}", errno::name(errno)),
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

/// A step's name may be cut.
fn same_name(step: &str, name: &str) -> bool {
    let (step, name) = (step.trim_end_matches('.'), name.trim_end_matches('.'));
    let cut = step.len() >= 55 && name.len() > step.len();
    !step.is_empty()
        && (step.eq_ignore_ascii_case(name)
            || (cut
                && name
                    .get(..step.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(step))))
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
