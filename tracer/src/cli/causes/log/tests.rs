//! Whole logs.

use std::fmt::Write as _;

use super::*;

fn counted(text: &[u8]) -> Log {
    let mut log = Log::default();
    log.take_all(text).expect("memory");
    log
}

fn written(log: &Log) -> (String, Vec<serde_json::Value>) {
    let (mut text, mut json) = (Vec::new(), Vec::new());
    log.text(&mut text, 80).expect("memory");
    log.json(&mut json).expect("memory");
    let json = String::from_utf8(json).expect("text");
    let json = json
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    (String::from_utf8(text).expect("text"), json.collect())
}

fn line(second: usize, message: &str, to: &str) -> String {
    format!(
        "2026/11/20 10:15:{second:02} [error] 7#7: *{second} {message}, client: 192.168.1.1, server: a, request: \
         \"GET /{second} HTTP/1.1\", upstream: \"{to}\", host: \"a\"\n"
    )
}

const REFUSED: &str = "connect() failed (111: Connection refused) while connecting to upstream";
const LATE: &str =
    "upstream timed out (110: Connection timed out) while reading response header from upstream";

#[test]
fn a_log_is_counted_by_what_its_lines_show() {
    let mut text = String::from("2026/11/20 10:15:00 [notice] 7#7: start worker processes\n\n");
    for second in 1..=9 {
        text += &line(
            second,
            REFUSED,
            &format!("http://127.0.0.1:300{}/", second % 2),
        );
    }
    text += &line(10, LATE, "fastcgi://unix:/run/php.sock:");
    text += "127.0.0.1 - - [20/Nov/2026:10:15:23 +0000] \"GET / HTTP/1.1\" 502 157\n";
    let log = counted(text.as_bytes());
    assert!(!log.is_another_s());
    let (text, json) = written(&log);
    assert!(
        text.starts_with(
            "12 lines, 2026/11/20 10:15:00 to 2026/11/20 10:15:10: 10 lines of failed\nattempts, 2 other\n"
        ),
        "{text}"
    );
    assert!(
        text.contains("\n9  connect() failed (111: Connection refused)"),
        "{text}"
    );
    assert!(
        text.contains("\n   to 127.0.0.1:3001 (5), 127.0.0.1:3000 (4)\n"),
        "{text}"
    );
    assert!(
        text.contains("can be no-listener, firewall-reject"),
        "{text}"
    );
    assert!(
        text.contains("can be accept-queue-full, backend-slow"),
        "{text}"
    );
    assert_eq!(json.len(), 3);
    let lines: u64 = json
        .iter()
        .filter_map(|object| object["lines"].as_u64())
        .sum();
    assert_eq!(lines, 12);
    assert_eq!(json[0]["errno"], "ECONNREFUSED");
    assert_eq!(json[0]["upstreams"][0]["upstream"], "127.0.0.1:3001");
    assert_eq!(json[0]["first"], "2026/11/20 10:15:01");
    assert_eq!(json[2]["causes"].as_array().map(Vec::len), Some(0));
}

#[test]
fn memory_does_not_grow_with_the_log() {
    let mut text = String::new();
    for n in 0..3 * UPSTREAMS {
        text += &line(
            1,
            REFUSED,
            &format!("http://10.0.{}.{}:80/", n / 250, n % 250),
        );
    }
    for errno in 0..2 * KINDS {
        let _ = writeln!(
            text,
            "connect() to 10.0.0.1:80 failed ({}: x) while connecting to upstream",
            errno % 200
        );
    }
    let log = counted(text.as_bytes());
    assert!(log.kinds.len() <= KINDS);
    assert!(
        log.kinds
            .values()
            .all(|kind| kind.upstreams.len() <= UPSTREAMS)
    );
    let (text, json) = written(&log);
    assert!(text.contains("more than 252 others"), "{text}");
    let lines: u64 = json
        .iter()
        .filter_map(|object| object["lines"].as_u64())
        .sum();
    assert_eq!(lines, log.lines);
}

#[test]
fn a_line_without_end_is_one_line() {
    let mut text = line(1, REFUSED, "http://127.0.0.1:3000/")
        .trim_end()
        .to_owned()
        .into_bytes();
    text.extend(vec![b'x'; 3 * LINE as usize]);
    text.push(b'\n');
    text.extend(line(2, REFUSED, "http://127.0.0.1:3000/").bytes());
    let log = counted(&text);
    assert_eq!((log.lines, log.failures()), (2, 2));
}

#[test]
fn another_s_log_is_known_as_such() {
    let log = counted(b"127.0.0.1 - - [20/Nov/2026:10:15:23 +0000] \"GET / HTTP/1.1\" 502 157\n");
    assert!(log.is_another_s());
    assert!(!counted(b"").is_another_s());
    assert!(!counted(b"2026/11/20 10:15:00 [notice] 7#7: start worker processes").is_another_s());
}

#[test]
fn words_of_others_are_escaped() {
    let hostile = line(1, REFUSED, "http://127.0.0.1:3000/").replace("refused", "\u{1b}[2J");
    let twice = format!("{hostile}{hostile}");
    let (text, _) = written(&counted(twice.as_bytes()));
    assert!(
        !text.contains('\u{1b}') && text.contains("\\x1b[2J"),
        "{text}"
    );
}
