//! A flood of failing requests, each to another upstream with another long request line: the tracer
//! keeps to its memory, and what it left out is counted.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use tests::netns::Netns;
use tests::nginx::{Config, Nginx};
use tests::tracer::{Ended, Tracer};

/// Nothing listens on any of these addresses.
const SERVER: &str = "
keepalive_requests 100000000;
location ~ ^/flood/([0-9]+)/([0-9]+)/([0-9]+)/ { proxy_pass http://127.$1.$2.$3:9; }
";
/// MiB.
const CEILING: u64 = 48;
const SENDERS: u64 = 4;
const TIME: Duration = Duration::from_secs(10);
/// Requests on their way on one connection.
const PIPELINE: u64 = 32;

#[test]
fn a_flood_of_distinct_failures_stays_within_the_memory_ceiling() -> Result<()> {
    let netns = Netns::new()?;
    let config = Config {
        server: SERVER.to_owned(),
        ..Config::default()
    };
    let nginx = Nginx::start(&netns, &config, |_| Ok(()))?;

    let ceiling = format!("{CEILING}M");
    let tracer = Tracer::follow_with(nginx.master, &["--max-memory", &ceiling])?;
    let pid = tracer.pid();
    let is_over = AtomicBool::new(false);
    let (answered, most) = std::thread::scope(|scope| {
        let watched = scope.spawn(|| {
            let mut most = 0;
            while !is_over.load(Ordering::Relaxed) {
                most = most.max(anonymous(pid)?);
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok::<_, anyhow::Error>(most)
        });
        let answered = netns.enter(flood);
        is_over.store(true, Ordering::Relaxed);
        let most = watched
            .join()
            .map_err(|_| anyhow!("the watcher panicked"))?;
        Ok::<_, anyhow::Error>((answered?, most?))
    })?;
    let ended = tracer.stop(libc::SIGINT)?;
    ensure!(ended.status.success(), "it ended with {}", ended.stderr);
    let told = ended.verdicts.len() as u64;
    let left_out = said(&ended, "counted, not explained");
    let bare = said(&ended, "may lack their request line");
    let lost = said(&ended, "lost: failures may be missing");
    println!(
        "{answered} answers, {told} verdicts, {left_out} left out, {bare} without their lines, {lost} records lost; at most {} MiB of its own\n{}",
        most >> 10,
        ended.stderr
    );
    // A request takes several records: each lost one may hide one.
    let counted = told + left_out;
    ensure!(
        counted <= answered && answered <= counted + lost,
        "{told} and {left_out} of {answered}, {lost} records lost"
    );
    // What is too much is left out on purpose, before the ring runs over.
    ensure!(
        lost <= answered / 100,
        "{lost} records lost of {answered} requests"
    );
    ensure!(most <= CEILING << 10, "{most} KiB");
    // What they ask goes before any of them.
    let nameless = ended.verdicts.iter();
    let nameless = nameless
        .filter(|verdict| verdict["request"]["line"].is_null())
        .count() as u64;
    println!("{nameless} verdicts without the request's line");
    ensure!(bare > 0 && left_out > 0, "{bare} and {left_out} left out");
    ensure!(nameless <= bare, "{nameless} of {bare}");
    Ok(())
}

/// All senders; gives how many requests failed.
fn flood() -> Result<u64> {
    let end = Instant::now() + TIME;
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| scope.spawn(move || send(sender, end)))
            .collect();
        senders
            .into_iter()
            .map(|sender| sender.join().map_err(|_| anyhow!("a sender panicked"))?)
            .sum()
    })
}

/// Requests over one connection, each to an upstream of its own; gives how many were answered, all
/// of them 502.
fn send(sender: u64, end: Instant) -> Result<u64> {
    let mut stream = TcpStream::connect("127.0.0.1:80").context("connecting to nginx")?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut number = 0;
    let mut buffer = vec![0; 64 << 10];
    while Instant::now() < end {
        let mut requests = String::new();
        for _ in 0..PIPELINE {
            number += 1;
            let (a, b, c) = (sender + 1, number >> 8 & 0xff, number & 0xff);
            let long = "0123456789abcdef".repeat(60);
            let _ = write!(
                requests,
                "GET /flood/{a}/{b}/{c}/{number}{long} HTTP/1.1\r\nHost: flood\r\n\r\n"
            );
        }
        stream.write_all(requests.as_bytes())?;
        let (mut answers, mut text) = (0, Vec::new());
        while answers < PIPELINE {
            let count = stream.read(&mut buffer).context("reading answers")?;
            ensure!(count > 0, "nginx closed the connection");
            text.extend_from_slice(&buffer[..count]);
            answers = count_of(&text, b"HTTP/1.1 502");
        }
    }
    Ok(number)
}

fn count_of(text: &[u8], needle: &[u8]) -> u64 {
    text.windows(needle.len())
        .filter(|&at| at == needle)
        .count() as u64
}

/// The number in the summary's line with these words; 0 where it has none.
fn said(ended: &Ended, words: &str) -> u64 {
    let lines = ended.stderr.lines();
    lines
        .filter(|line| line.contains(words))
        .filter_map(|line| line.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

/// KiB of memory of the process's own, without files and what the kernel shares with it.
fn anonymous(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.context("no RssAnon")?.parse().context("no number")
}
