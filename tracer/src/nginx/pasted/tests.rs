//! Lines as people paste them.

use proptest::prelude::*;

use super::*;

const MESSAGE: &str = "connect() failed (111: Connection refused) while connecting to upstream";
const FIELDS: &str = "client: 192.168.1.1, server: shop, request: \"GET /a HTTP/1.1\", \
                      upstream: \"http://127.0.0.1:3000/a\", host: \"example.com\"";

fn whole() -> String {
    format!("2026/11/20 10:15:23 [error] 1234#1235: *67890 {MESSAGE}, {FIELDS}")
}

fn read(line: &str) -> Pasted {
    Pasted::read(line.as_bytes())
}

#[test]
fn each_form_of_a_line_shows_the_same() {
    let whole = whole();
    let escaped = serde_json::to_string(&whole).unwrap();
    for line in [
        whole.clone(),
        format!("  {whole}\r"),
        // Syslog's, journald's, a container's prefixes.
        format!("<187>Nov 20 10:15:23 web1 nginx: {whole}"),
        format!("Nov 20 10:15:23 web1 nginx[812]: {whole}"),
        format!("2026-11-20T10:15:23.123Z stderr F {whole}"),
        format!("web-1  | {whole}"),
        // JSON of Docker's, of a collector's, a string alone, without its quotes.
        format!("{{\"log\":{escaped},\"stream\":\"stderr\"}}"),
        format!("{{\"host\":{{\"name\":\"web1\"}},\"event\":[1,{{\"original\":{escaped}}}]}}"),
        escaped.clone(),
        escaped.trim_matches('"').to_owned(),
        // Cut at the front.
        whole[20..].to_owned(),
        whole[28..].to_owned(),
        whole[46..].to_owned(),
        format!("890 {MESSAGE}, {FIELDS}"),
        format!("{MESSAGE}, {FIELDS}"),
    ] {
        let pasted = read(&line);
        assert_eq!(pasted.message, MESSAGE, "{line}");
        assert_eq!(
            (pasted.said, pasted.errno, pasted.doing),
            (
                Some(Said::ConnectFailed),
                Some(111),
                Some(Doing::Connecting)
            ),
            "{line}"
        );
        let upstream = Upstream::Inet("127.0.0.1:3000".parse().unwrap());
        assert_eq!(pasted.upstream, Some(upstream), "{line}");
    }
    let head = read(&whole);
    assert_eq!(head.time.as_deref(), Some("2026/11/20 10:15:23"));
    assert_eq!((head.pid, head.has_head), (Some(1234), true));
    assert_eq!(read(&whole[20..]).time, None);
}

#[test]
fn a_line_cut_within_its_message_keeps_errno_and_step() {
    let whole = whole();
    let cut = read(&whole[whole.find("failed").unwrap()..]);
    assert_eq!(
        (cut.said, cut.errno, cut.doing),
        (None, Some(111), Some(Doing::Connecting))
    );
    let short = read(&whole[..whole.find("Connection").unwrap()]);
    assert_eq!(
        (short.said, short.errno, short.doing),
        (Some(Said::ConnectFailed), Some(111), None)
    );
    let mid = read(&whole[..whole.find("server").unwrap()]);
    assert_eq!(mid.message, MESSAGE);
}

#[test]
fn the_upstream_is_what_nginx_tried() {
    for (line, expected) in [
        (
            "connect() to unix:/run/app.sock failed (2: No such file or directory) while connecting to upstream",
            "unix:/run/app.sock",
        ),
        (
            "connect() to [2001:db8::5]:443 failed (101: Network is unreachable)",
            "[2001:db8::5]:443",
        ),
        (
            "upstream timed out (110: x) while reading response header from upstream, client: 1.1.1.1, server: a, \
             request: \"GET / HTTP/1.1\", upstream: \"fastcgi://unix:/run/php.sock:\", host: \"a\"",
            "unix:/run/php.sock",
        ),
        (
            "upstream timed out (110: x) while connecting to upstream, client: ::1, server: 0.0.0.0:9000, \
             upstream: \"10.0.0.5:3\", bytes from/to client:0/0",
            "10.0.0.5:3",
        ),
    ] {
        let upstream = read(line).upstream.map(|upstream| upstream.to_string());
        assert_eq!(upstream.as_deref(), Some(expected), "{line}");
    }
}

#[test]
fn names_and_files_that_a_shell_would_obey_are_left_out() {
    for (line, name) in [
        (
            "b.example could not be resolved (3: Host not found)",
            Some("b.example"),
        ),
        (
            "no resolver defined to resolve b.example",
            Some("b.example"),
        ),
        ("$(reboot) could not be resolved (3: Host not found)", None),
        ("-x could not be resolved (3: Host not found)", None),
        (
            "no live upstreams while connecting to upstream, client: 1.1.1.1, server: a, request: \"GET / HTTP/1.1\", \
             upstream: \"http://app/\", host: \"a\"",
            Some("app"),
        ),
    ] {
        assert_eq!(read(line).name.as_deref(), name, "{line}");
    }
    assert_eq!(
        read("b could not be resolved (3: Host not found)").errno,
        None
    );
}

#[test]
fn other_texts_are_no_lines() {
    for line in [
        "",
        "{}",
        "[",
        "\"",
        "GET / HTTP/1.1",
        "*",
        "*5",
        "[error] 1#",
        "\u{fffd}",
    ] {
        let pasted = read(line);
        assert!(!pasted.has_head, "{line}");
        assert_eq!((pasted.said, pasted.errno), (None, None), "{line}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(line in prop::collection::vec(any::<u8>(), 0..300)) {
        Pasted::read(&line);
    }

    #[test]
    fn no_edit_of_a_line_makes_it_panic(
        from in 0usize..250, to in 0usize..250, at in 0usize..250, with in ".{0,6}", in_json in any::<bool>()
    ) {
        let mut line = whole();
        if in_json {
            line = serde_json::to_string(&line).unwrap();
        }
        let (at, from, to) = (at.min(line.len()), from.min(line.len()), to.min(line.len()));
        line.insert_str(at, &with);
        let pasted = Pasted::read(line.as_bytes().get(from..to).unwrap_or_default());
        prop_assert!(pasted.message.len() <= 3 * line.len());
    }
}
