//! What clients got: a whole answer is no failure, whatever became of its connection; a part of one
//! is; and nginx's own storage, configuration, subrequests and error pages fail by themselves. With
//! real backends.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::client::{HOST, dial};
use tests::expected::Expected;
use tests::folder::Folder;
use tests::netns::Netns;
use tests::programs;
use tests::site::Site;
use tests::stage::{Fault, HEALTHY, Load, Stage};
use tests::tracer::{Ended, Tracer};
use tests::upstream::{Listen, Upstream};

const CLOSED: &str = "127.0.0.1:9001";
const NODE: &str = "127.0.0.1:9100";
const UWSGI: &str = "127.0.0.1:9101";

/// node, which refuses uploads early, answers subrequests, sends slices and speaks websocket.
const APP: &str = r"
const http = require('http');
const body = 'z'.repeat(3000000);
http.createServer((q, r) => {
  const early = /early-(\d+)/.exec(q.url);
  if (early) {
    r.writeHead(+early[1], { 'Connection': 'close', 'Content-Length': 9 });
    r.end('too large');
    return setImmediate(() => q.socket.destroy());
  }
  const status = /auth-(\d+)/.exec(q.url);
  if (status) { r.writeHead(+status[1], { 'Location': '/login' }); return r.end(); }
  if (q.url.includes('hang')) return;
  if (q.url.includes('chunks')) {
    q.socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000\r\n' + 'x'.repeat(65536) + '\r\n');
    return setTimeout(() => q.socket.end('PHP Warning: something\r\n2\r\nok\r\n0\r\n\r\n'), 50);
  }
  const range = /bytes=(\d+)-(\d+)/.exec(q.headers.range || '');
  if (range) {
    const from = +range[1], to = Math.min(+range[2], body.length - 1);
    if (q.url.includes('broken') && from > 1000000) return q.socket.end();
    r.writeHead(206, { 'Content-Range': `bytes ${from}-${to}/${body.length}`, 'ETag': '1', 'Content-Length': to - from + 1 });
    return r.end(body.slice(from, to + 1));
  }
  q.resume();
  q.on('end', () => { r.writeHead(200, { 'Content-Length': 2 }); r.end('ok'); });
}).on('upgrade', (q, s) => {
  s.on('error', () => {});
  s.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello');
  setTimeout(() => q.url.includes('reset') ? s.resetAndDestroy() : s.end(), 100);
}).listen(9100, '127.0.0.1');
// Says something to each that says something, then resets or closes.
const session = (end) => (s) => {
  s.on('error', () => {});
  s.once('data', () => { s.write('hello'); setTimeout(() => end(s), 100); });
};
const net = require('net');
net.createServer(session((s) => s.resetAndDestroy())).listen(9102, '127.0.0.1');
net.createServer(session((s) => s.end())).listen(9103, '127.0.0.1');
";

/// uWSGI's application answers without reading what was posted.
const WSGI: &str = "
def application(env, start):
    body = b'x' * 20000
    start('200 OK', [('Content-Length', str(len(body)))])
    return [body]
";

fn listens(address: &str) -> Listen {
    Listen::Tcp(address.to_owned())
}

fn node(netns: &Netns) -> Result<Upstream> {
    let words = ["node", "{}/app.js"];
    Upstream::start(netns, &words, &[("app.js", APP)], &listens(NODE))
}

fn uwsgi(netns: &Netns) -> Result<Upstream> {
    let words = [
        "uwsgi-core",
        "--plugins",
        "http,python311",
        "--http-socket",
        UWSGI,
        "--wsgi-file",
        "{}/app.py",
        "--master",
        "--processes",
        "2",
        "--die-on-term",
    ];
    Upstream::start(netns, &words, &[("app.py", WSGI)], &listens(UWSGI))
}

/// What a client got: the status, 0 for none, and the bytes of the body.
fn got(address: &str, request: &[u8]) -> Result<(u16, usize)> {
    let mut stream: TcpStream = dial(address)?;
    // nginx may answer and close before all was sent.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n");
    let Some(end) = end else {
        return Ok((0, 0));
    };
    Ok((tests::client::status(&answer)?, answer.len() - end - 4))
}

