//! Names that nginx cannot resolve: what the DNS server says, its silence, its absence, over UDP and
//! TCP. The server is real, see the program `backend`.

use anyhow::Result;
use tests::client::Front;
use tests::expected::Expected;
use tests::service::Service;
use tests::stage::{Fault, Load, Stage};

const TOGETHER: Load = Load {
    failing: 5,
    healthy: 5,
    concurrency: 12,
    front: Front::Http,
};

/// A location that has `name` resolved by `server`; the verdict names both.
fn lookup(name: &str, server: &str, options: &str, logged: &str) -> Fault {
    let expected = Expected::untried("dns-failed", logged)
        .says(name)
        .says(server);
    let location = format!(
        "resolver {server} {options}; resolver_timeout 700ms; set $upstream {name}; \
         proxy_pass http://$upstream:8000;"
    );
    Fault::location(location, expected)
}

fn says(mut fault: Fault, text: &str) -> Fault {
    fault.expected = fault.expected.says(text);
    fault
}

/// A DNS server in each of these modes, on 5301 and up, and nginx asking each.
fn check(modes: &[(&str, &str, &str)], options: &str) -> Result<()> {
    let stage = Stage::new()?;
    let mut services = Vec::new();
    let mut faults = Vec::new();
    for (index, (mode, logged, word)) in modes.iter().enumerate() {
        let server = format!("127.0.0.1:{}", 5301 + index);
        services.push(Service::start(&stage.netns, &[&server, "dns", mode])?);
        let name = format!("app{index}.test");
        let logged = format!("{name} could not be resolved ({logged}");
        faults.push(says(lookup(&name, &server, options, &logged), word));
    }
    stage.check_with(faults, TOGETHER).map(drop)
}

const MODES: [(&str, &str, &str); 5] = [
    ("nxdomain", "3: Host not found)", "NXDOMAIN"),
    ("servfail", "2: Server failure)", "SERVFAIL"),
    // nginx asks on after this one, until its own timer.
    ("formerr", "110: Operation timed out)", "FORMERR"),
    ("notimp", "4: Unimplemented)", "NOTIMP"),
    ("empty", "3: Host not found)", "address"),
];

#[test]
#[ignore = "open: FORMERR is told as silence"]
fn the_server_says_no() -> Result<()> {
    check(&MODES, "ipv6=off")
}

#[test]
#[ignore = "open: the words lack the server at times"]
fn the_server_says_no_to_both_families() -> Result<()> {
    check(&MODES, "")
}

#[test]
#[ignore = "open: DNS over TCP is not read"]
fn the_server_says_no_over_tcp() -> Result<()> {
    check(
        &[
            ("nxdomain-over-tcp", "3: Host not found)", "NXDOMAIN"),
            ("servfail-over-tcp", "2: Server failure)", "SERVFAIL"),
        ],
        "ipv6=off",
    )
}

#[test]
fn the_server_refuses_or_is_silent() -> Result<()> {
    check(
        &[
            ("refused", "5: Operation refused)", "REFUSED"),
            ("silence", "110: Operation timed out)", "answer"),
        ],
        "ipv6=off",
    )
}

#[test]
fn nobody_listens_where_the_server_should_be() -> Result<()> {
    let logged = |name: &str| format!("{name} could not be resolved (110: Operation timed out)");
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
#[ignore = "open: the words lack the name"]
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
