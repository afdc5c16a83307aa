//! Names as a worker's C library resolves them (`getaddrinfo` in the process's own root: its hosts
//! file, then the servers of its resolv.conf), and as nginx's own `resolver` does.
//!
//! Where other sources may know a name (`nsswitch.conf`), nothing is claimed of one that is not
//! found.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use super::dns::{self, Answer, Family};
use crate::{
    nginx,
    process::{self, foreign},
    source::system,
};

/// What became of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lookup {
    Found(Vec<IpAddr>),
    /// It does not resolve: why, in words.
    Missing(String),
    /// A server answered that it cannot say: which, and how.
    Refused(String),
    /// No server answered: which, and how it failed.
    Silent(String),
    /// It cannot be said.
    Unknown,
}

const LIMIT: u64 = 64 << 10;
const DNS_PORT: u16 = 53;
/// As the C library asks no more.
const SERVERS: usize = 3;
/// The stub of systemd-resolved, which knows what its module knows.
const STUB: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)),
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 54)),
];

/// How a process's C library resolves names.
#[derive(Debug, Clone, Default)]
pub(super) struct Library {
    hosts: String,
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    dots: usize,
    /// Sources other than files and DNS.
    sources: Vec<String>,
    has_v4: bool,
    has_v6: bool,
    /// This host's name.
    host: String,
}

impl Library {
    /// That of a process, by the files in its root.
    pub(super) fn of(pid: u32) -> Self {
        let mut is_known = true;
        let mut read = |path: &str| {
            let bytes = foreign::read_path(pid, Path::new(path), LIMIT);
            is_known &= bytes.as_ref().err().is_none_or(is_absence);
            String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
        };
        let (resolv, nsswitch) = (read("/etc/resolv.conf"), read("/etc/nsswitch.conf"));
        let hosts = nginx::hosts(pid);
        is_known &= hosts.as_ref().err().is_none_or(is_absence);
        let proc = |name: &str| {
            let bytes = process::read_start(format!("/proc/{pid}/net/{name}"), 1 << 20);
            String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
        };
        let mut library = Self {
            hosts: hosts.unwrap_or_default(),
            has_v4: has_v4(&proc("fib_trie")),
            has_v6: has_v6(&proc("if_inet6")),
            // Here and now: the threads that look names up are in another's root.
            host: system::host(),
            ..Self::default()
        };
        library.configure(&resolv, &nsswitch);
        // nginx's master may read what its worker may not.
        let unread = (!is_known).then(|| "unread".to_owned());
        library.sources.extend(unread);
        library
    }

