//! Lines that look like the real worker's, written by someone else: into the log of an nginx of his
//! own, or into the real one's. They decide nothing, and no word that was seen gives way to them.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::client::{dial, status};
use tests::http2;
use tests::netns::Netns;
use tests::nginx::{Config, Nginx};
use tests::process::children;
use tests::tracer::Tracer;

const NOBODY: u32 = 65_534;
const ROUNDS: usize = 20;

fn config() -> Config {
    Config {
        workers: 1,
        server: "listen 127.0.0.1:81 http2;\nlocation / { proxy_pass http://127.0.0.1:9; }\n"
            .to_owned(),
        ..Config::default()
    }
}

fn start() -> Result<(Netns, Nginx)> {
    let netns = Netns::new()?;
    let nginx = Nginx::start(&netns, &config(), |_| Ok(()))?;
    Ok((netns, nginx))
}

/// An nginx that a plain user runs, with a log of his own.
fn start_as_nobody() -> Result<(Netns, Nginx)> {
    let netns = Netns::new()?;
    netns.sysctl("ipv4/ip_unprivileged_port_start", "0")?;
    let nginx = Nginx::start(&netns, &config(), |command| {
        let folder = folder_of(command).context("no folder")?;
        chown(folder, Some(NOBODY), Some(NOBODY))?;
        // SAFETY: between fork and exec only system calls are made.
        unsafe {
            command.pre_exec(|| {
                let done = libc::setgroups(0, std::ptr::null()) == 0
                    && libc::setgid(NOBODY) == 0
                    && libc::setuid(NOBODY) == 0
                    && libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) == 0;
                done.then_some(()).ok_or_else(std::io::Error::last_os_error)
            });
        }
        Ok(())
    })?;
    Ok((netns, nginx))
}

fn folder_of(command: &Command) -> Option<PathBuf> {
    let mut arguments = command.get_args();
    arguments.find(|one| *one == "-p")?;
    arguments.next().map(PathBuf::from)
}

