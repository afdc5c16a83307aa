//! `stream {}`: connections that a TCP proxy cannot make, reported without a status.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use tests::certificate::Certificate;
use tests::client::{HOST, answered};
use tests::expected::Expected;
use tests::faults::firewall;
use tests::folder::Folder;
use tests::programs;
use tests::stage::{HEALTHY, Stage};
use tests::tracer::Tracer;
use tests::upstream::{Listen, Upstream};

const EACH: usize = 5;

/// A port of nginx's for each of these, from 7001, and a healthy one at 7000.
fn check(test: &str, stage: Stage, timeout: &str, expected: &[Expected]) -> Result<()> {
    check_with(test, stage, timeout, expected, |_| String::new())
}

/// The same with directives of its own for each.
fn check_with(
    test: &str,
    stage: Stage,
    timeout: &str,
    expected: &[Expected],
    directives: impl Fn(usize) -> String,
) -> Result<()> {
    let module = programs::root().join("usr/lib/nginx/modules/ngx_stream_module.so");
    if !module.is_file() {
        println!(
            "SKIPPED: {test}: nginx's stream module is not at {}",
            module.display()
        );
        return Ok(());
    }
    let mut stage = stage;
    let expected: Vec<_> = expected
        .iter()
        .map(|expected| expected.clone().placed(&stage.netns))
        .collect();
    let mut servers = format!("server {{ listen 127.0.0.1:7000; proxy_pass {HEALTHY}; }}\n");
    for (index, expected) in expected.iter().enumerate() {
        let upstream = expected.upstream.as_deref().context("no upstream")?;
        let (port, own) = (7001 + index, directives(index));
        servers += &format!("server {{ listen 127.0.0.1:{port}; proxy_pass {upstream}; {own} }}\n");
    }
    stage.config.main = format!(
        "load_module {};\nstream {{ {timeout}\n{servers} }}\n",
        module.display()
    );
    let site = stage.start(Vec::new())?;
    let tracer = Tracer::follow(site.nginx.master)?;
    for _ in 0..EACH {
        ensure!(
            site.netns.enter(|| answered(7000))?,
            "the healthy proxy did not answer"
        );
        for (port, _) in (7001..).zip(&expected) {
            ensure!(
                !site.netns.enter(|| answered(port))?,
                "port {port} answered"
            );
        }
    }
    let log = std::fs::read_to_string(site.nginx.folder().join("error.log"))?;
    for expected in &expected {
        let upstream = format!(
            "upstream: \"{}\"",
            expected.upstream.as_deref().unwrap_or_default()
        );
        let logged = |line: &&str| line.contains(&upstream) && line.contains(&expected.logged[0]);
        let found = log.lines().filter(logged).count();
        ensure!(
            found == EACH,
            "{found} times {:?} at {upstream} in:\n{log}",
            expected.logged
        );
    }
    let waited = tracer.verdict_lines(EACH * expected.len());
    let ended = tracer.stop(libc::SIGINT)?;
    for expected in &expected {
        let of = ended.verdicts.iter().filter(|verdict| {
            verdict["upstream"] == *expected.upstream.as_deref().unwrap_or_default()
        });
        let differences: Vec<_> = of
            .clone()
            .flat_map(|verdict| expected.differences(verdict))
            .collect();
        ensure!(
            of.clone().count() == EACH && differences.is_empty(),
            "{} verdicts at {:?}:\n    {}\n{:?}",
            of.count(),
            expected.upstream,
            differences.join("\n    "),
            ended.verdicts.first()
        );
    }
    waited?;
    ensure!(
        ended.verdicts.len() == EACH * expected.len(),
        "{:?}",
        ended.verdicts
    );
    Ok(())
}

#[test]
fn connections_that_are_refused() -> Result<()> {
    let stage = Stage::new()?;
    firewall::rule(&stage.netns, "output", "tcp dport 9002 reject")?;
    stage.netns.ip("route add prohibit 10.66.1.0/24")?;
    let folder = Folder::new()?;
    let missing = format!("unix:{}", folder.join("app.sock").display());
    let expected = [
        Expected::new("no-listener", "127.0.0.1:9001", "ECONNREFUSED"),
        Expected::new("no-listener", "[::1]:9001", "ECONNREFUSED"),
        Expected::new("firewall-reject", "127.0.0.1:9002", "ECONNREFUSED"),
        Expected::new("route-prohibit", "10.66.1.1:80", "EACCES"),
        Expected::new("unix-socket-missing", &missing, "ENOENT"),
    ]
    .map(|expected| expected.status(0));
    check("connections_that_are_refused", stage, "", &expected)
}

#[test]
fn connections_that_nobody_answers() -> Result<()> {
    let stage = Stage::new()?;
    firewall::rule(&stage.netns, "output", "tcp dport 9001 drop")?;
    let expected = [Expected::timeout("firewall-drop", "127.0.0.1:9001").status(0)];
    let timeout = "proxy_connect_timeout 300ms;";
    check("connections_that_nobody_answers", stage, timeout, &expected)
}

/// A TLS server that sends back what it gets.
const ECHO: &str = r"
const fs = require('fs');
const options = { key: fs.readFileSync('key.pem'), cert: fs.readFileSync('certificate.pem') };
const server = require('tls').createServer(options, socket => {
  socket.on('error', () => {});
  socket.pipe(socket);
});
server.on('tlsClientError', () => {});
server.listen(+process.argv[2], '127.0.0.1');
";

/// nginx refuses the certificate of a backend that it speaks TLS to.
#[test]
fn certificates_that_nginx_refuses() -> Result<()> {
    let stage = Stage::new()?;
    let (own, other) = (Certificate::new(HOST)?, Certificate::new(HOST)?);
    let text = |path: PathBuf| std::fs::read_to_string(path);
    let (key, file) = (text(own.key())?, text(own.file())?);
    let files = [
        ("app.js", ECHO),
        ("key.pem", key.as_str()),
        ("certificate.pem", file.as_str()),
    ];
    let start = |port: &str| {
        let listen = Listen::Tcp(format!("127.0.0.1:{port}"));
        Upstream::start(&stage.netns, &["node", "app.js", port], &files, &listen)
    };
    let _servers = (start("9001")?, start("9002")?);
    let refused = |upstream: &str, logged: &str| {
        Expected::connected("tls-handshake-failed", upstream, logged)
            .status(0)
            .says("certificate")
    };
    let expected = [
        refused("127.0.0.1:9001", "upstream SSL certificate verify error"),
        refused(
            "127.0.0.1:9002",
            "upstream SSL certificate does not match \"other.test\"",
        ),
    ];
    let trusts = |certificate: &Certificate, name: &str| {
        format!(
            "proxy_ssl on; proxy_ssl_verify on; proxy_ssl_name {name}; proxy_ssl_trusted_certificate {};",
            certificate.file().display()
        )
    };
    let directives = [trusts(&other, HOST), trusts(&own, "other.test")];
    check_with(
        "certificates_that_nginx_refuses",
        stage,
        "",
        &expected,
        |index| directives[index].clone(),
    )
}
