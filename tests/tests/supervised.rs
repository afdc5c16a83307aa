//! Real backends whose worker or whole service is ended while it serves a request: by a time limit
//! of its master's, by a reload, by who stops it.

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use tests::expected::Expected;
use tests::folder::Folder;
use tests::netns::Netns;
use tests::process;
use tests::site::Sent;
use tests::stage::{Fault, Load, Stage};
use tests::tracer::Tracer;
use tests::upstream::{Listen, Upstream};
use tests::wait::{PATIENCE, until};

const TCP: &str = "127.0.0.1:9001";
const CLOSED: &str = "upstream prematurely closed connection while reading response header";

/// A WSGI application that says when it serves, and answers too late.
const SLEEPS: &str = "\
import sys, time
def app(environ, start):
    print('serving', file=sys.stderr, flush=True)
    time.sleep(30)
    start('200 OK', [('Content-Length', '2')])
    return [b'ok']
application = app
";

fn died(upstream: &str) -> Expected {
    let logged = format!("{CLOSED} | (104: Connection reset by peer)");
    Expected::connected("backend-died", upstream, &logged).or_errno(Some("ECONNRESET"))
}

/// The directive that passes to an upstream by a protocol of nginx's: `proxy`, `uwsgi`, `fastcgi`.
fn passed(protocol: &str, expected: Expected) -> Fault {
    let upstream = expected.upstream.clone().unwrap_or_default();
    let directives = match protocol {
        "uwsgi" => {
            "uwsgi_param REQUEST_METHOD GET; uwsgi_param PATH_INFO /; uwsgi_param QUERY_STRING \"\"; \
             uwsgi_param SERVER_NAME x; uwsgi_param SERVER_PORT 80; uwsgi_param SERVER_PROTOCOL HTTP/1.1;"
        }
        "fastcgi" => {
            "fastcgi_param SCRIPT_FILENAME $document_root/x.php; fastcgi_param REQUEST_METHOD GET;"
        }
        _ => "",
    };
    let to = match (protocol, upstream.starts_with("unix:")) {
        ("proxy", true) => format!("http://{upstream}:"),
        ("proxy", false) => format!("http://{upstream}"),
        _ => upstream,
    };
    Fault::location(format!("{protocol}_pass {to}; {directives}"), expected)
}

/// A socket's name in a folder where every user may connect.
fn socket(folder: &Folder) -> (String, Listen) {
    let path = folder.join("app.sock");
    (format!("unix:{}", path.display()), Listen::Unix(path))
}

fn listen(upstream: &str) -> Listen {
    Listen::Tcp(upstream.to_owned())
}

fn gunicorn(bind: &str, options: &[&str]) -> Vec<String> {
    let words = ["gunicorn", "-b", bind, "--umask", "0", "-w", "2"];
    let words = words.iter().chain(options).chain(&["app:app"]);
    words.map(|&word| word.to_owned()).collect()
}

fn start(netns: &Netns, words: &[String], at: &Listen) -> Result<Upstream> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Upstream::start(netns, &words, &[("app.py", SLEEPS)], at)
}

#[test]
fn gunicorn_ends_a_worker_that_exceeds_its_timeout() -> Result<()> {
    let stage = Stage::new()?;
    let words = gunicorn(TCP, &["--timeout", "2"]);
    let _gunicorn = start(&stage.netns, &words, &listen(TCP))?;
    let expected = died(TCP)
        .says("--timeout")
        .says("SIGABRT")
        .says("WORKER TIMEOUT");
    stage.check(vec![passed("proxy", expected)]).map(drop)
}

#[test]
fn gunicorn_behind_a_unix_socket_does() -> Result<()> {
    let (stage, folder) = (Stage::new()?, Folder::new()?);
    let (upstream, at) = socket(&folder);
    let words = gunicorn(&upstream, &["--timeout", "2"]);
    let _gunicorn = start(&stage.netns, &words, &at)?;
    let expected = died(&upstream).says("--timeout").says("SIGABRT");
    stage.check(vec![passed("proxy", expected)]).map(drop)
}

