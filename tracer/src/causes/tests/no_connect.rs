//! nginx connected to nobody.

use super::{connected::*, *};
use crate::event::{
    Dns, DnsStep,
    fact::{BlockServer, BlockView, ConfigLine},
};

const NAME: &str = "backend.example";

fn busy() -> Case {
    let failure = Failure {
        upstream: None,
        code: -3,
        errno: 0,
        start: after(3 * SECOND),
        at: after(3 * SECOND),
        ..inet("0.0.0.0:0", 0, routes(0, 0, 0))
    };
    request(502, vec![attempt(failure, Facts::default())])
}

#[test]
fn the_failures_that_closed_the_peers_are_named() {
    let mut case = busy();
    assert!(fact(&verdict(&case), "earlier").contains("down, max_conns"));
    let before = |remote: &str| one(no_socket(remote), Facts::default());
    case.earlier = vec![
        before("127.0.0.1:3000"),
        before("127.0.0.1:3001"),
        before("127.0.0.1:3000"),
    ];
    let v = verdict(&case);
    assert_eq!(
        (v.cause, v.confidence, v.upstream.as_deref()),
        ("no-live-upstreams", Proven, None)
    );
    assert!(
        v.summary
            .ends_with("after 127.0.0.1:3000 (no-listener), 127.0.0.1:3001 (no-listener)"),
        "{}",
        v.summary
    );
    assert_eq!(
        fact(&v, "earlier"),
        "127.0.0.1:3000 failed 2 times, last 3.0 s before: no-listener"
    );
    // Asking for a peer is no failure of one.
    case.earlier = vec![busy()];
    assert!(fact(&verdict(&case), "earlier").contains("down, max_conns"));
}

#[test]
fn only_the_servers_of_that_upstream_are_named() {
    let mut case = busy();
    if let Course::FailedAtOnce(failure) = &mut case.attempts[0].course {
        failure.block = Some("dead".to_owned());
    }
    // A verdict that needed its own request's log is cited as it was given.
    let died = answered(502, connected(HERE), served());
    let died = logged(died, "upstream timed out");
    let own = verdict(&died).cause;
    assert_ne!(own, "unexplained");
    let other = one(no_socket("127.0.0.1:3001"), Facts::default());
    case.earlier = vec![other, died];
    let server = |address: &str, parameters: &[&str]| BlockServer {
        address: address.to_owned(),
        parameters: parameters.iter().map(|&word| word.to_owned()).collect(),
    };
    case.host.block = Some(BlockView {
        at: Some(ConfigLine {
            file: "/etc/nginx/nginx.conf".to_owned(),
            line: 12,
            text: "upstream dead".to_owned(),
            location: None,
        }),
        servers: vec![server(HERE, &[]), server("10.0.0.9", &["down"])],
        zone: false,
    });
    let v = verdict(&case);
    let right = format!("every server of dead failed, down or at max_conns, after {HERE} ({own})");
    let right = right.replace(" failed, down or at max_conns, after", " failed, after");
    assert!(v.summary.ends_with(&right), "{}", v.summary);
    assert_eq!(v.upstream_name.as_deref(), Some("dead"));
    let said: Vec<&str> = v.evidence.iter().map(|one| one.text.as_str()).collect();
    assert!(said.contains(&"server 10.0.0.9 has down"), "{said:?}");
    // One address that is written in proxy_pass.
    case.host.block = None;
    if let Course::FailedAtOnce(failure) = &mut case.attempts[0].course {
        failure.block = Some("127.0.0.1:3001".to_owned());
    }
    assert!(
        verdict(&case)
            .summary
            .ends_with("after 127.0.0.1:3001 (no-listener)")
    );
}

fn step(at: u64, step: DnsStep) -> Dns {
    let named = !matches!(step, DnsStep::Failed { .. });
    Dns {
        at: after(at),
        worker: 1234,
        server: address("10.0.0.2:53"),
        over_tcp: false,
        step,
        id: 7,
        name: if named { NAME } else { "" }.to_owned(),
    }
}

fn answer(rcode: u8, answers: u16) -> Vec<Dns> {
    vec![
        step(0, DnsStep::Asked),
        step(MS, DnsStep::Answered { rcode, answers }),
    ]
}

fn unresolved(dns: Vec<Dns>, state: Option<u32>) -> Case {
    let mut case = request(502, vec![]);
    case.dns = dns;
    if let Some(state) = state {
        case.log_calls.push(LogCall {
            resolved: Some((NAME.to_owned(), state)),
            ..log_call("%V could not be resolved (%i: %s)", 0)
        });
    }
    case
}