fn request(method: &str, path: &str, body: usize, headers: &str) -> Vec<u8> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{headers}Content-Length: {body}\r\n\r\n"
    );
    [head.into_bytes(), vec![b'x'; body]].concat()
}

/// Asks each path so often in turn, POSTs with so many bytes of body; what its client got.
fn ask(site: &Site, paths: &[(&str, usize)], times: usize) -> Result<Vec<(String, u16, usize)>> {
    let mut all = Vec::new();
    for number in 0..times {
        for (path, body) in paths {
            let path = format!("{path}/{number}");
            let method = if *body > 0 { "POST" } else { "GET" };
            let (status, bytes) = site
                .netns
                .enter(|| got("127.0.0.1:80", &request(method, &path, *body, "")))?;
            all.push((path, status, bytes));
        }
    }
    Ok(all)
}

/// The verdicts on these paths.
fn on<'a>(ended: &'a Ended, path: &'a str) -> Vec<&'a Value> {
    let of = |verdict: &&Value| {
        let line = verdict["request"]["line"].as_str().unwrap_or_default();
        line.split(' ').nth(1) == Some(path)
    };
    ended.verdicts.iter().filter(of).collect()
}

/// Every 502 has a verdict of these causes that says this; every other answer, which is whole, has
/// none.
fn whole_or_told(
    ended: &Ended,
    all: &[(String, u16, usize)],
    causes: &[&str],
    says: &str,
) -> Result<()> {
    for (path, status, _) in all {
        let found = on(ended, path);
        let is_right = |verdict: &&&Value| {
            let cause = verdict["cause"].as_str().unwrap_or_default();
            causes.contains(&cause)
                && verdict["confidence"] == "proven"
                && verdict["summary"]
                    .as_str()
                    .is_some_and(|said| said.contains(says))
        };
        let right = found.iter().filter(is_right).count();
        let wanted = usize::from(*status == 502);
        ensure!(
            (found.len(), right) == (wanted, wanted),
            "{path} got {status} and has {found:?}"
        );
    }
    ensure!(ended.status.code() == Some(0), "{}", ended.stderr);
    Ok(())
}

#[test]
fn a_whole_answer_before_a_reset_is_no_failure() -> Result<()> {
    let mut stage = Stage::new()?;
    let _uwsgi = uwsgi(&stage.netns)?;
    stage.config.server = format!(
        "client_max_body_size 100m;\n\
         location /post {{ proxy_pass http://{UWSGI}; }}\n\
         location /unbuffered {{ proxy_pass http://{UWSGI}; proxy_buffering off; proxy_request_buffering off; \
         proxy_http_version 1.1; }}\n"
    );
    let site = stage.start(Vec::new())?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let paths = [
        ("/post", 100_000),
        ("/unbuffered", 100_000),
        ("/post/large", 8_000_000),
        ("/post/none", 0),
    ];
    let all = ask(&site, &paths, 6)?;
    let failed = all.iter().filter(|(_, status, _)| *status == 502).count();
    tracer.verdict_lines(failed)?;
    let ended = tracer.stop(libc::SIGINT)?;
    // A RST that overtakes nginx's reading takes the rest with it.
    let (whole, cut): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|(_, status, bytes)| *status == 502 || *bytes == 20_000);
    ensure!(cut.len() < whole.len(), "{cut:?}");
    for (path, _, bytes) in &cut {
        let said = on(&ended, path);
        ensure!(
            matches!(&said[..], [one] if one["cause"] == "response-truncated"),
            "{path} got {bytes} bytes and has {said:?}"
        );
    }
    whole_or_told(&ended, &whole, &["early-response", "backend-reset"], "")
}

#[test]
fn uploads_that_are_refused_early() -> Result<()> {
    let mut stage = Stage::new()?;
    let _node = node(&stage.netns)?;
    stage.config.server = format!(
        "client_max_body_size 100m;\n\
         location / {{ proxy_pass http://{NODE}; }}\n\
         location /unbuffered {{ proxy_pass http://{NODE}; proxy_request_buffering off; proxy_http_version 1.1; }}\n"
    );
    let site = stage.start(Vec::new())?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let paths = [
        ("/early-413", 12_000_000),
        ("/unbuffered/early-413", 12_000_000),
        ("/early-401", 12_000_000),
        ("/fine", 1000),
    ];
    let all = ask(&site, &paths, 8)?;
    let failed = all.iter().filter(|(_, status, _)| *status == 502).count();
    tracer.verdict_lines(failed)?;
    let ended = tracer.stop(libc::SIGINT)?;
    whole_or_told(&ended, &all, &["early-response"], "had answered")
}

