//! nginx could not resolve the upstream's name: `dns-failed`.

use super::{
    cause::{ByHand, Cause},
    exchange::{Exchange, Outcome, advise_on, rcode_name},
    finding::Finding,
    logged::Logged,
    scene::Scene,
    wording,
};
use crate::event::{Doing, Said};

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
    logged: &[
        Logged::of(&[Said::NoResolver, Said::Unresolved]).anywhere(),
        Logged::of(&[]).doing(&[Doing::Resolving]),
    ],
    by_hand: ByHand {
        command: "dig NAME @RESOLVER",
        shows: "the server of nginx's resolver directive fails alike",
    },
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
    if let Some(call) = scene.said(Said::NoResolver) {
        let name = call.text.as_deref().unwrap_or("the upstream's name");
        return Some(
            Finding::proven(format!("nginx has no resolver to look {name} up with; it says so itself"))
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
        // Only an answer is an event: nginx may have met one that was not seen.
        (None, Some(exchange)) if scene.said(Said::Unresolved).is_some() => exchange.tell().unless(
            !matches!(exchange.outcome, Outcome::Silence),
            "what ended the lookup: nginx says no more than that it failed",
        ),
        (None, Some(exchange))
            if scene.case.has_upstream
                && !scene.case.is_alone
                && exchange.ends_at_once_before(scene.case.time) =>
        {
            exchange.tell().unless(
                false,
                "that this request asked for it: nginx logged nothing, and tried no upstream",
            )
        }
        (None, None) if scene.said(Said::Unresolved).is_some() => Finding::inferred(
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
