//! The same verdicts whatever speaks to nginx and whatever nginx speaks: TLS, HTTP/2, IPv6 in
//! front; FastCGI, uwsgi, SCGI, gRPC behind.

use anyhow::Result;
use tests::backend::{Backend, Protocol};
use tests::certificate::Certificate;
use tests::client::{Front, HOST};
use tests::expected::Expected;
use tests::faults::firewall;
use tests::stage::{Fault, Load, Stage};

fn faults(stage: &Stage, pass: &str, scheme: &str) -> Result<Vec<Fault>> {
    firewall::rule(&stage.netns, "output", "tcp dport 9002 reject")?;
    stage.netns.ip("route add prohibit 10.66.1.0/24")?;
    Ok([
        Expected::new("no-listener", "127.0.0.1:9001", "ECONNREFUSED"),
        Expected::new("no-listener", "[::1]:9001", "ECONNREFUSED"),
        Expected::new("firewall-reject", "127.0.0.1:9002", "ECONNREFUSED"),
        Expected::new("route-prohibit", "10.66.1.1:80", "EACCES"),
    ]
    .map(|expected| {
        let upstream = expected.upstream.clone().unwrap_or_default();
        Fault::location(format!("{pass} {scheme}{upstream};"), expected)
    })
    .into())
}

fn through(front: Front) -> Result<()> {
    let mut stage = Stage::new()?;
    let certificate = Certificate::new(HOST)?;
    stage.config.server = certificate.fronts();
    let faults = faults(&stage, "proxy_pass", "http://")?;
    let load = Load {
        front,
        ..Load::default()
    };
    stage.check_with(faults, load).map(drop)
}

#[test]
fn clients_over_ipv6() -> Result<()> {
    through(Front::HttpV6)
}

#[test]
fn clients_over_http2() -> Result<()> {
    through(Front::Http2)
}

#[test]
fn clients_over_tls() -> Result<()> {
    through(Front::Tls)
}

#[test]
fn clients_over_http2_and_tls() -> Result<()> {
    through(Front::TlsHttp2)
}

fn behind(pass: &str, scheme: &str, healthy: Option<Protocol>) -> Result<()> {
    let mut stage = Stage::new()?;
    let _backend = match healthy {
        Some(protocol) => {
            stage.healthy = format!("{pass} {scheme}127.0.0.1:8001;");
            Some(Backend::new(&stage.netns, "127.0.0.1:8001", protocol)?)
        }
        None => None,
    };
    let faults = faults(&stage, pass, scheme)?;
    stage.check(faults).map(drop)
}

#[test]
fn fastcgi_behind() -> Result<()> {
    behind("fastcgi_pass", "", Some(Protocol::FastCgi))
}

#[test]
fn uwsgi_behind() -> Result<()> {
    behind("uwsgi_pass", "", Some(Protocol::Uwsgi))
}

#[test]
fn scgi_behind() -> Result<()> {
    behind("scgi_pass", "", None)
}

#[test]
fn grpc_behind() -> Result<()> {
    behind("grpc_pass", "grpc://", None)
}