#[test]
fn a_broken_chunked_body() -> Result<()> {
    let stage = Stage::new()?;
    let _node = node(&stage.netns)?;
    let logged = "upstream sent invalid chunked response";
    let broken = |directives: &str| {
        let expected = Expected::connected("response-rejected", NODE, logged)
            .status(200)
            .says("chunk")
            .says("cut short");
        let location =
            format!("proxy_pass http://{NODE}/chunks; proxy_http_version 1.1; {directives}");
        Fault::location(location, expected)
    };
    stage
        .check(vec![broken(""), broken("proxy_buffering off;")])
        .map(drop)
}

/// nginx's workers may not write there any more: the master gave the folder to them as it began.
fn forbid(folder: &Folder) -> Result<()> {
    std::os::unix::fs::chown(folder.path(), Some(0), Some(0))?;
    let mode = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(folder.path(), mode).context("the folder")
}

#[test]
fn a_request_body_that_nginx_cannot_store() -> Result<()> {
    let stage = Stage::new()?;
    let folder = Folder::new()?;
    let path = folder.path().display().to_string();
    let expected = Expected::untried("proxy-storage", "failed (13: Permission denied)")
        .status(500)
        .says(&path)
        .says("backend did nothing wrong");
    let fault = Fault::location(
        format!(
            "client_body_temp_path {path}; client_body_buffer_size 1k; proxy_pass http://{HEALTHY};"
        ),
        expected,
    );
    let site = stage.start(vec![fault.post(100_000)])?;
    forbid(&folder)?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let sent = site.send(Load::default())?;
    site.check(&sent, tracer).map(drop)
}

#[test]
fn a_response_that_nginx_cannot_store() -> Result<()> {
    let mut stage = Stage::new()?;
    let _uwsgi = uwsgi(&stage.netns)?;
    let folder = Folder::new()?;
    let path = folder.path().display().to_string();
    // A response larger than the buffers goes to the file at once where the client takes none of
    // it.
    stage.config.server = format!(
        "location /stored {{ proxy_pass http://{UWSGI}; proxy_buffers 2 1k; proxy_buffer_size 1k; \
         proxy_busy_buffers_size 1k; proxy_temp_path {path}; sendfile off; postpone_output 0; limit_rate 1k; }}\n\
         location /fine {{ proxy_pass http://{UWSGI}; }}\n"
    );
    let verdicts = cut_short(stage, ["/stored", "/fine"], 20_000, || forbid(&folder))?;
    for verdict in verdicts {
        ensure!(
            verdict["cause"] == "proxy-storage"
                && verdict["confidence"] == "proven"
                && verdict["summary"]
                    .as_str()
                    .is_some_and(|said| said.contains("EACCES"))
                && verdict.to_string().contains("chown nobody"),
            "{verdict}"
        );
    }
    Ok(())
}

/// Of two locations that answer 200 the first breaks off each time, and the second gives all of its
/// bytes. Checks what clients got, and returns the first one's verdicts, one a request. `before`
/// runs with the tracer there.
fn cut_short(
    stage: Stage,
    [broken, whole]: [&str; 2],
    length: usize,
    before: impl FnOnce() -> Result<()>,
) -> Result<Vec<Value>> {
    const TIMES: usize = 5;
    let site = stage.start(Vec::new())?;
    let tracer = Tracer::follow(site.nginx.master)?;
    before()?;
    let all = ask(&site, &[(broken, 0), (whole, 0)], TIMES)?;
    tracer.verdict_lines(TIMES)?;
    let ended = tracer.stop(libc::SIGINT)?;
    let mut verdicts = Vec::new();
    for (path, status, bytes) in &all {
        let found = on(&ended, path);
        if path.starts_with(whole) {
            ensure!(found.is_empty() && *bytes == length, "{path}: {found:?}");
            continue;
        }
        ensure!(
            *status == 200 && *bytes < length,
            "{path} got {status}, {bytes} bytes"
        );
        let [verdict] = found.as_slice() else {
            anyhow::bail!("{path} has {found:?}");
        };
        ensure!(
            verdict["masked"] == false && verdict["status"] == 200,
            "{verdict}"
        );
        verdicts.push((*verdict).clone());
    }
    ensure!(verdicts.len() == TIMES, "{} verdicts", verdicts.len());
    Ok(verdicts)
}

