//! TLS to the backend that is not established: nobody speaks it there, the certificate is not
//! trusted or is another's, the backend leaves in the middle.

use std::process::{Child, Stdio};

use anyhow::Result;
use tests::certificate::Certificate;
use tests::client::HOST;
use tests::expected::Expected;
use tests::netns::{Netns, in_table};
use tests::process;
use tests::service::Service;
use tests::stage::{Fault, Load, Stage};
use tests::wait::{PATIENCE, until};

fn failed(upstream: &str, logged: &str) -> Expected {
    Expected::connected("tls-handshake-failed", upstream, logged)
}

/// `proxy_pass https://` to the expected upstream.
fn https(expected: Expected, directives: &str) -> Fault {
    let upstream = expected.upstream.clone().unwrap_or_default();
    Fault::location(
        format!("proxy_pass https://{upstream}; {directives}"),
        expected,
    )
}

/// A real TLS server, `openssl s_server`.
struct Tls(Child);

impl Tls {
    /// Answers requests.
    fn start(netns: &Netns, port: u16, certificate: &Certificate, options: &str) -> Result<Self> {
        Self::run(netns, port, certificate, &format!("-www {options}"))
    }

    /// Takes requests and says nothing.
    fn silent(netns: &Netns, port: u16, certificate: &Certificate, options: &str) -> Result<Self> {
        Self::run(netns, port, certificate, options)
    }

