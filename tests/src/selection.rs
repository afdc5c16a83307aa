//! A dozen and more causes side by side: for tests that vary what is around them.

use anyhow::Result;

use crate::expected::Expected;
use crate::faults::firewall;
use crate::folder::Folder;
use crate::service::Service;
use crate::stage::{Fault, HEALTHY, Stage};

/// The faults, and what has to live for as long as they shall.
#[derive(Debug)]
pub struct Selection {
    /// One a cause, each with an upstream of its own.
    pub faults: Vec<Fault>,
    _services: Vec<Service>,
    _folder: Folder,
}

const PREMATURELY: &str = "upstream prematurely closed connection while reading";
const HEAD: &str = "HTTP/1.1 200 OK\r\n";

impl Selection {
    /// Prepares all of them in the stage's namespace.
    pub fn new(stage: &Stage) -> Result<Self> {
        let folder = Folder::new()?;
        let big = format!("{HEAD}X-Big: {}\r\n\r\nok", "x".repeat(20_000));
        let short = format!("{HEAD}Content-Length: 5000\r\n\r\nshort");
        let own = "HTTP/1.1 502 Its Own\r\nContent-Length: 4\r\nConnection: close\r\n\r\nown\n";
        let plain = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
        let services = [
            ["127.0.0.1:9104", "answer", ""].as_slice(),
            &["127.0.0.1:9105", "unread"],
            &["127.0.0.1:9106", "exit", "--prefork", "4"],
            &["127.0.0.1:9107", "answer", &big],
            &["127.0.0.1:9108", "hello", plain],
            &["127.0.0.1:9109", "answer", &short],
            &["127.0.0.1:9110", "answer", own],
            &["127.0.0.1:9111", "hold", ""],
            &["127.0.0.1:5300", "dns", "nxdomain"],
        ]
        .map(|words| Service::start(&stage.netns, words));
        firewall::rule(&stage.netns, "output", "tcp dport 9102 reject")?;
        stage.netns.ip("route add prohibit 10.66.1.0/24")?;
        Ok(Self {
            faults: [connecting(&folder), connected(), elsewhere()].concat(),
            _services: services.into_iter().collect::<Result<_>>()?,
            _folder: folder,
        })
    }

    /// Where nginx logs nothing: two causes are only its own words, all others as proven as ever.
    pub fn unlogged(mut self) -> Self {
        for fault in &mut self.faults {
            let expected = fault.expected.clone();
            let errno = expected.errno;
            let is_said_alone = ["dns-failed", "response-rejected"].contains(&expected.cause);
            fault.expected = expected
                .proven_if(!is_said_alone)
                .or_errno(None)
                .or_errno(errno);
        }
        self
    }
}

/// Failures to connect.
fn connecting(folder: &Folder) -> Vec<Fault> {
    let missing = format!("unix:{}", folder.join("missing.sock").display());
    let refused = || Expected::new("no-listener", "127.0.0.1:9101", "ECONNREFUSED");
    let backup = format!("{HEALTHY} backup");
    vec![
        Fault::proxy(refused(), ""),
        Fault::proxy(
            Expected::new("firewall-reject", "127.0.0.1:9102", "ECONNREFUSED"),
            "",
        ),
        Fault::proxy(
            Expected::new("route-prohibit", "10.66.1.1:80", "EACCES"),
            "",
        ),
        Fault::location(
            format!("proxy_pass http://{missing}:/;"),
            Expected::new("unix-socket-missing", &missing, "ENOENT"),
        ),
        Fault::group(
            "retried",
            &["127.0.0.1:9101", &backup],
            refused().masked_by(HEALTHY),
        ),
    ]
}

/// Failures of an established connection.
fn connected() -> Vec<Fault> {
    let slow = Expected::timeout("backend-slow", "127.0.0.1:9111").or_errno(None);
    let tls = Expected::connected(
        "tls-handshake-failed",
        "127.0.0.1:9108",
        "SSL_do_handshake() failed",
    );
    vec![
        Fault::proxy(
            Expected::connected("backend-closed-early", "127.0.0.1:9104", PREMATURELY),
            "",
        ),
        Fault::proxy(Expected::reset("backend-reset", "127.0.0.1:9105"), ""),
        Fault::proxy(
            Expected::connected("backend-died", "127.0.0.1:9106", PREMATURELY),
            "",
        ),
        Fault::proxy(
            Expected::connected(
                "response-rejected",
                "127.0.0.1:9107",
                "upstream sent too big header",
            ),
            "",
        ),
        Fault::location("proxy_pass https://127.0.0.1:9108;", tls),
        Fault::proxy(
            Expected::connected("response-truncated", "127.0.0.1:9109", PREMATURELY).status(200),
            "",
        ),
        Fault::proxy(
            Expected::connected("passed-through", "127.0.0.1:9110", "").unlogged(),
            "",
        ),
        Fault::proxy(slow, "proxy_read_timeout 400ms;"),
    ]
}

/// Failures without a connection.
fn elsewhere() -> Vec<Fault> {
    let nobody = Expected::untried("no-live-upstreams", "no live upstreams");
    let unknown = Expected::untried("dns-failed", "could not be resolved (3: Host not found)");
    vec![
        Fault::location("proxy_pass http://nobody;", nobody)
            .with("upstream nobody { server 127.0.0.1:9112 down; }\n"),
        Fault::location(
            "resolver 127.0.0.1:5300 ipv6=off; set $upstream unknown.test; \
             proxy_pass http://$upstream:8000;",
            unknown,
        ),
    ]
}
