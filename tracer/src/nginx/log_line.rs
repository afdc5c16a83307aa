//! One line of nginx's error log (`src/core/ngx_log.c`, `ngx_http_log_error_handler`).
//!
//! `DATE TIME [LEVEL] PID#TID: *CONNECTION MESSAGE, client: …, server: …, request: "…", upstream:
//! "…", host: "…"`
//!
//! nginx escapes nothing but writes every line in one piece, without a line feed from outside. So
//! what precedes the message (pid and connection number) is nginx's own, and a client can only
//! alter the line of its own request. It can do so with a quote and a blank in the request line,
//! which nginx refuses since 1.21.1, or in a text that the message quotes; fields are taken in
//! nginx's order, so what comes later cannot change what came before. nginx cuts a line at 2048
//! bytes: the field that was cut is kept as far as it goes, later ones are absent.

use std::net::IpAddr;

use crate::event::{LogLine, Time};

/// Longer lines are none of nginx's.
pub(super) const LINE_LIMIT: usize = 64 * 1024;

pub(super) const LEVELS: [&str; 9] = [
    "emerg", "alert", "crit", "error", "warn", "notice", "info", "debug", "stderr",
];

/// Reads a line without its line feed; `None` unless it is one with a connection number. `at` is
/// when it was read.
#[must_use]
pub fn parse(line: &[u8], at: Time) -> Option<LogLine> {
    let text = String::from_utf8_lossy(line);
    let head = Head::of(&text).filter(|_| line.len() <= LINE_LIMIT)?;
    if head.level == "debug" {
        return None;
    }
    let (connection, rest) = head.rest.strip_prefix('*')?.split_once(' ')?;
    let mut parsed = LogLine {
        at,
        pid: head.pid,
        connection: connection.parse().ok()?,
        ..LogLine::default()
    };
    take(rest, &mut parsed);
    Some(parsed)
}

/// Reads what follows the connection number: the message and its fields.
pub(super) fn take(rest: &str, parsed: &mut LogLine) {
    let Some((message, client, fields)) = client(rest) else {
        rest.clone_into(&mut parsed.message);
        return;
    };
    message.clone_into(&mut parsed.message);
    parsed.client = Some(client.to_owned());
    let mut fields = Fields(fields);
    let of_server = fields.0;
    parsed.request = fields.take("request");
    // In a stream it is where it listens.
    if parsed.request.is_some() {
        let name = of_server.split_once(", request: \"");
        let name = name.map(|(name, _)| name).filter(|name| !name.is_empty());
        parsed.server = name.map(str::to_owned);
    }
    fields.take("subrequest");
    parsed.upstream = fields.take("upstream");
    parsed.host = fields.take("host");
}

/// Whether it is a line of an error log at all, with or without a connection.
pub(super) fn is_log_line(line: &[u8]) -> bool {
    // All of a head, whatever the pids' lengths.
    let start = &line[..line.len().min(80)];
    Head::of(&String::from_utf8_lossy(start)).is_some()
}

struct Head<'a> {
    level: &'a str,
    pid: u32,
    rest: &'a str,
}

impl<'a> Head<'a> {
    fn of(text: &'a str) -> Option<Self> {
        const SHAPE: &[u8] = b"0000/00/00 00:00:00 [";
        let (date, rest) = text.split_at_checked(SHAPE.len())?;
        let fits = date.bytes().zip(SHAPE).all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            _ => byte == *shape,
        });
        fits.then_some(())?;
        let (level, rest) = rest.split_once("] ")?;
        LEVELS.contains(&level).then_some(())?;
        let (pid, rest) = rest.split_once('#')?;
        let (thread, rest) = rest.split_once(": ")?;
        thread.parse::<u64>().ok()?;
        Some(Self {
            level,
            pid: pid.parse().ok()?,
            rest,
        })
    }
}

/// Splits at the first `client: ADDRESS, server: ` that names an address: message, address, what
/// follows.
fn client(rest: &str) -> Option<(&str, &str, &str)> {
    const CLIENT: &str = "client: ";
    rest.match_indices(CLIENT).find_map(|(at, _)| {
        let before = &rest[..at];
        // `udp client: ` in a stream.
        let message = before
            .strip_suffix(", ")
            .or_else(|| before.strip_suffix(", udp "))?;
        let after = &rest[at + CLIENT.len()..];
        let (address, fields) = match after.split_once(", server: ") {
            Some(split) => split,
            None => (after, ""),
        };
        let is_address = address.parse::<IpAddr>().is_ok() || address.starts_with("unix:");
        (is_address && !address.contains([' ', ','])).then_some((message, address, fields))
    })
}

