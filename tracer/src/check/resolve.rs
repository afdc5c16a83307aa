//! The names of a configuration, resolved as nginx resolves them, and what the workers keep.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{
    connect::Address,
    finding::Severity,
    names::{self, Library, Lookup},
    pool,
    subject::Subject,
    targets::{Group, Member, Resolver},
    tcp::Fault,
    words::quoted,
};
use crate::nginx::{
    self, Remembered,
    config::{At, Host},
};

/// The name was resolved to other addresses when the workers began.
pub(crate) const NAME_CHANGED: &str = "name-changed";

type Key = (String, Resolver);

/// What names resolve to.
#[derive(Debug, Default)]
pub(super) struct Names {
    found: HashMap<Key, Lookup>,
    /// Servers of a resolver that did not answer, though others did.
    silent: BTreeMap<Resolver, BTreeSet<String>>,
    remembered: Option<Remembered>,
    /// Addresses that the configuration has itself.
    literal: BTreeSet<SocketAddr>,
}

/// Addresses that the workers keep of a name that has others now.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) fault: Fault,
    pub(super) addresses: Vec<SocketAddr>,
}

/// Where a member of a group is.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub(super) addresses: Vec<Address>,
    pub(super) fault: Option<Fault>,
    /// It could not be found out.
    pub(super) untried: Option<String>,
    /// It was elsewhere when the workers began: there they still connect to.
    pub(super) kept: Option<Kept>,
}

impl Names {
    /// Resolves all names of these groups.
    ///
    /// # Errors
    /// The worker's place cannot be entered.
    pub(super) fn of(
        subject: &Subject,
        groups: &[Group<'_>],
        patience: Duration,
    ) -> io::Result<Self> {
        let members = || groups.iter().flat_map(|group| &group.members);
        let wanted: BTreeSet<Key> = members().filter_map(key).collect();
        let wanted: Vec<Key> = wanted.into_iter().collect();
        let library = match wanted.iter().any(|(_, by)| *by == Resolver::Library) {
            true => Library::of(subject.viewer),
            false => Library::default(),
        };
        // A name is looked up at several servers, with several endings.
        let waits = patience * 64;
        let looked = pool::each(
            wanted.clone(),
            subject.guest.as_ref(),
            waits,
            &|_, _| {},
            move |(name, by)| match by {
                Resolver::Library => (library.find(name, patience), Vec::new()),
                Resolver::Own(own) if !own.servers.is_empty() => {
                    names::resolve(&own.servers, name, (own.v4, own.v6), patience)
                }
                Resolver::Own(_) | Resolver::None => (Lookup::Unknown, Vec::new()),
            },
        )?;
        let unknown = || (Lookup::Unknown, Vec::new());
        let looked = looked.into_iter().map(|one| one.unwrap_or_else(unknown));
        let mut names = Self::default();
        for (key, (lookup, silent)) in wanted.into_iter().zip(looked) {
            if !silent.is_empty() && !matches!(lookup, Lookup::Silent(_)) {
                names
                    .silent
                    .entry(key.1.clone())
                    .or_default()
                    .extend(silent);
            }
            names.found.insert(key, lookup);
        }
        names.literal = members()
            .filter_map(|member| match member.host {
                Host::Ip(ip) => Some(SocketAddr::new(ip, member.port)),
                _ => None,
            })
            .collect();
        names.remember(subject, members());
        Ok(names)
    }

    /// Looks up in a worker's memory what it resolved the names to.
    fn remember<'a>(&mut self, subject: &Subject, members: impl Iterator<Item = &'a Member>) {
        let Some(&worker) = subject.workers.first().filter(|_| subject.since.is_some()) else {
            return;
        };
        let addresses = members.flat_map(|member| {
            let key = key(member).filter(|(_, by)| *by == Resolver::Library);
            match key.and_then(|key| self.found.get(&key)) {
                Some(Lookup::Found(ips)) => ips
                    .iter()
                    .map(|ip| SocketAddr::new(*ip, member.port))
                    .collect(),
                _ => Vec::new(),
            }
        });
        let addresses: BTreeSet<_> = addresses.collect();
        if !addresses.is_empty() {
            let addresses: Vec<_> = addresses.into_iter().collect();
            self.remembered = nginx::remembered(worker, &addresses);
        }
    }

