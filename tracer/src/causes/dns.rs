//! nginx could not resolve the upstream's name: `dns-failed`.

use std::net::SocketAddr;

use super::{
    catalogue::Cause,
    errno::{self, ECONNREFUSED},
    finding::Finding,
    scene::Scene,
    wording,
};
use crate::{
    event::{Dns, DnsStep},
    verdict::Evidence,
};

pub(super) static DNS_FAILED: Cause = Cause {
    id: "dns-failed",
    title: "nginx could not resolve the upstream's name",
    split: "nginx's resolver failed before any connect(): an rcode, a refused query, silence, or no resolver at all; \
            its exchange with the name server is read.",
    log_lines: &[
        "backend.example could not be resolved (3: Host not found)",
        "backend.example could not be resolved (2: Server failure)",
        "backend.example could not be resolved (110: Operation timed out)",
        "no resolver defined to resolve backend.example",
    ],
    client_gets: "502",
    fix: "Check the resolver directive: is that server up and reachable from the worker, does it know the name? nginx \
          does not read /etc/hosts or search domains for names in variables.",
    matches: Some(dns_failed),
};

/// nginx's state for a lookup that its resolver_timeout ended.
const TIMED_OUT: u32 = 110;
const NAME_NOT_FOUND: u32 = 3;

fn dns_failed(scene: &Scene<'_>) -> Option<Finding> {
    if scene.attempt.is_some() {
        return None;
    }
    if scene.log_call("no resolver defined").is_some() {
        return Some(
            Finding::proven("nginx has no resolver to look the upstream's name up with; it says so itself")
                .rests_on_complete_records(scene)
                .advise("add a resolver directive (resolver 127.0.0.53 valid=10s;), or an upstream block with the name"),
        );
    }
    let resolved = scene
        .case
        .log_calls
        .iter()
        .find_map(|call| call.resolved.as_ref());
    let name = resolved.map(|(name, _)| name.as_str());
    let exchange = Exchange::of(&scene.case.dns, name);
    let finding = match (resolved, exchange.as_ref()) {
        (Some((name, state)), exchange) => said(name, *state, exchange),
        (None, Some(exchange)) if scene.log_call("could not be resolved").is_some() => {
            exchange.tell()
        }
        (None, Some(exchange)) if scene.case.has_upstream => exchange.tell().unless(
            false,
            "that this request asked for it: nginx logged nothing, and tried no upstream",
        ),
        (None, None) if scene.log_call("could not be resolved").is_some() => Finding::inferred(
            "nginx could not resolve the upstream's name; it says so itself",
            "nginx's exchange with its resolver",
        ),
        _ => return None,
    };
    let mut finding = finding.rests_on_complete_records(scene);
    finding
        .evidence
        .splice(0..0, exchange.iter().flat_map(Exchange::story));
    let asked = name
        .map(str::to_owned)
        .or_else(|| exchange.as_ref().map(|exchange| exchange.name.clone()));
    let asked = asked.map_or_else(|| "NAME".to_owned(), |name| wording::quoted(&name));
    let server = exchange.as_ref().map_or_else(
        || "@RESOLVER".to_owned(),
        |exchange| format!("@{} -p {}", exchange.server.ip(), exchange.server.port()),
    );
    Some(
        finding
            .advise(format!("ask it yourself: dig {server} {asked}"))
            .advise("see: nginx -T | grep -n resolver"),
    )
}

/// By nginx's own call, with what its exchange adds.
fn said(name: &str, state: u32, exchange: Option<&Exchange<'_>>) -> Finding {
    match (state, exchange) {
        (TIMED_OUT, Some(exchange)) => exchange.tell(),
        (TIMED_OUT, None) => Finding::proven(format!("nginx got no answer for {name} within its resolver_timeout"))
            .advise("is the resolver directive's server up, and reachable from the worker (UDP and TCP port 53)?"),
        (state, Some(exchange)) => {
            // Its own call and the exchange belong together only if they say the same.
            let same = matches!(exchange.outcome, Outcome::Answered(rcode) if u32::from(rcode) == state)
                || matches!(exchange.outcome, Outcome::Empty) && state == NAME_NOT_FOUND;
            if same {
                return exchange.tell();
            }
            by_state(name, state)
        }
        (state, None) => by_state(name, state),
    }
}

fn by_state(name: &str, state: u32) -> Finding {
    let rcode = u8::try_from(state).unwrap_or(u8::MAX);
    advise_on(
        Finding::proven(format!(
            "nginx's resolver answered {} for {name}",
            rcode_name(rcode)
        )),
        rcode,
    )
}

/// What nginx and a name server said to each other about one name.
struct Exchange<'a> {
    name: String,
    server: SocketAddr,
    steps: Vec<&'a Dns>,
    outcome: Outcome,
}

#[derive(Clone, Copy)]
enum Outcome {
    Answered(u8),
    /// NOERROR without an answer record.
    Empty,
    Failed(u32),
    Silence,
}

impl<'a> Exchange<'a> {
    /// The failing exchange about that name, or the last failing one; `None` if all was answered well, or nothing seen.
    fn of(steps: &'a [Dns], name: Option<&str>) -> Option<Self> {
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

    fn tell(&self) -> Finding {
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

    fn story(&self) -> impl Iterator<Item = Evidence> {
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

fn rcode_name(rcode: u8) -> String {
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

fn advise_on(finding: Finding, rcode: u8) -> Finding {
    match rcode {
        2 => finding.advise("the name server itself failed (its upstream, DNSSEC): its log"),
        3 => finding.advise("the name does not exist there: correct it, or the zone; nginx uses no search domains and no /etc/hosts"),
        5 => finding.advise("the name server refuses this client or zone: its access rules (allow-query, allow-recursion)"),
        _ => finding.advise("the name server does not understand the query: is it a DNS server, and the right one?"),
    }
}