#[test]
fn what_the_configuration_answers() -> Result<()> {
    let mut stage = Stage::new()?;
    stage.config.server = "location = /sorry { return 200 sorry; }\n\
                           location @down { return 504 down; }\n\
                           location = /mirrored { internal; return 503; }\n"
        .into();
    let returned = |status: u16| {
        Expected::untried("returned-by-config", "")
            .unlogged()
            .status(status)
            .says("nginx.conf:")
            .says(format!("return {status}"))
    };
    let masked = Expected {
        masked: true,
        ..returned(502).status(200)
    };
    let by = |location: &str, expected: Expected| Fault::location(location, expected);
    let cycle = "rewrite or internal redirection cycle";
    stage
        .check(vec![
            by("return 502;", returned(502)),
            by("return 504;", returned(504)),
            by("error_page 502 =200 /sorry; return 502;", masked),
            by("return 503;", returned(503)),
            by("return 500;", returned(500)),
            by("return 507 full;", returned(507)),
            by("return 502 bad;", returned(502)),
            by("return 504 \"too slow\";", returned(504)),
            by("if ($uri ~ fail) { return 503 $uri; }", returned(503)),
            by("error_page 404 = @down; return 404;", returned(504)),
            Fault::proxy(refused().status(504), "error_page 502 = @down;"),
            by("return 404 none;", Expected::silence(404, &[])),
            by("try_files /none =503;", Expected::silence(503, &[])),
            by("rewrite ^ $uri last;", Expected::silence(500, &[cycle])),
            by(
                &format!("mirror /mirrored; proxy_pass http://{HEALTHY};"),
                Expected::silence(200, &[]),
            ),
        ])
        .map(drop)
}

#[test]
fn a_limit_is_no_return() -> Result<()> {
    let mut stage = Stage::new()?;
    stage.config.http = "limit_req_zone $server_port zone=all:1m rate=1r/m;\n".into();
    stage.config.server = "location = /maintenance { return 503; }\n".into();
    let limited = Expected::silence(503, &["limiting requests"]);
    let location = format!("limit_req zone=all; proxy_pass http://{HEALTHY};");
    let site = stage.start(vec![Fault::location(location, limited)])?;
    let first = Load {
        failing: 1,
        healthy: 1,
        concurrency: 1,
        ..Load::default()
    };
    site.send(first)?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let sent = site.send(Load::default())?;
    site.check(&sent, tracer).map(drop)
}

fn refused() -> Expected {
    Expected::new("no-listener", CLOSED, "ECONNREFUSED")
}

#[test]
fn an_error_page_that_is_not_there_hides_nothing() -> Result<()> {
    let fault = Fault::proxy(
        refused()
            .status(404)
            .then_logged("50x.html\" failed (2: No such file or directory)")
            .says("the error page for 502 failed too"),
        "error_page 502 /50x.html;",
    );
    Stage::new()?.check(vec![fault]).map(drop)
}