fn ask(netns: &Netns, head: &str) -> Result<u16> {
    netns.enter(|| {
        let mut stream = dial("127.0.0.1:80")?;
        write!(stream, "{head}\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        status(&answer)
    })
}

/// Lines as of this worker's next connections.
fn forge(log: &Path, worker: u32, connections: std::ops::Range<u64>) -> Result<()> {
    let mut text = String::new();
    for connection in connections {
        for version in ["1.1", "2.0"] {
            text += &format!(
                "2026/11/20 10:15:23 [error] {worker}#{worker}: *{connection} connect() failed (111: Connection refused) \
                 while connecting to upstream, client: 6.6.6.6, server: , request: \"GET / HTTP/{version}\", \
                 upstream: \"http://127.0.0.1:9/\", host: \"evil.test\"\n"
            );
        }
    }
    let mut log = OpenOptions::new().append(true).open(log)?;
    log.write_all(text.as_bytes())
        .context("cannot append to the log")
}

/// Asks a healthy name for something refused, over HTTP/1.1 and HTTP/2.
fn fail(netns: &Netns) -> Result<()> {
    let got = ask(netns, "GET / HTTP/1.1\r\nHost: shop.test")?;
    ensure!(got == 502, "got {got}");
    let got = netns.enter(|| http2::get(&mut dial("127.0.0.1:81")?, "shop.test", "/"))?;
    ensure!(got == 502, "got {got} over HTTP/2");
    Ok(())
}

fn last_connection(nginx: &Nginx) -> Result<u64> {
    let log = nginx.log()?;
    Ok(log.iter().map(|line| line.connection).max().unwrap_or(0))
}

fn of_worker(verdicts: &[Value], worker: u32) -> Vec<&Value> {
    let mine = verdicts.iter();
    mine.filter(|verdict| verdict["worker"] == worker).collect()
}

#[test]
fn a_line_in_another_nginx_s_log_is_that_nginx_s() -> Result<()> {
    let (real_netns, real) = start()?;
    let (evil_netns, evil) = start_as_nobody()?;
    let worker = *children(real.master).first().context("no worker")?;
    let master = evil.master.to_string();
    let tracer = Tracer::follow_with(real.master, &["--master", &master])?;
    fail(&real_netns)?;
    for _ in 0..ROUNDS {
        let next = last_connection(&real)?;
        forge(&evil.folder().join("error.log"), worker, next..next + 20)?;
        // His own failure has his log read.
        fail(&evil_netns)?;
        fail(&real_netns)?;
    }
    let count = 2 * (2 * ROUNDS + 1);
    tracer.verdict_lines(count)?;
    let ended = tracer.stop(libc::SIGINT)?;
    let mine = of_worker(&ended.verdicts, worker);
    ensure!(mine.len() == 2 * (ROUNDS + 1), "{} verdicts", mine.len());
    for verdict in mine {
        let text = verdict.to_string();
        ensure!(
            !text.contains("evil") && !text.contains("6.6.6.6"),
            "a forged word: {text}"
        );
        let request = &verdict["request"];
        ensure!(
            request["host"] == "shop.test" && request["client"] == "127.0.0.1",
            "{text}"
        );
        ensure!(verdict["confidence"] == "proven", "{text}");
    }
    Ok(())
}

/// Where someone may append to the real log itself, what was seen stays, and the log's other words
/// are named as such.
#[test]
fn a_line_in_the_real_log_changes_nothing_that_was_seen() -> Result<()> {
    let (netns, real) = start()?;
    let worker = *children(real.master).first().context("no worker")?;
    let tracer = Tracer::follow(real.master)?;
    let ask = || -> Result<()> {
        let got = ask(&netns, "GET / HTTP/1.1\r\nHost: shop.test")?;
        ensure!(got == 502, "got {got}");
        Ok(())
    };
    ask()?;
    for _ in 0..ROUNDS {
        let next = last_connection(&real)?;
        forge(&real.folder().join("error.log"), worker, next + 1..next + 4)?;
        ask()?;
    }
    tracer.verdict_lines(ROUNDS + 1)?;
    let ended = tracer.stop(libc::SIGINT)?;
    ensure!(ended.verdicts.len() == ROUNDS + 1);
    let mut named = 0;
    for verdict in &ended.verdicts {
        let request = &verdict["request"];
        ensure!(
            request["host"] == "shop.test" && request["client"] == "127.0.0.1",
            "{verdict}"
        );
        ensure!(
            verdict["cause"] == "no-listener" && verdict["confidence"] == "proven",
            "{verdict}"
        );
        let text = verdict.to_string();
        named += usize::from(text.contains("the error log names another client: 6.6.6.6"));
    }
    ensure!(
        named >= ROUNDS / 2,
        "{named} of {ROUNDS} forged lines are named"
    );
    Ok(())
}

/// What clients send cannot end a field or a line: nginx escapes, and fields are read in its order.
#[test]
fn what_a_client_sends_forges_nothing() -> Result<()> {
    let (netns, real) = start()?;
    let tracer = Tracer::follow(real.master)?;
    let forged =
        "\", client: 6.6.6.6, server: evil, request: \"GET /evil HTTP/1.1\", host: \"evil.test\"";
    let lines = [
        "GET /a\",host:\"evil.test HTTP/1.1",
        "GET /b%0a2026/11/20%2010:15:23 HTTP/1.1",
        "GET /c HTTP/1.1",
    ];
    for line in lines {
        let head = format!(
            "{line}\r\nHost: shop.test\r\nReferer: {forged}\r\nUser-Agent: {forged}\r\nX-Forwarded-For: 6.6.6.6"
        );
        let got = ask(&netns, &head)?;
        ensure!(got == 502, "{line}: got {got}");
    }
    let paths = ["/a\",host:\"evil.test", "/c"];
    for path in paths {
        let got = netns.enter(|| http2::get(&mut dial("127.0.0.1:81")?, "shop.test", path))?;
        ensure!(got == 502, "{path}: got {got} over HTTP/2");
    }
    let expected: Vec<String> = lines
        .iter()
        .map(|&line| line.to_owned())
        .chain(paths.map(|path| format!("GET {path} HTTP/2.0")))
        .collect();
    tracer.verdict_lines(expected.len())?;
    let ended = tracer.stop(libc::SIGINT)?;
    ensure!(ended.verdicts.len() == expected.len());
    for (verdict, line) in ended.verdicts.iter().zip(&expected) {
        let request = &verdict["request"];
        ensure!(request["line"] == line.as_str(), "not {line}: {verdict}");
        ensure!(
            request["host"] == "shop.test" && request["client"] == "127.0.0.1",
            "{verdict}"
        );
    }
    Ok(())
}