#[test]
fn a_name_that_does_not_resolve_is_told_by_the_exchange() {
    let refused = || {
        vec![
            step(0, DnsStep::Asked),
            step(MS, DnsStep::Failed { errno: 111 }),
        ]
    };
    let silence = || vec![step(0, DnsStep::Asked), step(5 * SECOND, DnsStep::Asked)];
    let cases = [
        (
            answer(3, 0),
            3,
            "10.0.0.2:53 answered NXDOMAIN for backend.example",
        ),
        (
            answer(2, 0),
            2,
            "10.0.0.2:53 answered SERVFAIL for backend.example",
        ),
        (
            answer(5, 0),
            5,
            "10.0.0.2:53 answered REFUSED for backend.example",
        ),
        (
            answer(0, 0),
            3,
            "10.0.0.2:53 answered without an address for backend.example",
        ),
        (
            refused(),
            110,
            "nginx's query for backend.example was refused (ECONNREFUSED): nothing listens at the resolver 10.0.0.2:53, or \
             a firewall rejects it",
        ),
        (
            silence(),
            110,
            "the resolver 10.0.0.2:53 did not answer nginx's query for backend.example",
        ),
        (
            vec![],
            3,
            "nginx's resolver answered NXDOMAIN for backend.example",
        ),
        (
            vec![],
            110,
            "nginx got no answer for backend.example within its resolver_timeout",
        ),
    ];
    for (dns, state, summary) in cases {
        let case = unresolved(dns.clone(), Some(state));
        let v = verdict(&case);
        assert_eq!(
            (v.cause, v.confidence, v.summary.as_str()),
            ("dns-failed", Proven, summary)
        );
        assert_eq!(judged(&lossy(case)), ("dns-failed", Inferred));
        // Without nginx's word the exchange is all there is: it is this request's if it failed just
        // before.
        let mut quiet = unresolved(dns.clone(), None);
        assert_eq!(judged(&quiet), ("unexplained", Unknown));
        if let Some(end) = dns.last() {
            quiet.time = end.at.plus(MS);
        }
        let expected = match dns.last().map(|end| end.step) {
            None | Some(DnsStep::Asked) => ("unexplained", Unknown),
            Some(_) => ("dns-failed", Inferred),
        };
        assert_eq!(judged(&quiet), expected);
        // Of an nginx whose functions are not seen the time is that of its log.
        quiet.is_alone = true;
        assert_eq!(judged(&quiet), ("unexplained", Unknown));
    }
}

#[test]
fn silence_of_a_resolver_is_proven_by_nginxs_word_on_its_timer() {
    let asked = || vec![step(0, DnsStep::Asked)];
    assert_eq!(
        judged(&unresolved(asked(), Some(110))),
        ("dns-failed", Proven)
    );
    // It says that it could not resolve the name, and how that ended was not read.
    let mut vague = unresolved(asked(), None);
    vague
        .log_calls
        .push(log_call("%V could not be resolved (%i: %s)", 0));
    assert_eq!(judged(&vague), ("dns-failed", Inferred));
    vague.dns = answer(3, 0);
    assert_eq!(judged(&vague), ("dns-failed", Proven));
}

#[test]
fn what_is_too_long_for_udp_is_told_by_its_exchange_over_tcp() {
    let over_tcp = |at, kind| Dns {
        over_tcp: true,
        ..step(at, kind)
    };
    let truncated = || vec![step(0, DnsStep::Asked), step(MS, DnsStep::Truncated)];
    let silent = vec![over_tcp(2 * MS, DnsStep::Asked)];
    let refused = vec![over_tcp(2 * MS, DnsStep::Failed { errno: 111 })];
    let (rcode, answers) = (3, 0);
    let answered = vec![
        over_tcp(2 * MS, DnsStep::Asked),
        over_tcp(3 * MS, DnsStep::Answered { rcode, answers }),
    ];
    for (then, state, summary) in [
        (
            vec![],
            110,
            "the resolver 10.0.0.2:53 did not answer nginx's query for backend.example over TCP",
        ),
        (
            silent,
            110,
            "the resolver 10.0.0.2:53 did not answer nginx's query for backend.example over TCP",
        ),
        (
            refused,
            110,
            "nginx's query for backend.example over TCP was refused (ECONNREFUSED): nothing listens at the resolver \
             10.0.0.2:53, or a firewall rejects it",
        ),
        (
            answered,
            3,
            "10.0.0.2:53 answered NXDOMAIN for backend.example over TCP",
        ),
    ] {
        let dns = truncated().into_iter().chain(then).collect();
        assert_eq!(verdict(&unresolved(dns, Some(state))).summary, summary);
    }
}

#[test]
fn the_last_exchange_about_a_name_counts() {
    let later = |dns: Vec<Dns>| {
        dns.into_iter().map(|step| Dns {
            at: step.at.plus(SECOND),
            id: 8,
            ..step
        })
    };
    let gone = answer(0, 2).into_iter().chain(later(answer(3, 0)));
    assert_eq!(
        verdict(&unresolved(gone.collect(), Some(3))).summary,
        "10.0.0.2:53 answered NXDOMAIN for backend.example"
    );
    let silent = answer(3, 0)
        .into_iter()
        .chain(later(vec![step(0, DnsStep::Asked)]));
    assert_eq!(
        verdict(&unresolved(silent.collect(), Some(110))).summary,
        "the resolver 10.0.0.2:53 did not answer nginx's query for backend.example"
    );
}

#[test]
fn an_answer_without_its_question_is_told_by_its_id() {
    let mut bare = answer(1, 0);
    bare[1].name = String::new();
    assert_eq!(
        verdict(&unresolved(bare.clone(), Some(110))).summary,
        "10.0.0.2:53 answered FORMERR for backend.example"
    );
    bare[1].id = 9;
    assert_eq!(
        verdict(&unresolved(bare, Some(110))).summary,
        "the resolver 10.0.0.2:53 did not answer nginx's query for backend.example"
    );
}

#[test]
fn an_exchange_that_went_well_explains_nothing() {
    assert_eq!(
        judged(&unresolved(answer(0, 2), None)),
        ("unexplained", Unknown)
    );
    let mut other = answer(3, 0);
    for step in &mut other {
        step.name = "other.example".to_owned();
    }
    let v = verdict(&unresolved(other, Some(2)));
    assert_eq!(
        v.summary,
        "nginx's resolver answered SERVFAIL for backend.example"
    );
}

#[test]
fn the_advice_asks_the_same_server() {
    let v = verdict(&unresolved(answer(3, 0), Some(3)));
    assert!(
        v.advice
            .contains(&"ask it yourself: dig @10.0.0.2 -p 53 backend.example".to_owned()),
        "{:?}",
        v.advice
    );
    assert!(
        v.evidence
            .iter()
            .any(|e| e.event == "dns-answered"
                && e.text == "10.0.0.2:53 answers NXDOMAIN, 0 records")
    );
}