#[test]
fn gunicorn_with_threads_does() -> Result<()> {
    let stage = Stage::new()?;
    // Its threads never block the loop that a timeout is about: a worker that stops altogether
    // does.
    let stops = SLEEPS.replace(
        "time.sleep(30)",
        "import os; os.kill(os.getpid(), 19); time.sleep(30)",
    );
    let words = gunicorn(TCP, &["--timeout", "2", "-k", "gthread", "--threads", "2"]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let files = [("app.py", stops.as_str())];
    let _gunicorn = Upstream::start(&stage.netns, &words, &files, &listen(TCP))?;
    let expected = died(TCP).says("--timeout").says("SIGKILL");
    stage.check(vec![passed("proxy", expected)]).map(drop)
}

fn uwsgi(socket: &str, options: &[&str]) -> Vec<String> {
    let words = [
        "uwsgi-core",
        "--plugin",
        "python311",
        "--socket",
        socket,
        "--chmod-socket=666",
    ];
    let words = words
        .iter()
        .chain(&["--master", "--processes", "2", "--wsgi-file", "app.py"]);
    words.chain(options).map(|&word| word.to_owned()).collect()
}

#[test]
fn uwsgi_ends_a_worker_by_harakiri() -> Result<()> {
    let (stage, folder) = (Stage::new()?, Folder::new()?);
    let (upstream, at) = socket(&folder);
    let path = upstream.trim_start_matches("unix:").to_owned();
    let tcp = start(
        &stage.netns,
        &uwsgi(TCP, &["--harakiri", "1"]),
        &listen(TCP),
    )?;
    let unix = start(&stage.netns, &uwsgi(&path, &["--harakiri", "1"]), &at)?;
    let expected = |to: &str| died(to).says("--harakiri").says("SIGKILL");
    let faults = [TCP, &upstream].map(|to| passed("uwsgi", expected(to)));
    let checked = stage.check(faults.into());
    drop((tcp, unix));
    checked.map(drop)
}

#[test]
fn uwsgi_whose_worker_crashes() -> Result<()> {
    let stage = Stage::new()?;
    let crashes = SLEEPS.replace(
        "time.sleep(30)",
        "import os; os.kill(os.getpid(), 11); time.sleep(30)",
    );
    let words = uwsgi(TCP, &[]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let files = [("app.py", crashes.as_str())];
    let _uwsgi = Upstream::start(&stage.netns, &words, &files, &listen(TCP))?;
    stage.check(vec![passed("uwsgi", died(TCP))]).map(drop)
}

/// Its default is 4,096 bytes for all of the request's variables.
#[test]
fn uwsgi_whose_buffer_is_too_small_for_the_request() -> Result<()> {
    let (stage, folder) = (Stage::new()?, Folder::new()?);
    let (upstream, at) = socket(&folder);
    let path = upstream.trim_start_matches("unix:").to_owned();
    let _tcp = start(&stage.netns, &uwsgi(TCP, &[]), &listen(TCP))?;
    let _unix = start(&stage.netns, &uwsgi(&path, &[]), &at)?;
    let faults = [TCP, &upstream].map(|to| {
        let logged = format!("{CLOSED} | (104: Connection reset by peer) | (32: Broken pipe)");
        let mut expected = Expected::connected("backend-reset", to, &logged)
            .or_errno(Some("ECONNRESET"))
            .or_errno(Some("EPIPE"))
            .says("check uwsgi --buffer-size")
            .says("invalid request block size");
        expected.or_cause.push("backend-closed-early");
        let mut fault = passed("uwsgi", expected);
        let large = "x".repeat(3000);
        // Of a variable nginx's own limit is its parser's buffer.
        let params = ["A", "B"].map(|name| format!(" uwsgi_param {name} {large};"));
        fault.location.push_str(&params.concat());
        fault
    });
    let verdicts = stage.check(faults.into())?;
    nowhere(&verdicts, "response header")
}

/// php-fpm with two children, its socket and these lines of its pool, and what its script does.
fn php(netns: &Netns, at: &str, lines: &str, script: &str) -> Result<Upstream> {
    let listens = match at.strip_prefix("unix:") {
        Some(path) => Listen::Unix(path.into()),
        None => listen(at),
    };
    let address = at.trim_start_matches("unix:");
    let pool = format!(
        "[global]\nerror_log = /dev/stderr\ndaemonize = no\n[www]\nuser = nobody\ngroup = nogroup\n\
         listen = {address}\nlisten.mode = 0666\npm = static\npm.max_children = 2\n\
         catch_workers_output = yes\n{lines}\n"
    );
    let files = [("pool.conf", pool.as_str()), ("x.php", script)];
    let words = ["php-fpm8.2", "-y", "{}/pool.conf"];
    Upstream::start(netns, &words, &files, &listens)
}

/// To the script of this php-fpm.
fn to_php(php: &Upstream, expected: Expected) -> Fault {
    let mut fault = passed("fastcgi", expected);
    let script = php.folder().join("x.php").display().to_string();
    fault.location = fault.location.replace("$document_root/x.php", &script);
    fault
}

/// A signal ends PHP's `sleep()` early.
const PHP_SLEEPS: &str = "<?php error_log('serving'); while (true) { sleep(30); }";

#[test]
fn php_fpm_ends_a_request_at_its_limit() -> Result<()> {
    let stage = Stage::new()?;
    let php = php(
        &stage.netns,
        TCP,
        "request_terminate_timeout = 1s",
        PHP_SLEEPS,
    )?;
    let expected = died(TCP)
        .says("SIGTERM from php-fpm")
        .says("request_terminate_timeout");
    let verdicts = stage.check(vec![to_php(&php, expected)])?;
    nowhere(&verdicts, "which it sent itself")
}

#[test]
fn php_fpm_whose_child_crashes() -> Result<()> {
    let stage = Stage::new()?;
    let crashes = "<?php ini_set('memory_limit', -1); function f() { array_map('f', [1]); } f();";
    let php = php(&stage.netns, TCP, "", crashes)?;
    let expected = died(TCP).says("SIGSEGV").says("php-fpm8.2 crashed");
    stage.check(vec![to_php(&php, expected)]).map(drop)
}

#[test]
fn php_fpm_that_does_not_take_this_client() -> Result<()> {
    let stage = Stage::new()?;
    let php = php(
        &stage.netns,
        TCP,
        "listen.allowed_clients = 10.1.2.3",
        PHP_SLEEPS,
    )?;
    let logged = format!("{CLOSED} | (104: Connection reset by peer) | (32: Broken pipe)");
    let mut expected = Expected::connected("backend-closed-early", TCP, &logged)
        .says(format!(
            "listen.allowed_clients in its pool: it must name {}",
            stage.netns.client()
        ))
        .or_errno(Some("ECONNRESET"))
        .or_errno(Some("EPIPE"));
    expected.or_cause.push("backend-reset");
    stage.check(vec![to_php(&php, expected)]).map(drop)
}

#[test]
fn php_fpm_whose_children_are_all_busy() -> Result<()> {
    let (stage, folder) = (Stage::new()?, Folder::new()?);
    let (upstream, _) = socket(&folder);
    let php = php(&stage.netns, &upstream, "", PHP_SLEEPS)?;
    let expected = Expected::timeout("backend-not-accepting", &upstream).says("pm.max_children");
    let mut expected = php
        .children()
        .iter()
        .fold(expected, |expected, child| expected.says(child.to_string()));
    expected.or_cause.push("backend-slow");
    let mut fault = to_php(&php, expected);
    fault.location.push_str(" fastcgi_read_timeout 1s;");
    let load = Load {
        failing: 6,
        concurrency: 6,
        ..Load::default()
    };
    // Those that have a child are slow, and name no others.
    fault.expected.says.clear();
    let verdicts = stage.check_with(vec![fault], load)?;
    let waits: Vec<&Value> = of_cause(&verdicts, "backend-not-accepting").collect();
    ensure!(!waits.is_empty(), "none waited");
    for verdict in waits {
        let text = verdict.to_string();
        for child in php.children() {
            ensure!(
                text.contains(&child.to_string()),
                "child {child} is not named: {text}"
            );
        }
        ensure!(
            !text.contains(&format!("/proc/{}/stack", php.pid())),
            "the master: {text}"
        );
    }
    Ok(())
}

fn of_cause<'a>(verdicts: &'a [Value], cause: &'a str) -> impl Iterator<Item = &'a Value> {
    verdicts
        .iter()
        .filter(move |verdict| verdict["cause"] == cause)
}

fn nowhere(verdicts: &[Value], words: &str) -> Result<()> {
    for verdict in verdicts {
        ensure!(!verdict.to_string().contains(words), "{words:?}: {verdict}");
    }
    Ok(())
}

/// While each request is served, `act` is done to the backend; one that it ends is started again.
fn each(
    fault: impl Fn(&Upstream) -> Fault,
    start: impl Fn(&Netns) -> Result<Upstream>,
    act: impl Fn(&Upstream),
    ends: bool,
) -> Result<Vec<Value>> {
    let stage = Stage::new()?;
    let mut backend = start(&stage.netns)?;
    let site = stage.start(vec![fault(&backend)])?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let mut sent = Sent::default();
    let load = Load {
        failing: 1,
        healthy: 1,
        ..Load::default()
    };
    for round in 1..=3 {
        let served = if ends { 1 } else { round };
        sent.extend(std::thread::scope(|scope| {
            let sender = scope.spawn(|| site.send(load));
            let is_served = until("a request that is served", PATIENCE, || {
                Ok((backend.output().matches("serving").count() >= served).then_some(()))
            });
            act(&backend);
            let sent = sender.join();
            let is_served = is_served.with_context(|| backend.output());
            is_served.and(sent.unwrap_or_else(|_| Err(anyhow!("a sender panicked"))))
        })?);
        if ends && round < 3 {
            backend.ended()?;
            backend = start(&site.netns)?;
        }
    }
    site.check(&sent, tracer)
}

#[test]
fn a_php_fpm_that_is_reloaded() -> Result<()> {
    let folder = Folder::new()?;
    let (upstream, _) = socket(&folder);
    let expected = died(&upstream)
        .says(format!(
            "which had received SIGUSR2 from {} (pid",
            process::own_name()
        ))
        .says("process_control_timeout")
        .says("restart or deploy");
    let verdicts = each(
        |fpm| to_php(fpm, expected.clone()),
        |netns| php(netns, &upstream, "", PHP_SLEEPS),
        |fpm| fpm.signal(libc::SIGUSR2),
        false,
    )?;
    nowhere(&verdicts, "abort()")?;
    nowhere(&verdicts, "request_terminate_timeout")
}

#[test]
fn a_gunicorn_that_is_stopped() -> Result<()> {
    let words = gunicorn(TCP, &["--graceful-timeout", "1"]);
    let expected = died(TCP)
        .says(format!(
            "which had received SIGTERM from {} (pid",
            process::own_name()
        ))
        .says("--graceful-timeout");
    let verdicts = each(
        |_| passed("proxy", expected.clone()),
        |netns| start(netns, &words, &listen(TCP)),
        |gunicorn| gunicorn.signal(libc::SIGTERM),
        true,
    )?;
    nowhere(&verdicts, "WORKER TIMEOUT")
}

/// It closes in time what it serves, and exits later.
const NODE: &str = "\
const server = require('http').createServer((request, response) => console.log('serving'));
server.listen(9001, '127.0.0.1');
process.on('SIGTERM', () => {
    server.close();
    setTimeout(() => server.closeAllConnections(), 300);
    setTimeout(() => process.exit(0), 600);
});
";

#[test]
fn a_node_that_stops_before_it_has_answered() -> Result<()> {
    let expected = died(TCP)
        .says(format!("after SIGTERM from {}", process::own_name()))
        .says("exited with code 0");
    each(
        |_| passed("proxy", expected.clone().says("server.close()")),
        |netns| {
            Upstream::start(
                netns,
                &["node", "app.js"],
                &[("app.js", NODE)],
                &listen(TCP),
            )
        },
        |node| node.signal(libc::SIGTERM),
        true,
    )
    .map(drop)
}

#[test]
fn a_node_behind_a_unix_socket_that_stops() -> Result<()> {
    let folder = Folder::new()?;
    let (upstream, at) = socket(&folder);
    let path = upstream.trim_start_matches("unix:");
    let named = NODE.replace("9001, '127.0.0.1'", &format!("'{path}'"));
    let script = format!("process.umask(0);\n{named}");
    let expected = died(&upstream)
        .says(format!("after SIGTERM from {}", process::own_name()))
        .says("server.close()");
    each(
        |_| passed("proxy", expected.clone()),
        |netns| {
            let _ = std::fs::remove_file(path);
            Upstream::start(netns, &["node", "app.js"], &[("app.js", &script)], &at)
        },
        |node| node.signal(libc::SIGTERM),
        true,
    )
    .map(drop)
}

#[test]
fn node_that_throws() -> Result<()> {
    let throws = "\
require('http').createServer(() => { console.log('serving'); setTimeout(() => { throw 1; }, 50); })
    .listen(9001, '127.0.0.1');
";
    let expected = died(TCP).says("exited with code 1");
    each(
        |_| passed("proxy", expected.clone()),
        |netns| {
            Upstream::start(
                netns,
                &["node", "app.js"],
                &[("app.js", throws)],
                &listen(TCP),
            )
        },
        |_| (),
        true,
    )
    .map(drop)
}

/// Blocking code in an async handler: nothing of its loop runs, nor its handler of SIGTERM.
const ASGI: &str = "\
import time
async def app(scope, receive, send):
    if scope['type'] == 'http':
        print('serving', flush=True)
        time.sleep(30)
";

#[test]
fn a_uvicorn_that_is_killed() -> Result<()> {
    let words = [
        "uvicorn",
        "--host",
        "127.0.0.1",
        "--port",
        "9001",
        "--lifespan",
        "off",
        "app:app",
    ];
    let expected = died(TCP)
        .says(format!("SIGKILL from {} (pid", process::own_name()))
        .says("its own parent, killed uvicorn");
    each(
        |_| passed("proxy", expected.clone()),
        |netns| Upstream::start(netns, &words, &[("app.py", ASGI)], &listen(TCP)),
        |uvicorn| uvicorn.signal(libc::SIGKILL),
        true,
    )
    .map(drop)
}

/// It handles SIGTERM as uvicorn does from 0.29 on: cleans up, restores the default and raises it
/// again.
const RAISES_AGAIN: &str = "\
import signal, socket
listener = socket.create_server(('127.0.0.1', 9001))
def stop(number, frame):
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
signal.signal(signal.SIGTERM, stop)
while True:
    client, _ = listener.accept()
    if client.recv(65536):
        print('serving', flush=True)
        signal.pause()
";

#[test]
fn a_signal_that_is_raised_again_is_its_first_senders() -> Result<()> {
    let expected = died(TCP)
        .says(format!(
            "was killed by SIGTERM from {} (pid",
            process::own_name()
        ))
        .says("restart or deploy");
    let verdicts = each(
        |_| passed("proxy", expected.clone()),
        |netns| {
            let files = [("app.py", RAISES_AGAIN)];
            Upstream::start(netns, &["python3", "app.py"], &files, &listen(TCP))
        },
        |python| python.signal(libc::SIGTERM),
        true,
    )?;
    nowhere(&verdicts, "sent itself")
}

#[test]
fn puma_ends_a_worker_that_does_not_check_in() -> Result<()> {
    let stage = Stage::new()?;
    let files = [
        (
            "config.ru",
            "run ->(env) { Process.kill(:STOP, Process.pid); sleep 30; [200, {}, ['ok']] }\n",
        ),
        (
            "puma.rb",
            "workers 2\nthreads 1, 1\nworker_check_interval 1\nworker_timeout 2\n",
        ),
    ];
    let run = "cd {} && exec puma -C puma.rb -b tcp://127.0.0.1:9001 config.ru";
    let words = ["sh", "-c", run];
    let _puma = Upstream::start(&stage.netns, &words, &files, &listen(TCP))?;
    let expected = died(TCP).says("worker_timeout in puma.rb").says("SIGKILL");
    stage.check(vec![passed("proxy", expected)]).map(drop)
}

#[test]
fn an_apache_that_is_restarted() -> Result<()> {
    let modules = ["mpm_prefork", "authz_core", "alias", "cgi"].map(|module| {
        format!("LoadModule {module}_module /usr/lib/apache2/modules/mod_{module}.so\n")
    });
    let config = format!(
        "ServerName x\nListen 127.0.0.1:9001\nUser nobody\nGroup nogroup\nErrorLog /dev/stderr\n\
         PidFile apache.pid\nDefaultRuntimeDir .\n{}<Directory />\nOptions ExecCGI\n</Directory>\n",
        modules.concat()
    );
    let script = "#!/bin/sh\necho serving >&2\nsleep 30\n";
    let files = [("apache.conf", config.as_str()), ("slow", script)];
    let start = "chmod 755 . slow; exec apache2 -d {} -f apache.conf -c 'ScriptAliasMatch .* {}/slow' -DFOREGROUND";
    let expected = died(TCP)
        .says(format!(
            "which had received SIGHUP from {} (pid",
            process::own_name()
        ))
        .says("apachectl graceful");
    each(
        |_| passed("proxy", expected.clone()),
        |netns| Upstream::start(netns, &["sh", "-c", start], &files, &listen(TCP)),
        |apache| apache.signal(libc::SIGHUP),
        false,
    )
    .map(drop)
}

#[test]
fn a_socket_that_a_killed_gunicorn_left() -> Result<()> {
    let (stage, folder) = (Stage::new()?, Folder::new()?);
    let (upstream, at) = socket(&folder);
    let mut gunicorn = start(&stage.netns, &gunicorn(&upstream, &[]), &at)?;
    // Its workers notice that it is gone, and end too.
    let workers = gunicorn.children();
    for pid in workers.into_iter().chain([gunicorn.pid()]) {
        process::signal(pid, libc::SIGKILL);
    }
    gunicorn.ended()?;
    let expected = Expected::new("unix-socket-stale", &upstream, "ECONNREFUSED");
    stage.check(vec![passed("proxy", expected)]).map(drop)
}

/// It has no descriptor left for another connection, and waits until one is free.
const EXHAUSTED: &str = "\
import socket, time
listener = socket.create_server(('127.0.0.1', 9001))
held = []
while True:
    try:
        held.append(open('/dev/null'))
    except OSError:
        break
while True:
    try:
        held.append(listener.accept())
    except OSError:
        time.sleep(0.05)
";

#[test]
fn a_backend_at_its_descriptor_limit() -> Result<()> {
    let stage = Stage::new()?;
    let words = ["sh", "-c", "ulimit -n 20; exec python3 app.py"];
    let files = [("app.py", EXHAUSTED)];
    let _python = Upstream::start(&stage.netns, &words, &files, &listen(TCP))?;
    let expected = Expected::timeout("backend-not-accepting", TCP)
        .says("and its limit is 20: accept() fails")
        .says("LimitNOFILE=");
    let fault = Fault::proxy(expected, "proxy_read_timeout 500ms;");
    stage.check(vec![fault]).map(drop)
}

/// Its child inherits the listener and outlives it.
const LEAVES_A_CHILD: &str = "\
import os, socket, subprocess, time
listener = socket.create_server(('127.0.0.1', 9001))
os.set_inheritable(listener.fileno(), True)
subprocess.Popen(['sleep', '60'], close_fds=False)
print('ready', flush=True)
time.sleep(60)
";

#[test]
fn a_listener_that_only_an_orphan_holds() -> Result<()> {
    let stage = Stage::new()?;
    let files = [("app.py", LEAVES_A_CHILD)];
    let words = ["python3", "app.py"];
    let mut python = Upstream::start(&stage.netns, &words, &files, &listen(TCP))?;
    python.says("ready")?;
    let children = python.children();
    python.signal(libc::SIGKILL);
    python.ended()?;
    let expected = Expected::timeout("backend-not-accepting", TCP)
        .says("the program that sleep (pid")
        .says(format!("end it (kill {})", children[0]));
    let fault = Fault::proxy(expected, "proxy_read_timeout 500ms;");
    stage.check(vec![fault]).map(drop)
}