#[test]
fn a_subrequest_of_auth_request() -> Result<()> {
    let mut stage = Stage::new()?;
    let _node = node(&stage.netns)?;
    stage.config.server = format!(
        "location = /auth-down {{ internal; proxy_pass http://{CLOSED}; }}\n\
         location ~ ^/(auth-|hang) {{ internal; proxy_pass http://{NODE}; proxy_read_timeout 300ms; \
         proxy_pass_request_body off; proxy_set_header Content-Length \"\"; }}\n"
    );
    let logged = "auth request unexpected status: ";
    let fault = |path: &str, expected: Expected| {
        Fault::location(
            format!("auth_request /{path}; proxy_pass http://{HEALTHY};"),
            expected,
        )
    };
    let odd = |status: &str| {
        Expected::untried("response-rejected", &format!("{logged}{status}"))
            .status(500)
            .says(format!("answered {status}"))
    };
    let passed = Expected::connected("passed-through", NODE, &format!("{logged}502"))
        .status(500)
        .says("auth_request");
    let slow = Expected::timeout("backend-slow", NODE)
        .status(500)
        .then_logged(&format!("{logged}504"));
    let healthy = Expected::silence(200, &[]);
    let denied = Expected::silence(403, &[]);
    stage
        .check(vec![
            fault(
                "auth-down",
                refused().status(500).then_logged(&format!("{logged}502")),
            ),
            fault("auth-502", passed),
            fault("auth-302", odd("302")),
            fault("auth-503", odd("503")),
            fault("hang", slow),
            fault("auth-200", healthy),
            fault("auth-403", denied),
        ])
        .map(drop)
}

#[test]
fn a_slice_that_fails_after_the_first() -> Result<()> {
    let mut stage = Stage::new()?;
    let _node = node(&stage.netns)?;
    let slices = format!(
        "slice 500k; proxy_pass http://{NODE}; proxy_set_header Range $slice_range; proxy_http_version 1.1;"
    );
    stage.config.server =
        format!("location /broken {{ {slices} }}\nlocation /sliced {{ {slices} }}\n");
    for verdict in cut_short(stage, ["/broken", "/sliced"], 3_000_000, || Ok(()))? {
        ensure!(
            verdict["cause"] == "backend-closed-early"
                && verdict["summary"]
                    .as_str()
                    .is_some_and(|said| said.contains("cut short")),
            "{verdict}"
        );
    }
    Ok(())
}

#[test]
fn a_websocket_has_no_length() -> Result<()> {
    let mut stage = Stage::new()?;
    let _node = node(&stage.netns)?;
    stage.config.server = format!(
        "location / {{ proxy_pass http://{NODE}; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
         proxy_set_header Connection upgrade; }}\n"
    );
    let site = stage.start(Vec::new())?;
    let tracer = Tracer::follow(site.nginx.master)?;
    for number in 0..5 {
        for path in ["/reset", "/close"] {
            let text = format!(
                "GET {path}/{number} HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
            );
            let (status, _) = site.netns.enter(|| got("127.0.0.1:80", text.as_bytes()))?;
            ensure!(status == 101, "{path} got {status}");
        }
    }
    tracer.verdict_lines(5)?;
    let ended = tracer.stop(libc::SIGINT)?;
    for number in 0..5 {
        let reset = format!("/reset/{number}");
        let [verdict] = on(&ended, &reset)[..] else {
            anyhow::bail!("{reset}: {:?}", ended.verdicts);
        };
        let summary = verdict["summary"].as_str().context("a summary")?;
        ensure!(
            verdict["cause"] == "session-broken"
                && verdict["confidence"] == "proven"
                && summary.contains("node")
                && summary.contains("reset the websocket"),
            "{verdict}"
        );
        let closed = format!("/close/{number}");
        ensure!(on(&ended, &closed).is_empty(), "{:?}", on(&ended, &closed));
    }
    Ok(())
}

#[test]
fn an_upstream_without_servers_names_its_own_alone() -> Result<()> {
    let other = Expected::new("no-listener", "127.0.0.1:9003", "ECONNREFUSED");
    let stage = Stage::new()?;
    let dead = Fault::location("proxy_pass http://dead;", refused())
        .with(format!("upstream dead {{ server {CLOSED} max_fails=1 fail_timeout=60s; server 127.0.0.1:9002 down; }}\n"));
    let none = Expected::untried("no-live-upstreams", "no live upstreams")
        .says("every server of dead failed, after 127.0.0.1:9001 (no-listener)")
        .says("server 127.0.0.1:9002 has down");
    let mut stage = stage;
    stage.config.workers = 1;
    let site = stage.start(vec![
        dead,
        Fault::location("proxy_pass http://dead;", none),
        Fault::proxy(other, ""),
    ])?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let mut session = tests::session::Session::open(&site.netns)?;
    let mut answers = vec![("GET", session.answer("GET", "/fail2/first")?)];
    answers.push(("GET", session.answer("GET", "/fail0/first")?));
    for number in 0..5 {
        for path in [
            format!("/fail1/{number}"),
            format!("/fail2/{number}"),
            format!("/ok/{number}"),
        ] {
            answers.push(("GET", session.answer("GET", &path)?));
        }
    }
    let sent = site.sent(answers);
    for verdict in site.check(&sent, tracer)? {
        let is_none = verdict["cause"] == "no-live-upstreams";
        let upstream = verdict["upstream"].as_str();
        let is_other = upstream.is_some_and(|upstream| upstream.ends_with(":9003"));
        ensure!(
            (verdict["upstream_name"] == "dead") != is_other,
            "{verdict}"
        );
        ensure!(
            !is_none || !verdict.to_string().contains("9003"),
            "{verdict}"
        );
    }
    Ok(())
}