    fn run(netns: &Netns, port: u16, certificate: &Certificate, options: &str) -> Result<Self> {
        let mut command = netns.backends().command("openssl")?;
        let address = netns.listens(&format!("127.0.0.1:{port}"));
        command
            .args(["s_server", "-quiet", "-accept", &address])
            .arg("-key")
            .arg(certificate.key())
            .arg("-cert")
            .arg(certificate.file())
            .args(options.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut tls = Self(command.spawn()?);
        let listening = format!("{} 00000000:0000 0A", in_table(&address)?);
        until("a TLS server", PATIENCE, || {
            if let Some(status) = tls.0.try_wait()? {
                anyhow::bail!("openssl s_server ended with {status}");
            }
            let table = netns.backends().tcp_table()?;
            Ok(table.contains(&listening).then_some(()))
        })?;
        Ok(tls)
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        process::end(&mut self.0, libc::SIGTERM);
    }
}

#[test]
fn a_plain_port() -> Result<()> {
    let stage = Stage::new()?;
    let text = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    let _plain = ["127.0.0.1:9001", "[::1]:9001"]
        .map(|address| Service::start(&stage.netns, &[address, "hello", text]));
    let plain = |upstream: &str| {
        let logged = "SSL_do_handshake() failed";
        https(failed(upstream, logged).says("plain"), "")
    };
    stage
        .check(vec![plain("127.0.0.1:9001"), plain("[::1]:9001")])
        .map(drop)
}

#[test]
fn a_certificate_that_nobody_vouches_for() -> Result<()> {
    let stage = Stage::new()?;
    let (own, other) = (Certificate::new("backend.test")?, Certificate::new(HOST)?);
    let _server = Tls::start(&stage.netns, 9001, &own, "")?;
    let verify = |trusted: &Certificate, name: &str| {
        format!(
            "proxy_ssl_session_reuse off; proxy_ssl_verify on; proxy_ssl_name {name}; \
             proxy_ssl_trusted_certificate {};",
            trusted.file().display()
        )
    };
    let unknown = failed(
        "127.0.0.1:9001",
        "upstream SSL certificate verify error: (18:self",
    );
    let another = failed(
        "127.0.0.1:9001",
        "upstream SSL certificate does not match \"shop.test\"",
    );
    stage
        .check(vec![
            https(unknown.says("certificate"), &verify(&other, "backend.test")),
            https(another.says("shop.test"), &verify(&own, HOST)),
        ])
        .map(drop)
}

/// nginx closes the connection itself and goes on: not the backend's silence, nor a timer.
#[test]
fn a_certificate_that_is_refused_before_a_retry() -> Result<()> {
    let stage = Stage::new()?;
    let (own, other) = (Certificate::new("backend.test")?, Certificate::new(HOST)?);
    let _refused = Tls::start(&stage.netns, 9001, &own, "")?;
    let _trusted = Tls::start(&stage.netns, 9002, &other, "")?;
    let logged = "upstream SSL certificate verify error: (18:self";
    let expected = failed("127.0.0.1:9001", logged).says("certificate verify error");
    let servers = ["127.0.0.1:9001", "127.0.0.1:9002 backup"];
    let fault = Fault::group("refused", &servers, expected.masked_by("127.0.0.1:9002"));
    let location = format!(
        "proxy_pass https://refused; proxy_ssl_session_reuse off; proxy_ssl_verify on; \
         proxy_ssl_name {HOST}; proxy_ssl_trusted_certificate {};",
        other.file().display()
    );
    stage.check(vec![Fault { location, ..fault }]).map(drop)
}

#[test]
fn no_protocol_or_cipher_in_common() -> Result<()> {
    let stage = Stage::new()?;
    let certificate = Certificate::new(HOST)?;
    let _new = Tls::start(&stage.netns, 9001, &certificate, "-tls1_3")?;
    let _strict = Tls::start(
        &stage.netns,
        9002,
        &certificate,
        "-no_tls1_3 -cipher AES128-SHA256",
    )?;
    let alert = |port: u16| failed(&format!("127.0.0.1:{port}"), "SSL_do_handshake() failed");
    stage
        .check(vec![
            https(alert(9001).says("alert"), "proxy_ssl_protocols TLSv1.2;"),
            https(
                alert(9002).says("alert"),
                "proxy_ssl_ciphers AES256-GCM-SHA384;",
            ),
        ])
        .map(drop)
}

#[test]
fn closed_in_the_handshake() -> Result<()> {
    let stage = Stage::new()?;
    let mut services = Vec::new();
    for (address, mode) in [
        ("127.0.0.1:9001", "hello"),
        ("[::1]:9001", "hello"),
        ("127.0.0.1:9002", "hello-reset"),
    ] {
        services.push(Service::start(&stage.netns, &[address, mode, ""])?);
    }
    let closed = |upstream: &str| failed(upstream, "peer closed connection in SSL handshake");
    // OpenSSL's reading fails, by whichever of its functions reads.
    let reset = failed(
        "127.0.0.1:9002",
        "(104: Connection reset by peer) while SSL handshaking",
    );
    stage
        .check(vec![
            https(closed("127.0.0.1:9001").or_errno(Some("ECONNRESET")), ""),
            https(closed("[::1]:9001").or_errno(Some("ECONNRESET")), ""),
            https(reset.or_errno(Some("ECONNRESET")), ""),
        ])
        .map(drop)
}

/// A handshake that nginx's timer ends.
fn stalled(upstream: &str) -> Fault {
    let logged = "upstream timed out (110: Connection timed out) while SSL handshaking";
    let expected = failed(upstream, logged)
        .status(504)
        .or_errno(Some("ETIMEDOUT"));
    // The connect timer is the handshake's too.
    https(
        expected,
        "proxy_connect_timeout 400ms; proxy_read_timeout 400ms;",
    )
}

#[test]
fn silent_in_the_handshake() -> Result<()> {
    let stage = Stage::new()?;
    let mut services = Vec::new();
    let mut faults = Vec::new();
    for (address, mode, text, word) in [
        // It waits for an HTTP request that does not come.
        ("127.0.0.1:9001", "hold", "", "did not answer"),
        ("[::1]:9001", "hold", "", "did not answer"),
        // The first bytes of a ServerHello.
        (
            "127.0.0.1:9002",
            "hello-hold",
            "\u{16}\u{3}\u{3}\\0z",
            "began",
        ),
    ] {
        services.push(Service::start(&stage.netns, &[address, mode, text])?);
        let mut fault = stalled(address);
        fault.expected = fault.expected.says(word);
        faults.push(fault);
    }
    // Nobody accepts it; it is said that the handshake was what waited.
    services.push(Service::start(
        &stage.netns,
        &["127.0.0.1:9003", "never-accept"],
    )?);
    let mut never = stalled("127.0.0.1:9003");
    never.expected.cause = "backend-not-accepting";
    never.expected = never.expected.says("ended the TLS handshake");
    faults.push(never);
    stage.check(faults).map(drop)
}

/// The handshake was complete and the request sent: TLS is not at fault.
#[test]
fn silent_after_the_handshake() -> Result<()> {
    let stage = Stage::new()?;
    let certificate = Certificate::new(HOST)?;
    let mut faults = Vec::new();
    let mut servers = Vec::new();
    for (port, options) in [(9001, "-tls1_3"), (9002, "-tls1_2")] {
        servers.push(Tls::silent(&stage.netns, port, &certificate, options)?);
        let logged = "upstream timed out (110: Connection timed out) while reading response header";
        let upstream = format!("127.0.0.1:{port}");
        let expected = Expected::connected("backend-slow", &upstream, logged)
            .status(504)
            .or_errno(Some("ETIMEDOUT"));
        let protocols = "proxy_ssl_protocols TLSv1.2 TLSv1.3;";
        faults.push(https(
            expected,
            &format!("proxy_read_timeout 400ms; {protocols}"),
        ));
    }
    // s_server serves one connection at a time.
    let load = Load {
        concurrency: 1,
        ..Load::default()
    };
    stage.check_with(faults, load).map(drop)
}

#[test]
fn the_backend_refuses_the_name_or_wants_a_certificate() -> Result<()> {
    let stage = Stage::new()?;
    let certificate = Certificate::new(HOST)?;
    let (key, file) = (certificate.key(), certificate.file());
    let sni = format!(
        "-servername {HOST} -servername_fatal -key2 {} -cert2 {}",
        key.display(),
        file.display()
    );
    let _name = Tls::start(&stage.netns, 9001, &certificate, &sni)?;
    let _mutual = Tls::start(&stage.netns, 9002, &certificate, "-Verify 1 -tls1_2")?;
    let _newer = Tls::start(&stage.netns, 9003, &certificate, "-Verify 1 -tls1_3")?;
    let refused = |port: u16, logged: &str| failed(&format!("127.0.0.1:{port}"), logged);
    stage
        .check(vec![
            https(
                refused(9001, "SSL_do_handshake() failed").says("unrecognized name"),
                "proxy_ssl_server_name on; proxy_ssl_name other.test;",
            ),
            https(
                refused(9002, "SSL_do_handshake() failed").says("proxy_ssl"),
                "",
            ),
            // In TLS 1.3 the backend's no comes after nginx has its handshake over.
            https(
                refused(9003, "SSL_read() failed").says("certificate required"),
                "proxy_ssl_protocols TLSv1.3;",
            ),
        ])
        .map(drop)
}

/// nginx logs nothing: what the backend's first bytes say is all there is.
#[test]
fn without_a_log_the_alert_has_its_name() -> Result<()> {
    let mut stage = Stage::new()?;
    stage.config.error_log = Some("stderr emerg".to_owned());
    let certificate = Certificate::new(HOST)?;
    let _new = Tls::start(&stage.netns, 9001, &certificate, "-tls1_3")?;
    let _strict = Tls::start(
        &stage.netns,
        9002,
        &certificate,
        "-no_tls1_3 -cipher AES128-SHA256",
    )?;
    let alert = |port: u16| failed(&format!("127.0.0.1:{port}"), "").unlogged();
    stage
        .check(vec![
            https(
                alert(9001).says("protocol version (70)"),
                "proxy_ssl_protocols TLSv1.2;",
            ),
            https(
                alert(9002).says("handshake failure (40)"),
                "proxy_ssl_ciphers AES256-GCM-SHA384; proxy_ssl_protocols TLSv1.2;",
            ),
        ])
        .map(drop)
}

#[test]
fn a_handshake_that_succeeds_is_left_alone() -> Result<()> {
    let mut stage = Stage::new()?;
    let certificate = Certificate::new(HOST)?;
    let _server = Tls::start(&stage.netns, 9001, &certificate, "")?;
    stage.healthy = format!(
        "proxy_pass https://127.0.0.1:9001; proxy_ssl_verify on; proxy_ssl_name {HOST}; \
         proxy_ssl_trusted_certificate {};",
        certificate.file().display()
    );
    let closed = Expected::new("no-listener", "127.0.0.1:9009", "ECONNREFUSED");
    stage.check(vec![https(closed, "")]).map(drop)
}
