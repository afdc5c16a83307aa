//! What `--otlp` names: a collector's address. A name is resolved here, once, when the command line
//! is read: what parses hostile bytes later asks no resolver.

use std::{
    fmt,
    net::{SocketAddr, ToSocketAddrs as _},
};

use hyper::{Uri, http::uri::Scheme};

/// The port of OTLP over HTTP.
const PORT: u16 = 4318;
/// Addresses that are tried.
const ADDRESSES: usize = 8;

/// A collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// What a request's `Host` is.
    pub(super) authority: String,
    /// Before `/v1/logs`; without a slash at its end.
    pub(super) path: String,
    pub(super) addresses: Vec<SocketAddr>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// Reads `http://HOST[:PORT][/PATH]`.
///
/// # Errors
/// It is something else, or its host has no address.
pub(crate) fn parse(text: &str) -> Result<Endpoint, String> {
    let wrong = || "an endpoint such as http://127.0.0.1:4318".to_owned();
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTP => {}
        Some(scheme) if *scheme == Scheme::HTTPS => {
            return Err(
                "tracer has no TLS: send to a collector on this host by http://, which \
                 sends on by https"
                    .to_owned(),
            );
        }
        _ => return Err(wrong()),
    }
    let authority = uri.authority().ok_or_else(wrong)?;
    if authority.as_str().contains('@') || uri.query().is_some() {
        return Err("an endpoint has no user, password or query".to_owned());
    }
    let host = authority.host().trim_matches(['[', ']']);
    let port = match authority.as_str().strip_prefix(authority.host()) {
        Some("") => PORT,
        _ => authority
            .port_u16()
            .filter(|&port| port != 0)
            .ok_or_else(wrong)?,
    };
    let found = (host, port).to_socket_addrs();
    let found = found.map_err(|error| format!("{host} cannot be resolved: {error}"))?;
    let addresses: Vec<SocketAddr> = found.take(ADDRESSES).collect();
    match addresses.is_empty() {
        true => Err(format!("{host} has no address")),
        false => Ok(Endpoint {
            authority: format!("{}:{port}", authority.host()),
            path: uri.path().trim_end_matches('/').to_owned(),
            addresses,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_address_with_a_port_and_a_path_where_given() {
        for (text, authority, path, address) in [
            ("http://127.0.0.1", "127.0.0.1:4318", "", "127.0.0.1:4318"),
            ("http://127.0.0.1:80/", "127.0.0.1:80", "", "127.0.0.1:80"),
            ("http://[::1]:9/otlp/", "[::1]:9", "/otlp", "[::1]:9"),
            ("HTTP://10.0.0.7:4318", "10.0.0.7:4318", "", "10.0.0.7:4318"),
        ] {
            let endpoint = parse(text).expect(text);
            assert_eq!(endpoint.authority, authority, "{text}");
            assert_eq!(endpoint.path, path, "{text}");
            assert_eq!(endpoint.addresses, [address.parse().expect("an address")]);
        }
        let local = parse("http://localhost:4318").expect("resolved");
        assert!(local.addresses.iter().all(|one| one.ip().is_loopback()));
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_what_to_write() {
        for (text, why) in [
            ("https://127.0.0.1:4318", "no TLS"),
            ("", "such as http://127.0.0.1:4318"),
            ("127.0.0.1:4318", "such as"),
            ("grpc://127.0.0.1:4317", "such as"),
            ("http://127.0.0.1:0", "such as"),
            ("http://127.0.0.1:99999", "such as"),
            ("http://127.0.0.1:", "such as"),
            ("http://user:secret@127.0.0.1", "no user"),
            ("http://127.0.0.1/v1?token=x", "query"),
            ("http://nobody.invalid", "cannot be resolved"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
