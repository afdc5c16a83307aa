//! Real backends over TLS and HTTP/2: node, gunicorn, php-fpm and uWSGI, as they close, refuse and
//! misunderstand.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tests::certificate::Certificate;
use tests::client::{Answer, HOST};
use tests::expected::Expected;
use tests::netns::{Netns, in_table};
use tests::process;
use tests::programs;
use tests::session::Session;
use tests::site::{Sent, Site};
use tests::stage::{Fault, Load, Stage};
use tests::tracer::Tracer;
use tests::upstream::{Listen, Upstream};
use tests::wait::{PATIENCE, until};

const BACKEND: &str = "127.0.0.1:9001";
const AT_ONCE: usize = 5;
const PREMATURELY: &str = "upstream prematurely closed connection while reading response header";

/// An https server that ends its connections at SIGUSR2: close_notify, then FIN.
const NODE: &str = r"
const fs = require('fs'), https = require('https'), sockets = new Set();
const options = { key: fs.readFileSync('key.pem'), cert: fs.readFileSync('certificate.pem'),
  keepAliveTimeout: 60000, ...JSON.parse(process.argv[2]) };
const server = https.createServer(options, (request, response) => {
  request.resume();
  request.on('end', () => response.end('ok'));
});
server.on('secureConnection', socket => sockets.add(socket));
server.on('tlsClientError', () => {});
process.on('SIGUSR2', () => sockets.forEach(socket => socket.end()));
server.listen(9001, '127.0.0.1');
";

/// An HTTP/2 server without TLS. Of each connection it serves one request; it answers the next with
/// GOAWAY. Or its bodies are shorter or longer than it says.
const NODE_HTTP2: &str = r"
const [, , word, port] = process.argv, lengths = { shorter: 9, longer: 4 };
const server = require('http2').createServer();
server.on('stream', stream => {
  stream.on('error', () => {});
  if (word in lengths) {
    stream.respond({ ':status': 200, 'content-length': lengths[word] });
    stream.write('ok');
    return setTimeout(() => stream.end('end'), 100);
  }
  if (stream.id > 1) return stream.session.goaway(+word, 1);
  stream.respond({ ':status': 200, 'content-length': 2 });
  stream.end('ok');
});
server.on('sessionError', () => {});
server.listen(+port, '127.0.0.1');
";

/// Serves the first request of each connection and ends that 100 ms after the second came, which it
/// does not read.
const BUSY: &str = r"
import select, socket, ssl, sys, threading, time
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('certificate.pem', 'key.pem')
listener = socket.create_server(('127.0.0.1', 9001))
def serve(connection):
    try:
        if sys.argv[1] == 'https':
            connection = context.wrap_socket(connection, server_side=True)
        got = b''
        while b'\r\n\r\n' not in got:
            more = connection.recv(65536)
            if not more:
                return
            got += more
        connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
        select.select([connection], [], [], 10)
        time.sleep(0.1)
        connection.close()
    except OSError:
        pass
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
";

const WSGI: &str = r"
def app(environ, start):
    start('200 OK', [('Content-Length', '2')])
    return [b'ok']
";

fn backend(netns: &Netns, words: &[&str], files: &[(&str, &str)]) -> Result<Upstream> {
    Upstream::start(netns, words, files, &Listen::Tcp(BACKEND.to_owned()))
}

/// Starts a program with a certificate of its own next to these files.
fn with_certificate(netns: &Netns, words: &[&str], files: &[(&str, &str)]) -> Result<Upstream> {
    let certificate = Certificate::new(HOST)?;
    let (key, file) = (
        std::fs::read_to_string(certificate.key())?,
        std::fs::read_to_string(certificate.file())?,
    );
    let mut files = files.to_vec();
    files.extend([
        ("key.pem", key.as_str()),
        ("certificate.pem", file.as_str()),
    ]);
    backend(netns, words, &files)
}

/// A location and a group of its own for each request, so that as many connections are kept.
fn kept(pass: &str, expected: &Expected) -> Vec<Fault> {
    let fault = |index| {
        Fault::location(format!("{pass}kept{index};"), expected.clone()).with(format!(
            "upstream kept{index} {{ server {BACKEND}; keepalive 8; }}\n"
        ))
    };
    (0..AT_ONCE).map(fault).collect()
}

