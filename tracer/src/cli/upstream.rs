//! `--upstream`: an address that nginx connects to, or the name of an upstream block.

use std::net::{IpAddr, SocketAddr};

use crate::verdict::Verdict;

/// Which verdicts are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Upstream {
    /// `127.0.0.1:3000`, `[::1]:3000`, `unix:/run/app.sock`, as verdicts have it.
    Address(String),
    /// The name in `upstream NAME { … }`.
    Block(String),
}

/// Reads one.
pub(super) fn parse(text: &str) -> Result<Upstream, String> {
    if text.starts_with("unix:/") {
        return Ok(Upstream::Address(text.to_owned()));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Upstream::Address(address.to_string()));
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        let example = SocketAddr::new(ip, 80);
        return Err(format!("an address needs its port, as in {example}"));
    }
    if text.starts_with('/') {
        return Err(format!("a unix socket is written as unix:{text}"));
    }
    let is_name = |c: char| !c.is_whitespace() && !c.is_control() && !"/:[]{};".contains(c);
    if !text.is_empty() && text.chars().all(is_name) {
        return Ok(Upstream::Block(text.to_owned()));
    }
    Err(
        "neither an address (127.0.0.1:3000, [::1]:3000, unix:/run/app.sock) \
         nor the name of an upstream block"
            .to_owned(),
    )
}

impl Upstream {
    /// Is the verdict on it?
    pub(super) fn has(&self, verdict: &Verdict) -> bool {
        self.is_called(
            verdict.upstream.as_deref(),
            verdict.upstream_name.as_deref(),
        )
    }

    fn is_called(&self, upstream: Option<&str>, block: Option<&str>) -> bool {
        match self {
            Self::Address(address) => upstream == Some(address),
            Self::Block(name) => block == Some(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_an_address_or_a_name() {
        let address = |text: &str| Ok(Upstream::Address(text.to_owned()));
        assert_eq!(parse("127.0.0.1:3000"), address("127.0.0.1:3000"));
        assert_eq!(parse("[0:0::1]:3000"), address("[::1]:3000"));
        assert_eq!(parse("unix:/run/app.sock"), address("unix:/run/app.sock"));
        assert_eq!(parse("foo"), Ok(Upstream::Block("foo".to_owned())));
        assert_eq!(
            parse("api.v1_blue"),
            Ok(Upstream::Block("api.v1_blue".to_owned()))
        );
    }

    #[test]
    fn a_name_is_a_block_s_and_an_address_a_server_s() {
        let server = Some("127.0.0.1:3000");
        let block = parse("app").expect("a name");
        assert!(block.is_called(server, Some("app")) && block.is_called(None, Some("app")));
        assert!(!block.is_called(server, Some("other")) && !block.is_called(server, None));
        let address = parse("127.0.0.1:3000").expect("an address");
        assert!(address.is_called(server, Some("app")));
        assert!(!address.is_called(Some("127.0.0.1:3001"), Some("app")));
    }

    #[test]
    fn what_is_neither_is_refused_with_a_hint() {
        for (text, said) in [
            ("127.0.0.1", "127.0.0.1:80"),
            ("::1", "[::1]:80"),
            ("/run/app.sock", "unix:/run/app.sock"),
            ("http://app", "neither an address"),
            ("app:3000", "neither an address"),
            ("", "neither an address"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