    fn configure(&mut self, resolv: &str, nsswitch: &str) {
        self.dots = 1;
        for line in resolv.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    // A scope names an interface, which may be another's here.
                    let server = words.next().and_then(|ip| ip.parse::<IpAddr>().ok());
                    self.servers
                        .extend(server.map(|ip| SocketAddr::new(ip, DNS_PORT)));
                }
                Some("search" | "domain") => self.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    let mut dots = words.filter_map(|word| word.strip_prefix("ndots:"));
                    self.dots = dots.next().and_then(|dots| dots.parse().ok()).unwrap_or(1);
                }
                _ => {}
            }
        }
        self.servers.truncate(SERVERS);
        if self.servers.is_empty() {
            self.servers = vec![(Ipv4Addr::LOCALHOST, DNS_PORT).into()];
        }
        let hosts = nsswitch
            .lines()
            .find_map(|line| line.trim().strip_prefix("hosts:"));
        let has_stub = self
            .servers
            .iter()
            .any(|server| STUB.contains(&server.ip()));
        let is_known = |source: &str| {
            source.starts_with(['[', '!'])
                || source.ends_with(']')
                || ["files", "dns"].contains(&source)
                || (source == "resolve" && has_stub)
        };
        let sources = hosts.unwrap_or_default().split_ascii_whitespace();
        self.sources = sources
            .take_while(|word| !word.starts_with('#'))
            .filter(|source| !is_known(source))
            .map(str::to_owned)
            .collect();
    }

    /// Resolves a name, on a thread in the process's place.
    pub(super) fn find(&self, name: &str, patience: Duration) -> Lookup {
        let known = nginx::addresses(&self.hosts, name);
        if !known.is_empty() {
            return Lookup::Found(self.usable(known));
        }
        let mut outcome = Lookup::Unknown;
        for full in self.candidates(name) {
            match self.ask(&full, patience) {
                Lookup::Found(addresses) => return Lookup::Found(self.usable(addresses)),
                other => outcome = other,
            }
        }
        if self.may_know(name) {
            return Lookup::Unknown;
        }
        outcome
    }

    /// May a source that is not asked know it?
    fn may_know(&self, name: &str) -> bool {
        let is_special = name == "localhost"
            || name.ends_with(".localhost")
            || name.starts_with('_')
            || !name.contains('.') && self.host == name;
        is_special
            || self.sources.iter().any(|source| match source.as_str() {
                "myhostname" => false,
                source if source.starts_with("mdns") => name.ends_with(".local"),
                _ => true,
            })
    }

    /// The names that are queried, in the C library's order.
    fn candidates(&self, name: &str) -> Vec<String> {
        let absolute = name.trim_end_matches('.').to_owned();
        if name.ends_with('.') {
            return vec![absolute];
        }
        let dots = name.matches('.').count();
        let searched = self.search.iter().map(|domain| format!("{name}.{domain}"));
        if dots >= self.dots {
            std::iter::once(absolute).chain(searched).collect()
        } else {
            searched.chain([absolute]).collect()
        }
    }

    fn ask(&self, name: &str, patience: Duration) -> Lookup {
        let mut failures = Vec::new();
        for server in &self.servers {
            match both(*server, name, (true, true), patience) {
                // As the C library does: the next one may say it.
                Ok(Lookup::Refused(why)) => failures.push(why),
                Ok(lookup) => return lookup,
                Err(error) => failures.push(failure(*server, &error)),
            }
        }
        Lookup::Silent(failures.join(", "))
    }

    /// What `AI_ADDRCONFIG` leaves: families of which the process has an address other than a
    /// loopback's; all, where it has of neither.
    fn usable(&self, mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
        match (self.has_v4, self.has_v6) {
            (true, false) => addresses.retain(IpAddr::is_ipv4),
            (false, true) => addresses.retain(IpAddr::is_ipv6),
            _ => {}
        }
        addresses
    }
}

/// Asks one of nginx's own resolvers.
pub(super) fn resolve(
    servers: &[SocketAddr],
    name: &str,
    families: (bool, bool),
    patience: Duration,
) -> (Lookup, Vec<String>) {
    let mut outcome = None;
    let mut failures = Vec::new();
    for server in servers {
        match both(*server, name, families, patience) {
            Ok(found @ Lookup::Found(_)) => {
                outcome = Some(found);
            }
            Ok(other) => outcome = outcome.or(Some(other)),
            Err(error) => failures.push(failure(*server, &error)),
        }
    }
    let silent = || Lookup::Silent(failures.join(", "));
    (outcome.unwrap_or_else(silent), failures)
}

/// Asks a server for both families; an answer of one is enough.
fn both(
    server: SocketAddr,
    name: &str,
    (v4, v6): (bool, bool),
    patience: Duration,
) -> io::Result<Lookup> {
    let mut found = Vec::new();
    let mut why = None;
    for family in [Family::V4, Family::V6] {
        let is_asked = if family == Family::V4 { v4 } else { v6 };
        if !is_asked {
            continue;
        }
        match dns::ask(server, name, family, patience) {
            Ok(Answer::Addresses(addresses)) => found.extend(addresses),
            Ok(Answer::Code(code)) => why = Some(code),
            // Some servers do not answer for IPv6.
            Err(_) if !found.is_empty() => {}
            Err(error) => return Err(error),
        }
    }
    if found.is_empty() {
        let text = why.map_or_else(|| "no address".to_owned(), dns::code);
        let text = format!("{server} answers {text}");
        return Ok(match why {
            Some(dns::SERVFAIL | dns::NOTIMP | dns::REFUSED) => Lookup::Refused(text),
            _ => Lookup::Missing(text),
        });
    }
    Ok(Lookup::Found(found))
}