/// nginx's connections to the backend that this has ended.
fn ended(netns: &Netns) -> Result<usize> {
    let table = netns.tcp_table()?;
    let closed = format!(" {} 08 ", in_table(&netns.reaches(BACKEND))?);
    Ok(table.lines().filter(|line| line.contains(&closed)).count())
}

/// A stopped worker finds the requests of clients and the end of the connections it would use at
/// once, as a busy one does.
fn race(site: &Site, method: &'static str, end: impl FnOnce()) -> Result<Sent> {
    let mut sessions = warm(site)?;
    // One more turn of its loop: the connections are in the cache.
    let status = Session::open(&site.netns)?.ask("GET", "/ok/turn")?.status;
    ensure!(status == 200, "a healthy request got {status}");
    let worker = *site.nginx.worker_pids().first().context("no worker")?;
    process::signal(worker, libc::SIGSTOP);
    until("a stopped worker", PATIENCE, || {
        let stat = std::fs::read_to_string(format!("/proc/{worker}/stat"))?;
        Ok(stat.contains(") T ").then_some(()))
    })?;
    let asked = Instant::now();
    let raced = (0..AT_ONCE)
        .try_for_each(|index| sessions[index].say(method, &format!("/fail{index}/race")))
        .and_then(|()| {
            end();
            until("connections that the backend ended", PATIENCE, || {
                Ok((ended(&site.netns)? == AT_ONCE).then_some(()))
            })
        });
    process::signal(worker, libc::SIGCONT);
    raced?;
    let mut answers = Vec::new();
    for (index, session) in sessions.iter_mut().enumerate() {
        let (path, status) = (format!("/fail{index}/race"), session.hear()?.status);
        answers.push((
            method,
            Answer {
                path,
                status,
                asked,
            },
        ));
    }
    Ok(site.sent(answers))
}

/// Opens a kept connection for each group.
fn warm(site: &Site) -> Result<Vec<Session>> {
    (0..AT_ONCE)
        .map(|index| {
            let mut session = Session::open(&site.netns)?;
            let status = session.ask("POST", &format!("/fail{index}/warm"))?.status;
            ensure!(status == 200, "the first request got {status}");
            Ok(session)
        })
        .collect()
}

fn races(
    method: &'static str,
    protocols: &str,
    start: impl FnOnce(&Netns) -> Result<Upstream>,
    end: impl FnOnce(&Upstream),
) -> Result<()> {
    let mut stage = Stage::new()?;
    stage.config.workers = 1;
    let upstream = start(&stage.netns)?;
    let expected = Expected::connected(
        "keepalive-race",
        BACKEND,
        &format!("{PREMATURELY} | (104: | (32: "),
    )
    .or_errno(Some("EPIPE"))
    .or_errno(Some("ECONNRESET"))
    .reused()
    .says("as the backend was closing it");
    let expected = if method == "GET" {
        expected.masked_by(BACKEND)
    } else {
        expected
    };
    let pass = format!(
        "proxy_http_version 1.1; proxy_set_header Connection ''; proxy_ssl_protocols {protocols}; proxy_pass https://"
    );
    let site = stage.start(kept(&pass, &expected))?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let healthy = Load {
        failing: 0,
        ..Load::default()
    };
    let mut sent = site.send(healthy)?;
    sent.extend(race(&site, method, || end(&upstream))?);
    site.check(&sent, tracer).map(drop)
}

fn node_https(netns: &Netns) -> Result<Upstream> {
    with_certificate(netns, &["node", "app.js", "null"], &[("app.js", NODE)])
}

#[test]
fn a_post_meets_a_close_notify_of_tls_1_3() -> Result<()> {
    races("POST", "TLSv1.3", node_https, |node| {
        node.signal(libc::SIGUSR2)
    })
}

#[test]
fn a_post_meets_a_close_notify_of_tls_1_2() -> Result<()> {
    races("POST", "TLSv1.2", node_https, |node| {
        node.signal(libc::SIGUSR2)
    })
}

#[test]
fn a_get_meets_a_close_notify_and_is_retried() -> Result<()> {
    races("GET", "TLSv1.3", node_https, |node| {
        node.signal(libc::SIGUSR2)
    })
}

/// gunicorn's idle timer closes without a close_notify.
#[test]
fn a_post_meets_the_fin_of_an_idle_timer() -> Result<()> {
    let gunicorn = |netns: &Netns| {
        let words = "gunicorn -b 127.0.0.1:9001 --certfile certificate.pem --keyfile key.pem -k gthread \
                     --threads 8 --keep-alive 1 app:app";
        let words: Vec<_> = words.split_whitespace().collect();
        with_certificate(netns, &words, &[("app.py", WSGI)])
    };
    races("POST", "TLSv1.3", gunicorn, |_| {})
}