/// What follows the server's name, taken field by field from the left.
struct Fields<'a>(&'a str);

impl Fields<'_> {
    /// The value of the next field if it has this name; fields that nginx writes later stay.
    fn take(&mut self, name: &str) -> Option<String> {
        let opening = format!(", {name}: \"");
        // The server's name comes from the configuration and holds no field; after it, a field
        // begins at once.
        let start = match name {
            "request" | "upstream" if !self.0.starts_with(", ") => self.0.find(&opening)?,
            _ => self.0.starts_with(&opening).then_some(0)?,
        };
        let value = &self.0[start + opening.len()..];
        let end = value.match_indices('"').map(|(at, _)| at).find(|at| {
            let rest = &value[at + 1..];
            rest.is_empty() || Self::follows(name, rest)
        });
        let (value, rest) = match end {
            Some(end) => (&value[..end], &value[end + 1..]),
            None => (value, ""),
        };
        self.0 = rest;
        Some(value.to_owned())
    }

    /// Does `rest` begin as what nginx writes after a field of this name?
    fn follows(name: &str, rest: &str) -> bool {
        let later: &[&str] = match name {
            "request" => &[
                ", subrequest: \"",
                ", upstream: \"",
                ", host: \"",
                ", referrer: \"",
            ],
            "subrequest" => &[", upstream: \"", ", host: \"", ", referrer: \""],
            "upstream" => &[", host: \"", ", referrer: \"", ", bytes from/to client:"],
            _ => &[", referrer: \""],
        };
        later.iter().any(|field| rest.starts_with(field))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> LogLine {
        parse(line.as_bytes(), Time(1)).unwrap()
    }

    fn fields(line: &LogLine) -> [Option<&str>; 4] {
        [&line.client, &line.request, &line.upstream, &line.host].map(|field| field.as_deref())
    }

    const HEAD: &str = "2026/11/20 10:15:23 [error] 1234#1235: *67890 ";

    #[test]
    fn a_failed_connect_names_its_request() {
        let line = read(
            "2026/11/20 10:15:23 [error] 1234#1235: *67890 connect() failed (111: Connection refused) while \
             connecting to upstream, client: 192.168.1.1, server: shop, request: \"GET / HTTP/1.1\", \
             upstream: \"http://127.0.0.1:3000/\", host: \"example.com\", referrer: \"http://a/\"",
        );
        assert_eq!((line.pid, line.connection), (1234, 67890));
        assert_eq!(
            line.message,
            "connect() failed (111: Connection refused) while connecting to upstream"
        );
        assert_eq!(
            fields(&line),
            [
                Some("192.168.1.1"),
                Some("GET / HTTP/1.1"),
                Some("http://127.0.0.1:3000/"),
                Some("example.com")
            ]
        );
    }

    #[test]
    fn a_request_s_line_names_its_server() {
        for (tail, server) in [
            ("server: shop, request: \"GET / HTTP/1.1\"", Some("shop")),
            ("server: , request: \"GET / HTTP/1.1\"", None),
            ("server: 0.0.0.0:9000, upstream: \"127.0.0.1:3\"", None),
            ("server: 0.0.0.0:80", None),
        ] {
            let line = read(&format!("{HEAD}x, client: 1.1.1.1, {tail}"));
            assert_eq!(line.server.as_deref(), server, "{tail}");
        }
    }

    #[test]
    fn lines_of_all_shapes_give_what_they_hold() {
        for (tail, expected) in [
            // A stream proxy, a request without a host, a unix client, an empty server name, a
            // subrequest, a connection without a request.
            (
                "connect() failed (111: Connection refused) while connecting to upstream, client: ::1, server: \
                 0.0.0.0:9000, upstream: \"127.0.0.1:3\", bytes from/to client:0/0, bytes from/to upstream:0/0",
                [Some("::1"), None, Some("127.0.0.1:3"), None],
            ),
            (
                "recv() failed while proxying connection, udp client: 10.0.0.1, server: 0.0.0.0:53",
                [Some("10.0.0.1"), None, None, None],
            ),
            (
                "x, client: unix:, server: , request: \"GET / HTTP/1.0\", upstream: \"http://unix:/a b.sock:/\"",
                [
                    Some("unix:"),
                    Some("GET / HTTP/1.0"),
                    Some("http://unix:/a b.sock:/"),
                    None,
                ],
            ),
            (
                "x, client: 1.1.1.1, server: a, request: \"GET / HTTP/1.1\", subrequest: \"/auth\", \
                 upstream: \"http://b/\", host: \"c\"",
                [
                    Some("1.1.1.1"),
                    Some("GET / HTTP/1.1"),
                    Some("http://b/"),
                    Some("c"),
                ],
            ),
            (
                "x, client: 1.1.1.1, server: 0.0.0.0:80",
                [Some("1.1.1.1"), None, None, None],
            ),
            ("a keepalive peer went away", [None; 4]),
            (
                "x, client: 1.1.1.1, server: a, request: \"GET /?a=\"b\", c HTTP/1.1\", host: \"d\"",
                [
                    Some("1.1.1.1"),
                    Some("GET /?a=\"b\", c HTTP/1.1"),
                    None,
                    Some("d"),
                ],
            ),
            (
                "x, client: 1.1.1.1, server: a, request: \"GET /cut-at-2048",
                [Some("1.1.1.1"), Some("GET /cut-at-2048"), None, None],
            ),
        ] {
            assert_eq!(fields(&read(&format!("{HEAD}{tail}"))), expected, "{tail}");
        }
    }

    #[test]
    fn a_later_field_cannot_change_an_earlier_one() {
        let line = read(&format!(
            "{HEAD}x, client: 1.1.1.1, server: a, request: \"GET / HTTP/1.1\", upstream: \"http://b/\", \
             host: \"c\", referrer: \"\", client: 6.6.6.6, server: z, request: \"EVIL\", host: \"evil\""
        ));
        assert_eq!(
            fields(&line),
            [
                Some("1.1.1.1"),
                Some("GET / HTTP/1.1"),
                Some("http://b/"),
                Some("c")
            ]
        );
    }

    #[test]
    fn quoted_words_that_look_like_a_client_are_part_of_the_message() {
        let line = read(&format!(
            "{HEAD}upstream sent invalid header: \"x, client: you, server: z\" while reading, client: 1.1.1.1, \
             server: a, request: \"GET / HTTP/1.1\""
        ));
        assert_eq!(line.client.as_deref(), Some("1.1.1.1"));
        assert!(line.message.ends_with("while reading"));
    }

    #[test]
    fn other_lines_are_distinguished() {
        for (line, is_error_log) in [
            (
                "2026/11/20 10:15:23 [notice] 1#1: start worker process 7",
                true,
            ),
            ("2026/11/20 10:15:23 [debug] 1#1: *5 http upstream", true),
            ("2026/11/20 10:15:23 [error] 1#1: *x y", true),
            ("2026/11/20 10:15:23 [strange] 1#1: *5 y", false),
            (
                "127.0.0.1 - - [20/Nov/2026:10:15:23 +0000] \"GET / HTTP/1.1\" 502 157",
                false,
            ),
            ("2026/11/20 10:15:2", false),
            ("", false),
        ] {
            assert_eq!(parse(line.as_bytes(), Time(1)), None, "{line}");
            assert_eq!(is_log_line(line.as_bytes()), is_error_log, "{line}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let whole = format!(
            "{HEAD}x, client: 1.1.1.1, server: a, request: \"GET /\u{e9} HTTP/1.1\", upstream: \"b\", host: \"c\""
        );
        // A fixed generator (xorshift): the same bytes in every run.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |bound: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % bound as u64).unwrap()
        };
        for _ in 0..20_000 {
            let mut line = whole.clone().into_bytes();
            line.truncate(next(line.len() + 1));
            for _ in 0..next(4) {
                if !line.is_empty() {
                    let at = next(line.len());
                    line[at] = next(256) as u8;
                }
            }
            if let Some(parsed) = parse(&line, Time(1)) {
                assert!(parsed.message.len() <= line.len() * 3);
            }
            is_log_line(&line);
        }
    }
}
