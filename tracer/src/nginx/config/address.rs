//! What a `*_pass` or a `server` of an upstream block names (`ngx_parse_url`, src/core/ngx_inet.c).

use std::net::{IpAddr, Ipv6Addr};

use super::model::Protocol;

/// Who is connected to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Host {
    Ip(IpAddr),
    /// A host name, or an upstream block's; in lower case.
    Name(String),
    /// The path of a unix socket; `@` begins an abstract name.
    Unix(String),
}

/// A parsed address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Target {
    pub(crate) host: Host,
    /// As written.
    pub(crate) port: Option<u16>,
    /// TLS, by its scheme.
    pub(crate) secure: bool,
    /// It has a path, which takes the place of the request's.
    pub(crate) has_uri: bool,
}

impl Target {
    /// Of a `*_pass` directive; `None` where it is none, or has variables.
    pub(crate) fn parse(protocol: Protocol, text: &str) -> Option<Self> {
        let schemes: &[(&str, bool)] = match protocol {
            Protocol::Http => &[("http://", false), ("https://", true)],
            Protocol::Grpc => &[("grpc://", false), ("grpcs://", true), ("", false)],
            Protocol::Uwsgi => &[("uwsgi://", false), ("suwsgi://", true), ("", false)],
            _ => &[("", false)],
        };
        let lower = text.get(..8.min(text.len())).unwrap_or(text).to_lowercase();
        let (scheme, secure) = schemes
            .iter()
            .find(|(scheme, _)| lower.starts_with(scheme))?;
        let rest = text.get(scheme.len()..)?;
        Self::server(rest).map(|target| Self {
            secure: *secure,
            ..target
        })
    }

    /// Of a `server` directive: without a scheme.
    pub(crate) fn server(text: &str) -> Option<Self> {
        if text.contains('$') || text.is_empty() {
            return None;
        }
        if let Some(path) = text.strip_prefix("unix:") {
            let (path, uri) = path.split_once(':').unwrap_or((path, ""));
            let host = Host::Unix(path.to_owned());
            return (!path.is_empty()).then_some(Self {
                host,
                port: None,
                secure: false,
                has_uri: !uri.is_empty(),
            });
        }
        let end = text.find(['/', '?', '#']).unwrap_or(text.len());
        let (authority, uri) = text.split_at(end);
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (ip, port) = rest.split_once(']')?;
                let ip: Ipv6Addr = ip.parse().ok()?;
                (Host::Ip(ip.into()), port.strip_prefix(':'))
            }
            None => {
                let (name, port) = match authority.split_once(':') {
                    Some((name, port)) => (name, Some(port)),
                    None => (authority, None),
                };
                let host = match name.parse::<IpAddr>() {
                    Ok(ip) => Host::Ip(ip),
                    Err(_) => Host::Name(name.to_lowercase()),
                };
                (host, port)
            }
        };
        let port = match port {
            Some(port) => Some(port.parse().ok().filter(|port| *port > 0)?),
            None => None,
        };
        (host != Host::Name(String::new())).then_some(Self {
            host,
            port,
            secure: false,
            has_uri: !uri.is_empty(),
        })
    }

    /// The port that nginx takes; `None` where it takes none.
    pub(crate) fn port_or_default(&self, protocol: Protocol) -> Option<u16> {
        let default = match (protocol, self.secure) {
            (Protocol::Http, false) => Some(80),
            (Protocol::Http, true) => Some(443),
            _ => None,
        };
        self.port.or(default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(protocol: Protocol, text: &str) -> Option<(String, Option<u16>, bool, bool)> {
        Target::parse(protocol, text).map(|target| {
            let host = match &target.host {
                Host::Ip(ip) => ip.to_string(),
                Host::Name(name) => name.clone(),
                Host::Unix(path) => format!("unix:{path}"),
            };
            let port = target.port_or_default(protocol);
            (host, port, target.secure, target.has_uri)
        })
    }

    #[test]
    fn addresses_are_read_as_nginx_reads_them() {
        use Protocol::{FastCgi, Grpc, Http, Stream};
        for (protocol, text, host, port, secure, has_uri) in [
            (
                Http,
                "http://127.0.0.1:3000",
                "127.0.0.1",
                Some(3000),
                false,
                false,
            ),
            (
                Http,
                "http://App.test/api/",
                "app.test",
                Some(80),
                false,
                true,
            ),
            (Http, "https://[::1]/?a", "::1", Some(443), true, true),
            (
                Http,
                "http://unix:/run/a.sock",
                "unix:/run/a.sock",
                Some(80),
                false,
                false,
            ),
            (
                Http,
                "http://unix:/run/a.sock:/x",
                "unix:/run/a.sock",
                Some(80),
                false,
                true,
            ),
            (
                FastCgi,
                "unix:/run/php.sock",
                "unix:/run/php.sock",
                None,
                false,
                false,
            ),
            (
                FastCgi,
                "localhost:9000",
                "localhost",
                Some(9000),
                false,
                false,
            ),
            (Grpc, "grpcs://a:50051", "a", Some(50051), true, false),
            (Grpc, "a:50051", "a", Some(50051), false, false),
            (Stream, "db:3306", "db", Some(3306), false, false),
        ] {
            let expected = Some((host.to_owned(), port, secure, has_uri));
            assert_eq!(read(protocol, text), expected, "{text}");
        }
        for text in [
            "127.0.0.1:80",
            "http://$a",
            "http://",
            "http://a:0",
            "http://a:99999",
            "http://[::1",
            "http://unix:",
        ] {
            assert_eq!(read(Http, text), None, "{text}");
        }
    }
}