/// In TLS 1.3 the backend refuses after nginx's handshake is complete: what nginx meets is a race.
#[test]
fn a_refusal_that_races_with_the_request() -> Result<()> {
    let stage = Stage::new()?;
    let options = r#"{"requestCert":true,"rejectUnauthorized":true}"#;
    let _node = with_certificate(
        &stage.netns,
        &["node", "app.js", options],
        &[("app.js", NODE)],
    )?;
    let logged =
        "SSL_read() failed | SSL_write() failed | connect() failed (104: | (104: Connection reset";
    let refused = || {
        Expected::connected("tls-handshake-failed", BACKEND, logged)
            .or_errno(Some("ECONNRESET"))
            .or_errno(Some("EPIPE"))
            .at_best_proven()
            .says("proxy_ssl_certificate")
    };
    let pass = format!("proxy_pass https://{BACKEND}; proxy_ssl_protocols TLSv1.3;");
    let unbuffered = format!("{pass} proxy_request_buffering off;");
    let faults = vec![
        Fault::location(pass, refused()),
        Fault::location(unbuffered, refused()).post(500_000),
    ];
    let burst = Load {
        failing: 20,
        concurrency: 10,
        ..Load::default()
    };
    stage.check_with(faults, burst).map(drop)
}

/// However late the backend closes: it had not read the request.
#[test]
fn a_request_that_a_busy_backend_left_unread() -> Result<()> {
    for scheme in ["http", "https"] {
        let stage = Stage::new()?;
        let _busy = with_certificate(
            &stage.netns,
            &["python3", "app.py", scheme],
            &[("app.py", BUSY)],
        )?;
        // Over TLS nginx takes a RST for an end.
        let logged = format!("{PREMATURELY} | (104: | (32: ");
        let expected = Expected::connected("keepalive-race", BACKEND, &logged)
            .or_errno(Some("ECONNRESET"))
            .or_errno(Some("EPIPE"))
            .reused()
            .says("had not read a byte of the request");
        let pass = format!(
            "proxy_http_version 1.1; proxy_set_header Connection ''; proxy_ssl_protocols TLSv1.3; proxy_pass {scheme}://"
        );
        second_requests(stage, &kept(&pass, &expected))?;
    }
    Ok(())
}

/// GOAWAY without an error crosses the second request of each connection.
#[test]
fn a_goaway_crosses_a_request() -> Result<()> {
    goaways("0", |expected| {
        Expected {
            cause: "keepalive-race",
            ..expected
        }
        .says("NO_ERROR")
        .says("max_connection_age")
    })
}

#[test]
fn a_goaway_with_an_error_is_no_race() -> Result<()> {
    goaways("11", |expected| {
        expected.says("error 11 (ENHANCE_YOUR_CALM)")
    })
}

fn goaways(code: &str, expected: impl FnOnce(Expected) -> Expected) -> Result<()> {
    let logged = format!("upstream sent goaway with error {code}");
    let expected = expected(Expected::connected("response-rejected", BACKEND, &logged).reused());
    for (stage, pass) in over_http2("goaways")? {
        let _node = backend(
            &stage.netns,
            &["node", "app.js", code, "9001"],
            &[("app.js", NODE_HTTP2)],
        )?;
        second_requests(stage, &kept(pass, &expected))?;
    }
    Ok(())
}

/// The ways in which nginx speaks HTTP/2 to upstreams: `proxy_pass` since 1.29.4, which Debian's
/// sid has.
fn over_http2(test: &str) -> Result<Vec<(Stage, &'static str)>> {
    let mut ways = vec![(Stage::new()?, "grpc_pass grpc://")];
    match programs::suite("sid") {
        Some(tree) => {
            let mut stage = Stage::new()?;
            stage.config.tree = Some(tree);
            ways.push((stage, "proxy_http_version 2; proxy_pass http://"));
        }
        None => println!("LESSER: {test}: Debian sid's nginx is not unpacked under target/nginx"),
    }
    Ok(ways)
}

