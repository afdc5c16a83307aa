//! Names that nginx cannot resolve: what the DNS server says, its silence, its absence, over UDP
//! and TCP, IPv4 and IPv6. The server is real, see the program `backend`; healthy requests have
//! names resolved too, over either.

use anyhow::Result;
use tests::client::Front;
use tests::expected::Expected;
use tests::service::Service;
use tests::stage::{Fault, Load, Stage};
use tests::tracer::Tracer;

const TOGETHER: Load = Load {
    failing: 5,
    healthy: 5,
    concurrency: 12,
    front: Front::Http,
};

/// Has `name` resolved by `server`.
fn resolved(name: &str, server: &str, options: &str) -> String {
    format!(
        "resolver {server} {options}; resolver_timeout 2s; set $upstream {name}; \
         proxy_pass http://$upstream:8000;"
    )
}

/// A location that has `name` resolved by `server`; the verdict names both.
fn lookup(name: &str, server: &str, options: &str, logged: &str) -> Fault {
    let expected = Expected::untried("dns-failed", logged)
        .says(name)
        .says(server);
    Fault::location(resolved(name, server, options), expected)
}

fn says(mut fault: Fault, text: &str) -> Fault {
    fault.expected = fault.expected.says(text);
    fault
}

/// What a server does, what nginx logs after the name, what the verdict says.
type Conduct = (&'static str, &'static str, &'static str);

/// A DNS server on `host` for each of these conducts, and nginx asking each; the healthy names are
/// resolved `over` UDP (`address`) or TCP (`address-over-tcp`).
fn check(host: &str, conducts: &[Conduct], options: &str, over: &str) -> Result<()> {
    let mut stage = Stage::new()?;
    let good = format!("{host}:5300");
    let mut services = vec![Service::start(&stage.netns, &[&good, "dns", over])?];
    stage.healthy = resolved("healthy.test", &good, options);
    let mut faults = Vec::new();
    for (index, (mode, logged, word)) in conducts.iter().enumerate() {
        let server = format!("{host}:{}", 5301 + index);
        services.push(Service::start(&stage.netns, &[&server, "dns", mode])?);
        let name = format!("app{index}.test");
        let logged = format!("{name} could not be resolved ({logged}");
        faults.push(says(lookup(&name, &server, options, &logged), word));
    }
    stage.check_with(faults, TOGETHER).map(drop)
}

const V4: &str = "127.0.0.1";
const V6: &str = "[::1]";

const NXDOMAIN: &str = "3: Host not found)";
const SERVFAIL: &str = "2: Server failure)";
const NOTIMP: &str = "4: Unimplemented)";
const REFUSED: &str = "5: Operation refused)";
const TIMEOUT: &str = "110: Operation timed out)";

const ANSWERS: [Conduct; 7] = [
    ("nxdomain", NXDOMAIN, "NXDOMAIN"),
    ("servfail", SERVFAIL, "SERVFAIL"),
    // nginx asks on after this one, until its own timer.
    ("formerr", TIMEOUT, "FORMERR"),
    ("notimp", NOTIMP, "NOTIMP"),
    ("refused", REFUSED, "REFUSED"),
    ("empty", NXDOMAIN, "without an address"),
    ("silence", TIMEOUT, "did not answer"),
];

const OVER_TCP: [Conduct; 7] = [
    ("nxdomain-over-tcp", NXDOMAIN, "NXDOMAIN"),
    ("servfail-over-tcp", SERVFAIL, "SERVFAIL"),
    ("notimp-over-tcp", NOTIMP, "NOTIMP"),
    ("refused-over-tcp", REFUSED, "REFUSED"),
    ("empty-over-tcp", NXDOMAIN, "without an address"),
    ("silence-over-tcp", TIMEOUT, "over TCP"),
    ("closed-over-tcp", TIMEOUT, "over TCP was refused"),
];

#[test]
fn the_server_says_no() -> Result<()> {
    check(V4, &ANSWERS, "ipv6=off", "address")
}

#[test]
fn the_server_says_no_to_both_families() -> Result<()> {
    check(V4, &ANSWERS, "", "address")
}

#[test]
fn the_server_says_no_over_ipv6() -> Result<()> {
    check(V6, &ANSWERS, "ipv6=off", "address")
}

#[test]
fn the_server_says_no_over_tcp() -> Result<()> {
    check(V4, &OVER_TCP, "ipv6=off", "address-over-tcp")
}

#[test]
fn the_server_says_no_over_tcp_to_both_families() -> Result<()> {
    check(V4, &OVER_TCP, "", "address-over-tcp")
}

#[test]
fn the_server_says_no_over_tcp_and_ipv6() -> Result<()> {
    check(V6, &OVER_TCP, "ipv6=off", "address-over-tcp")
}

#[test]
fn nobody_listens_where_the_server_should_be() -> Result<()> {
    let logged = |name: &str| format!("{name} could not be resolved ({TIMEOUT}");
    let closed = |name: &str, server: &str| {
        let fault = lookup(name, server, "ipv6=off", &logged(name));
        says(fault, "ECONNREFUSED")
    };
    Stage::new()?
        .check_with(
            vec![
                closed("v4.test", "127.0.0.1:5399"),
                closed("v6.test", "[::1]:5399"),
            ],
            TOGETHER,
        )
        .map(drop)
}

#[test]
fn no_resolver_is_configured() -> Result<()> {
    let fault = |name: &str| {
        let logged = format!("no resolver defined to resolve {name}");
        let expected = Expected::untried("dns-failed", &logged).says("resolver");
        Fault::location(
            format!("set $upstream {name}; proxy_pass http://$upstream:8000;"),
            expected.says(name),
        )
    };
    Stage::new()?
        .check(vec![fault("one.test"), fault("two.test")])
        .map(drop)
}

/// The name was resolved a moment before, and then is not: the new exchange counts, not the old.
#[test]
fn a_name_that_is_gone_a_moment_later() -> Result<()> {
    let mut stage = Stage::new()?;
    let server = "127.0.0.1:5301";
    let names = Service::start(&stage.netns, &[server, "dns", "address"])?;
    // Each location's resolver has a memory of its own.
    stage.healthy = resolved("app.test", server, "ipv6=off valid=60s");
    let logged = format!("app.test could not be resolved ({NXDOMAIN}");
    let fault = says(lookup("app.test", server, "ipv6=off", &logged), "NXDOMAIN");
    let site = stage.start(vec![fault])?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let mut sent = site.send(Load {
        failing: 0,
        ..TOGETHER
    })?;
    drop(names);
    let _names = Service::start(&site.netns, &[server, "dns", "nxdomain"])?;
    sent.extend(site.send(Load {
        healthy: 0,
        ..TOGETHER
    })?);
    site.check(&sent, tracer).map(drop)
}