#[test]
fn a_stream_without_live_servers() -> Result<()> {
    let module = programs::root().join("usr/lib/nginx/modules/ngx_stream_module.so");
    if !module.is_file() {
        println!(
            "SKIPPED: a_stream_without_live_servers: no stream module at {}",
            module.display()
        );
        return Ok(());
    }
    let mut stage = Stage::new()?;
    stage.config.main = format!(
        "load_module {};\nstream {{ upstream dead {{ server {CLOSED} down; }} server {{ listen 127.0.0.1:7001; \
         proxy_pass dead; }} }}\n",
        module.display()
    );
    let site = stage.start(Vec::new())?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let port: SocketAddr = "127.0.0.1:7001".parse()?;
    for _ in 0..5 {
        ensure!(
            !site.netns.enter(|| tests::client::answered(port.port()))?,
            "it answered"
        );
    }
    let waited = tracer.verdict_lines(5);
    let ended = tracer.stop(libc::SIGINT)?;
    waited.with_context(|| ended.stderr.clone())?;
    ensure!(ended.verdicts.len() == 5, "{:?}", ended.verdicts);
    for verdict in &ended.verdicts {
        ensure!(
            verdict["cause"] == "no-live-upstreams"
                && verdict["confidence"] == "proven"
                && verdict["status"].is_null()
                && verdict["upstream_name"] == "dead"
                && verdict["summary"]
                    .as_str()
                    .is_some_and(|said| said.contains("every server of dead")),
            "{verdict}"
        );
    }
    Ok(())
}

#[test]
fn a_stream_session_has_no_length() -> Result<()> {
    let module = programs::root().join("usr/lib/nginx/modules/ngx_stream_module.so");
    if !module.is_file() {
        println!(
            "SKIPPED: a_stream_session_has_no_length: no stream module at {}",
            module.display()
        );
        return Ok(());
    }
    let mut stage = Stage::new()?;
    let node = node(&stage.netns)?;
    stage.config.main = format!(
        "load_module {};\nstream {{ server {{ listen 127.0.0.1:7002; proxy_pass 127.0.0.1:9102; }} \
         server {{ listen 127.0.0.1:7003; proxy_pass 127.0.0.1:9103; }} }}\n",
        module.display()
    );
    let site = stage.start(Vec::new())?;
    let tracer = Tracer::follow(site.nginx.master)?;
    for _ in 0..5 {
        for port in [7002, 7003] {
            ensure!(site.netns.enter(|| tests::client::answered(port)).is_ok());
        }
    }
    let log = std::fs::read_to_string(site.nginx.folder().join("error.log"))?;
    let logged = log.matches("(104: Connection reset by peer)").count();
    let waited = tracer.verdict_lines(logged);
    let ended = tracer.stop(libc::SIGINT)?;
    waited.with_context(|| ended.stderr.clone())?;
    ensure!(
        ended.verdicts.len() == logged,
        "{logged} logged: {:?}",
        ended.verdicts
    );
    for verdict in &ended.verdicts {
        let summary = verdict["summary"].as_str().context("a summary")?;
        ensure!(
            verdict["cause"] == "session-broken"
                && verdict["confidence"] == "proven"
                && verdict["upstream"] == site.netns.reaches("127.0.0.1:9102")
                && summary.contains("node")
                && summary.contains("reset the stream session"),
            "{verdict}"
        );
    }
    drop(node);
    Ok(())
}
