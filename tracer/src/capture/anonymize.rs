//! Replaces client addresses and request lines consistently, for captures that are given to others.
//!
//! The replacement is a keyed hash (SipHash-2-4). The key is random and not stored, so addresses
//! cannot be guessed by trying them. Replaced are: the client's address (IPv4 by one of
//! 240.0.0.0/4, IPv6 by one of 100::/64: both unassigned), what a request line asks for (the method
//! stays), the identifiers of a request and its trace, the path of nginx's `upstream: "…"`, and
//! quoted paths in its messages. Not replaced: host names, upstreams, what concerns nginx and the
//! backends.

use std::{
    borrow::Cow,
    hash::{Hash as _, Hasher as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use siphasher::sip::SipHasher24;

use crate::event::{Event, LogLine, RequestHead, RequestNames};

/// Of a line no more counts: the kernel side keeps the beginning of a long one, and it must be the
/// log's still.
const COUNTS: usize = 200;

/// Replaces what identifies clients.
#[derive(Debug, Clone)]
pub(crate) struct Anonymizer {
    hasher: SipHasher24,
}

impl Anonymizer {
    /// With a key that nobody else has.
    #[must_use]
    pub(crate) fn new(key: &[u8; 16]) -> Self {
        Self {
            hasher: SipHasher24::new_with_key(key),
        }
    }

    fn hash(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.hasher;
        bytes.hash(&mut hasher);
        hasher.finish()
    }

    /// Returns the event with what identifies its client replaced.
    #[must_use]
    pub(crate) fn event<'a>(&self, event: &'a Event) -> Cow<'a, Event> {
        match event {
            Event::Answer(answer) => {
                let mut answer = answer.clone();
                answer.client = answer.client.map(|client| self.socket(client));
                answer.head = answer.head.map(|head| self.head(head));
                answer.names = answer.names.map(|names| self.names(names));
                Cow::Owned(Event::Answer(answer))
            }
            Event::FirstByte(first) => {
                let mut first = first.clone();
                first.client = first.client.map(|client| self.socket(client));
                first.head = first.head.map(|head| self.head(head));
                first.names = first.names.map(|names| self.names(names));
                Cow::Owned(Event::FirstByte(first))
            }
            Event::LogLine(line) => Cow::Owned(Event::LogLine(self.log_line(line.clone()))),
            _ => Cow::Borrowed(event),
        }
    }

    fn log_line(&self, mut line: LogLine) -> LogLine {
        line.client = line.client.map(|client| self.client(&client));
        line.request = line.request.map(|request| self.request_line(&request));
        line.upstream = line.upstream.map(|upstream| self.url(&upstream));
        line.message = self.message(&line.message);
        line
    }

    fn head(&self, head: RequestHead) -> RequestHead {
        RequestHead {
            line: self.request_line(&head.line),
            host: head.host,
        }
    }

    /// What names the request itself. A trace's parts are replaced one by one: requests of one
    /// trace still share its id.
    fn names(&self, mut names: Box<RequestNames>) -> Box<RequestNames> {
        names.id = names.id.map(|id| self.word(id.as_bytes()));
        names.traceparent = names.traceparent.map(|text| {
            let parts = text.split('-').map(|part| match part.len() {
                0..=2 => part.to_owned(),
                len => format!("{:0>len$x}", self.hash(part.as_bytes())),
            });
            parts.collect::<Vec<_>>().join("-")
        });
        names
    }

    fn socket(&self, address: SocketAddr) -> SocketAddr {
        SocketAddr::new(self.address(address.ip()), address.port())
    }

    /// A client's address.
    #[must_use]
    pub(crate) fn address(&self, address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let hash = self.hash(&v4.octets()) as u32;
                IpAddr::V4(Ipv4Addr::from(0xf000_0000 | hash >> 4))
            }
            IpAddr::V6(v6) => {
                let hash = self.hash(&v6.octets());
                IpAddr::V6(Ipv6Addr::from((0x0100_u128 << 112) | u128::from(hash)))
            }
        }
    }

    fn client(&self, text: &str) -> String {
        match text.parse() {
            Ok(address) => self.address(address).to_string(),
            // A client on a unix socket has no address to hide.
            Err(_) if text.starts_with("unix:") => text.to_owned(),
            Err(_) => self.word(text.as_bytes()),
        }
    }

    /// A request line, also one that was cut.
    #[must_use]
    pub(crate) fn request_line(&self, line: &str) -> String {
        let counts = &line.as_bytes()[..line.len().min(COUNTS)];
        let word = self.word(counts);
        let (method, rest) = line.split_once(' ').unwrap_or(("", line));
        let method = if method.bytes().all(|byte| byte.is_ascii_uppercase()) {
            method
        } else {
            ""
        };
        match rest.rsplit_once(' ') {
            Some((_, version)) if version.starts_with("HTTP/") && version.len() <= 8 => {
                format!("{method} /{word} {version}")
            }
            _ => format!("{method} /{word}"),
        }
    }

    /// `http://127.0.0.1:3000/path`, `fastcgi://unix:/run/app.sock:/path`: the path.
    fn url(&self, url: &str) -> String {
        let after_scheme = url.find("://").map_or(0, |at| at + 3);
        let rest = &url[after_scheme..];
        let path = match rest.strip_prefix("unix:") {
            Some(socket) => socket.find(':').map(|at| "unix:".len() + at + 1),
            None => rest.find('/'),
        };
        match path {
            Some(at) if at < rest.len() => {
                let (peer, path) = rest.split_at(at);
                format!(
                    "{}{peer}/{}",
                    &url[..after_scheme],
                    self.word(path.as_bytes())
                )
            }
            _ => url.to_owned(),
        }
    }

    /// Quoted paths in a message.
    fn message(&self, message: &str) -> String {
        let pieces = message.split('"').enumerate().map(|(index, piece)| {
            if index % 2 == 1 && piece.starts_with('/') {
                Cow::Owned(format!("/{}", self.word(piece.as_bytes())))
            } else {
                Cow::Borrowed(piece)
            }
        });
        pieces.collect::<Vec<_>>().join("\"")
    }

    fn word(&self, bytes: &[u8]) -> String {
        format!("anon-{:016x}", self.hash(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_replaced_by_the_same_and_keeps_its_form() {
        let one = Anonymizer::new(&[7; 16]);
        let line = one.request_line("GET /secret?user=4711 HTTP/1.1");
        assert!(
            line.starts_with("GET /anon-") && line.ends_with(" HTTP/1.1"),
            "{line}"
        );
        assert_eq!(line, one.request_line("GET /secret?user=4711 HTTP/1.1"));
        assert_ne!(line, one.request_line("GET /secret?user=4712 HTTP/1.1"));
        assert_ne!(
            line,
            Anonymizer::new(&[8; 16]).request_line("GET /secret?user=4711 HTTP/1.1")
        );
        assert_eq!(
            one.client("192.0.2.1"),
            one.address("::ffff:192.0.2.1".parse().unwrap()).to_string()
        );
        assert!(one.client("192.0.2.1").starts_with('2'));
        assert!(one.client("2001:db8::1").starts_with("100::"));
    }

    #[test]
    fn a_line_that_was_cut_is_still_the_beginning_of_the_logs() {
        let one = Anonymizer::new(&[7; 16]);
        let long = format!("GET /{} HTTP/1.1", "x".repeat(400));
        let cut = one.request_line(&long[..250]);
        assert!(one.request_line(&long).starts_with(&cut), "{cut}");
    }

    #[test]
    fn upstreams_stay_and_their_paths_go() {
        let one = Anonymizer::new(&[7; 16]);
        let url = one.url("http://127.0.0.1:3000/secret");
        assert!(url.starts_with("http://127.0.0.1:3000/anon-"), "{url}");
        let url = one.url("http://unix:/run/app.sock:/secret");
        assert!(url.starts_with("http://unix:/run/app.sock:/anon-"), "{url}");
        assert_eq!(
            one.url("fastcgi://unix:/run/app.sock:"),
            "fastcgi://unix:/run/app.sock:"
        );
        assert_eq!(
            one.url("fastcgi://127.0.0.1:9000"),
            "fastcgi://127.0.0.1:9000"
        );
        let message = one.message("open() \"/home/eve/x\" failed (2: No such file)");
        assert!(
            message.starts_with("open() \"/anon-")
                && message.ends_with("\" failed (2: No such file)")
        );
    }
}
