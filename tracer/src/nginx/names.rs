//! Host names of upstreams in the configuration. nginx looks one up when it starts or reloads, and
//! keeps the addresses (`ngx_parse_url`), unless it has the parameter `resolve` or is in a
//! variable.

use std::{
    collections::HashSet,
    io::{self, Read as _},
    net::IpAddr,
    path::Path,
};

use super::config::{self, Line};
use crate::{
    event::fact::{ConfigLine, NameView, NamesView},
    process::{
        self,
        foreign::{Kind, Root},
    },
};

/// Names in an answer at most, and addresses of each.
const NAMES: usize = 4;
const ADDRESSES: usize = 8;
/// Of the hosts file so much is read.
const HOSTS: u64 = 1 << 20;
const PASSES: [&[u8]; 5] = [
    b"proxy_pass",
    b"fastcgi_pass",
    b"uwsgi_pass",
    b"scgi_pass",
    b"grpc_pass",
];

#[derive(Default)]
struct Found {
    blocks: HashSet<Vec<u8>>,
    names: Vec<(String, ConfigLine)>,
}

/// Names that the configuration gives upstreams with this port, and what the hosts file in the root
/// of `pid` says of them now.
///
/// # Errors
/// As [`config::returns`].
pub(crate) fn names(pid: u32, conf: &Path, port: u16) -> io::Result<NamesView> {
    let (mut depth, mut inside) = (0_u32, None);
    let found = config::ask(pid, conf, move |found: &mut Found, line| {
        if let (b'{', [b"upstream", block]) = (line.end, line.words) {
            found.blocks.insert(block.to_vec());
            inside = Some(depth);
        }
        let name = match (line.end, line.words) {
            (b';', [b"server", address, parameters @ ..])
                if inside.is_some() && !parameters.contains(&&b"resolve"[..]) =>
            {
                name(address, port)
            }
            (b';', [directive, address, ..]) if PASSES.contains(directive) => name(address, port),
            _ => None,
        };
        match line.end {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.saturating_sub(1);
                inside = inside.filter(|&outside| outside < depth);
            }
            _ => {}
        }
        found.add(name, line);
    })?;
    let names = found
        .names
        .into_iter()
        .filter(|(name, _)| !found.blocks.contains(name.as_bytes()))
        .take(NAMES);
    let hosts = hosts(pid).unwrap_or_default();
    let names = names.map(|(name, at)| NameView {
        now: addresses(&hosts, &name),
        name,
        at,
    });
    Ok(NamesView {
        names: names.collect(),
    })
}

impl Found {
    fn add(&mut self, name: Option<String>, line: &Line<'_>) {
        if let Some(name) = name
            && self.names.iter().all(|(known, _)| *known != name)
            && self.names.len() < 64 * NAMES
        {
            self.names.push((name, line.shown()));
        }
    }
}

/// The host name of `http://app:8000/path` or `app:8000`, if that has this port.
fn name(address: &[u8], wanted: u16) -> Option<String> {
    let address = std::str::from_utf8(address).ok()?;
    let (scheme, rest) = address.split_once("://").unwrap_or(("http", address));
    if address.contains('$') || rest.starts_with("unix:") || rest.starts_with('[') {
        return None;
    }
    let end = rest.split(['/', '?', '#']).next()?;
    let default = match scheme {
        "https" | "grpcs" => 443,
        _ => 80,
    };
    let (host, port) = match end.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (end, default),
    };
    let is_name = port == wanted && !host.is_empty() && host.parse::<IpAddr>().is_err();
    is_name.then(|| host.to_owned())
}

/// The hosts file as the process sees it: a container has its own.
///
/// # Errors
/// It cannot be read, or not in time.
pub(crate) fn hosts(pid: u32) -> io::Result<String> {
    let status = process::status(pid).map_err(io::Error::other)?;
    process::bounded_by(config::PATIENCE, pid, move || {
        let file = Root::of(pid, &status)?.open(Path::new("/etc/hosts"), Kind::File)?;
        let mut text = Vec::new();
        file.take(HOSTS).read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    })
}

/// The addresses that a hosts file gives a name, at most 8.
#[must_use]
pub(crate) fn addresses(hosts: &str, name: &str) -> Vec<IpAddr> {
    let has_name = |line: &&str| {
        let words = line.split_ascii_whitespace().skip(1);
        words
            .take_while(|word| !word.starts_with('#'))
            .any(|word| word.eq_ignore_ascii_case(name))
    };
    let lines = hosts.lines().filter(has_name);
    let addresses = lines.filter_map(|line| line.split_ascii_whitespace().next()?.parse().ok());
    addresses.take(ADDRESSES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_nginx_looks_up_at_its_start() {
        for (address, port, expected) in [
            ("http://app:8000/api", 8000, Some("app")),
            ("https://app", 443, Some("app")),
            ("app", 80, Some("app")),
            ("grpcs://app.test/", 443, Some("app.test")),
            ("http://app:8000", 8001, None),
            ("http://$app:8000", 8000, None),
            ("http://10.0.0.1:8000", 8000, None),
            ("http://[::1]:8000", 8000, None),
            ("http://unix:/run/app.sock:/", 80, None),
        ] {
            assert_eq!(name(address.as_bytes(), port).as_deref(), expected);
        }
    }

    #[test]
    fn what_a_hosts_file_says_of_a_name() {
        let hosts =
            "127.0.0.1 localhost\n172.29.0.3\tapp.test APP # old\n#172.29.0.9 app\nfd00::3 app\n";
        let expected: Vec<IpAddr> = ["172.29.0.3", "fd00::3"]
            .map(|ip| ip.parse().unwrap())
            .to_vec();
        assert_eq!(addresses(hosts, "app"), expected);
        assert!(addresses(hosts, "old").is_empty());
    }

    #[test]
    fn a_block_s_name_is_none_of_a_host() {
        let folder = std::env::temp_dir().join(format!("tracer-names-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let conf = folder.join("nginx.conf");
        let text = "http { upstream web { server app:8000; server api:8000 resolve; }\n\
                    server { location / { proxy_pass http://web:8000; proxy_pass http://other:8000/; } } }";
        std::fs::write(&conf, text).unwrap();
        let view = names(std::process::id(), &conf, 8000).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let found: Vec<&str> = view.names.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(found, ["app", "other"]);
        assert_eq!(view.names[0].at.line, 1);
    }
}