/// No file is there, which says something, too.
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn failure(server: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            format!("{server} does not answer")
        }
        io::ErrorKind::ConnectionRefused => format!("{server} refuses"),
        _ => format!("{server}: {error}"),
    }
}

/// Whether there is an IPv4 address other than a loopback's. (`/proc/net/fib_trie`)
fn has_v4(trie: &str) -> bool {
    let mut last: Option<Ipv4Addr> = None;
    trie.lines().any(|line| {
        let line = line.trim_start();
        if let Some(ip) = line.strip_prefix("|-- ") {
            last = ip.parse().ok();
        }
        line.starts_with("/32 host LOCAL") && last.is_some_and(|ip| !ip.is_loopback())
    })
}

/// The same for IPv6. (`/proc/net/if_inet6`)
fn has_v6(addresses: &str) -> bool {
    let loopback = "00000000000000000000000000000001";
    addresses.lines().any(|line| !line.starts_with(loopback))
}

/// For the fuzz targets: reads files of `/etc` and `/proc`, whatever they are.
pub fn read_files(text: &str) {
    let mut library = Library::default();
    library.configure(text, text);
    let _ = (library.candidates("a"), has_v4(text), has_v6(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(resolv: &str, nsswitch: &str) -> Library {
        let mut library = Library::default();
        library.configure(resolv, nsswitch);
        library
    }

    #[test]
    fn a_name_is_searched_for_as_resolv_conf_has_it() {
        let one = library(
            "search a.test b.test\noptions ndots:2\nnameserver 10.0.0.1\n",
            "",
        );
        assert_eq!(one.candidates("x.y"), ["x.y.a.test", "x.y.b.test", "x.y"]);
        assert_eq!(
            one.candidates("x.y.z"),
            ["x.y.z", "x.y.z.a.test", "x.y.z.b.test"]
        );
        assert_eq!(one.candidates("x."), ["x"]);
        assert_eq!(one.servers, ["10.0.0.1:53".parse().unwrap()]);
        assert_eq!(library("", "").servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn of_names_that_others_may_know_nothing_is_claimed() {
        let plain = library(
            "nameserver 10.0.0.1",
            "passwd: files\nhosts: files dns # x\n",
        );
        assert!(!plain.may_know("app.test") && plain.may_know("localhost"));
        let sources = "hosts: files mdns4_minimal [NOTFOUND=return] dns myhostname";
        let usual = library("nameserver 10.0.0.1", sources);
        assert!(!usual.may_know("app.test") && usual.may_know("printer.local"));
        let sources = "hosts: files resolve [!UNAVAIL=return] dns";
        assert!(library("nameserver 10.0.0.1", sources).may_know("app.test"));
        assert!(!library("nameserver 127.0.0.53", sources).may_know("app.test"));
        assert!(library("", "hosts: files ldap").may_know("app.test"));
    }

    #[test]
    fn families_without_an_address_are_left_out() {
        let both: Vec<IpAddr> = vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        let mut library = Library::default();
        assert_eq!(library.usable(both.clone()), both);
        library.has_v4 = true;
        assert_eq!(library.usable(both.clone()), both[..1]);
        let trie = "Local:\n  +-- 0.0.0.0/0\n     |-- 10.0.0.5\n        /32 host LOCAL\n";
        assert!(has_v4(trie) && !has_v4(&trie.replace("10.0.0.5", "127.0.0.1")));
        assert!(!has_v6(
            "00000000000000000000000000000001 01 80 10 80       lo\n"
        ));
        assert!(has_v6(
            "fe800000000000000000000000000001 02 40 20 80     eth0\n"
        ));
    }
}