    /// Where a member is, or why it is nowhere.
    pub(super) fn place(&self, subject: &Subject, member: &Member) -> Place {
        let tcp = |ip: IpAddr| Address::Tcp(SocketAddr::new(ip, member.port));
        let name = match &member.host {
            Host::Ip(ip) => {
                return Place {
                    addresses: vec![tcp(*ip)],
                    ..Place::default()
                };
            }
            Host::Unix(path) if !path.starts_with(['/', '@']) => {
                return Place {
                    untried: Some(format!("unix:{path}: a relative path")),
                    ..Place::default()
                };
            }
            Host::Unix(path) => {
                return Place {
                    addresses: vec![Address::Unix(path.clone())],
                    ..Place::default()
                };
            }
            Host::Name(name) => name,
        };
        if member.resolver == Resolver::None {
            let text = format!(
                "{name} is resolved with each request, and no resolver is configured: requests fail with 502"
            );
            let fix =
                "Add resolver with your DNS server to http or server, or name an upstream block"
                    .to_owned();
            return Place {
                fault: Some(Fault::error("dns-failed", text, fix)),
                ..Place::default()
            };
        }
        let lookup = self.found.get(&(name.clone(), member.resolver.clone()));
        match lookup {
            Some(Lookup::Found(ips)) => {
                let (ips, kept) = self.kept(subject, member, name, ips);
                Place {
                    addresses: ips.into_iter().map(tcp).collect(),
                    kept,
                    ..Place::default()
                }
            }
            Some(Lookup::Missing(why) | Lookup::Refused(why) | Lookup::Silent(why)) => Place {
                fault: Some(unresolved(subject.viewer, name, &member.resolver, why)),
                ..Place::default()
            },
            Some(Lookup::Unknown) | None => Place {
                untried: Some(format!("{name}: how it is resolved is not known")),
                ..Place::default()
            },
        }
    }

    /// Those that the workers use, where their memory shows it.
    fn kept(
        &self,
        subject: &Subject,
        member: &Member,
        name: &str,
        ips: &[IpAddr],
    ) -> (Vec<IpAddr>, Option<Kept>) {
        let all = || ips.to_vec();
        let is_static = member.resolver == Resolver::Library;
        let Some(remembered) = self.remembered.as_ref().filter(|_| is_static) else {
            return (all(), None);
        };
        if subject.is_newer(&member.at.file) {
            return (all(), None);
        }
        let address = |ip: &IpAddr| SocketAddr::new(*ip, member.port);
        let used: Vec<IpAddr> = ips
            .iter()
            .copied()
            .filter(|ip| remembered.there.contains(&address(ip)))
            .collect();
        if !used.is_empty() {
            return (used, None);
        }
        let others: Vec<SocketAddr> = remembered
            .others
            .iter()
            .copied()
            .filter(|other| other.port() == member.port && !self.literal.contains(other))
            .collect();
        if others.is_empty() || others.len() > 4 {
            return (all(), None);
        }
        let old: Vec<String> = others.iter().map(ToString::to_string).collect();
        let now: Vec<String> = ips.iter().map(|ip| address(ip).to_string()).collect();
        let text = format!(
            "{name} resolves to {} now; the workers keep {} from when they began",
            now.join(", "),
            old.join(", ")
        );
        let fix = "Reload nginx, or have it resolve the name again by resolver and a variable (or server … resolve); now: nginx -s reload".to_owned();
        let kept = Kept {
            fault: Fault::note(NAME_CHANGED, text, fix),
            addresses: others,
        };
        (all(), Some(kept))
    }

    /// Resolvers' servers that do not answer, each at its directive.
    pub(super) fn silent(&self) -> Vec<(At, Fault)> {
        let silent = self.silent.iter().filter_map(|(resolver, servers)| {
            let Resolver::Own(own) = resolver else {
                return None;
            };
            let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
            let fault = Fault {
                severity: Severity::Warning,
                cause: "dns-failed",
                text: format!(
                    "resolver: {}; nginx asks all of its servers in turn",
                    servers.join(", ")
                ),
                fix: "Remove the server from resolver, or start it".to_owned(),
            };
            Some((own.at.clone(), fault))
        });
        silent.collect()
    }
}

fn key(member: &Member) -> Option<Key> {
    match &member.host {
        Host::Name(name) => Some((name.clone(), member.resolver.clone())),
        _ => None,
    }
}

fn unresolved(worker: u32, name: &str, resolver: &Resolver, why: &str) -> Fault {
    let word = quoted(name);
    let (effect, fix) = match resolver {
        // No program of the worker's root is named: it would run with all of root's rights.
        Resolver::Library => (
            "nginx does not start or reload",
            format!(
                "Add the name to DNS or /etc/hosts (of the worker: /proc/{worker}/root/etc); see: nsenter -t {worker} -n dig {word}"
            ),
        ),
        _ => (
            "requests fail with 502",
            format!(
                "Add the name to DNS, or correct resolver; see: nsenter -t {worker} -n dig {word}"
            ),
        ),
    };
    Fault::error(
        "dns-failed",
        format!("{name} does not resolve: {why}; {effect}"),
        fix,
    )
}