/// The second request of each kept connection fails.
fn second_requests(stage: Stage, faults: &[Fault]) -> Result<()> {
    let site = stage.start(faults.to_vec())?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let mut sent = site.send(Load {
        failing: 0,
        ..Load::default()
    })?;
    let mut answers = Vec::new();
    for (index, mut session) in warm(&site)?.into_iter().enumerate() {
        let answer = session.answer("POST", &format!("/fail{index}/again"))?;
        answers.push(("POST", answer));
    }
    sent.extend(site.sent(answers));
    site.check(&sent, tracer).map(drop)
}

#[test]
fn http2_bodies_of_another_length_than_announced() -> Result<()> {
    for (stage, pass) in over_http2("http2_bodies_of_another_length_than_announced")? {
        let mut backends = Vec::new();
        let mut faults = Vec::new();
        for (word, port, logged, says) in [
            (
                "shorter",
                "9001",
                "upstream prematurely closed stream",
                "ended its stream too early",
            ),
            (
                "longer",
                "9002",
                "upstream sent response body larger than indicated content length",
                "sent more than its content-length",
            ),
        ] {
            let address = format!("127.0.0.1:{port}");
            backends.push(Upstream::start(
                &stage.netns,
                &["node", "app.js", word, port],
                &[("app.js", NODE_HTTP2)],
                &Listen::Tcp(address.clone()),
            )?);
            let expected = Expected::connected("response-truncated", &address, logged)
                .status(200)
                .says(says);
            faults.push(Fault::location(format!("{pass}{address};"), expected));
        }
        stage.check(faults)?;
    }
    Ok(())
}

/// nginx takes an answer in HTTP/2 for one in HTTP/0.9, and the client gets nothing that it can
/// use.
#[test]
fn http_1_to_a_port_of_http2() -> Result<()> {
    let stage = Stage::new()?;
    let _node = backend(
        &stage.netns,
        &["node", "app.js", "0", "9001"],
        &[("app.js", NODE_HTTP2)],
    )?;
    let upstream = BACKEND.to_owned();
    let site = stage.start(vec![Fault::location(
        format!("proxy_pass http://{upstream}; proxy_read_timeout 300ms;"),
        Expected::silence(200, &[]),
    )])?;
    let tracer = Tracer::follow(site.nginx.master)?;
    for _ in 0..AT_ONCE {
        site.netns.enter(|| {
            let mut client = TcpStream::connect("127.0.0.1:80")?;
            write!(
                client,
                "GET /fail0/x HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
            )?;
            let mut got = Vec::new();
            // What comes is no HTTP/1, and nginx may reset the connection after it.
            let _ = client.read_to_end(&mut got);
            ensure!(!got.starts_with(b"HTTP/1"), "{got:?}");
            Ok(())
        })?;
    }
    let waited = tracer.verdict_lines(AT_ONCE);
    let ended = tracer.stop(libc::SIGINT)?;
    waited?;
    ensure!(ended.verdicts.len() == AT_ONCE, "{:?}", ended.verdicts);
    for verdict in &ended.verdicts {
        let summary = verdict["summary"].as_str().unwrap_or_default();
        let is_right = verdict["cause"] == "response-rejected"
            && verdict["confidence"] == "proven"
            && summary.contains("answered in HTTP/2 to nginx's HTTP/1 request");
        ensure!(is_right, "{verdict}");
    }
    Ok(())
}

/// Programs that speak another protocol than the directive: the advice names the right one.
#[test]
fn another_protocol_than_the_directive() -> Result<()> {
    let stage = Stage::new()?;
    let pool = "[global]\ndaemonize = no\nerror_log = /dev/stderr\n[www]\nuser = 65534\ngroup = 65534\n\
                listen = 127.0.0.1:9001\npm = static\npm.max_children = 2\n";
    let _fpm = backend(
        &stage.netns,
        &["php-fpm8.2", "-n", "-F", "-y", "{}/pool.conf"],
        &[("pool.conf", pool)],
    )?;
    let reset = |says: &str| {
        let mut reset = Expected::reset("backend-reset", BACKEND).says(says);
        reset.or_cause = vec!["backend-closed-early"];
        reset
    };
    let says = "use fastcgi_pass for 127.0.0.1:9001: php-fpm speaks FastCGI";
    stage
        .check(vec![
            Fault::location(format!("proxy_pass http://{BACKEND};"), reset(says)),
            Fault::location(format!("uwsgi_pass {BACKEND};"), reset(says)),
            Fault::location(format!("grpc_pass grpc://{BACKEND};"), reset(says)),
        ])
        .map(drop)
}
