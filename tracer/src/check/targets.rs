//! Whom a configuration has nginx connect to: groups of servers of which nginx takes any.
//!
//! What only a request or a script decides is left out, and so are upstream blocks that nothing
//! passes to.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::tls::Tls;
use crate::nginx::config::{
    At, Directive, Host, Pass, Protocol, Scope, Server, Target, Tree, Upstream, milliseconds,
    passes, upstreams,
};

/// Values of one pass, and groups of one configuration.
const GROUPS: usize = 4096;
const DNS_PORT: u16 = 53;

/// Who resolves a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Resolver {
    /// The C library, when nginx reads its configuration.
    Library,
    /// nginx itself with each request, by these servers.
    Own(Resolvers),
    /// It would be nginx itself, and no server is configured.
    None,
}

/// A `resolver` directive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Resolvers {
    pub(super) at: At,
    pub(super) servers: Vec<SocketAddr>,
    /// Not all of its servers are addresses.
    pub(super) has_names: bool,
    pub(super) v4: bool,
    pub(super) v6: bool,
}

/// A server of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) host: Host,
    /// 0 of a unix socket.
    pub(super) port: u16,
    pub(super) at: At,
    pub(super) resolver: Resolver,
    pub(super) backup: bool,
}

/// Servers that nginx tries one after another.
#[derive(Debug, Clone)]
pub(super) struct Group<'a> {
    /// The first pass that leads to it.
    pub(super) pass: Pass<'a>,
    pub(super) target: Target,
    pub(super) upstream: Option<Upstream<'a>>,
    pub(super) members: Vec<Member>,
    pub(super) tls: Option<Tls>,
    pub(super) bind: Option<(IpAddr, At)>,
    /// The `Host` of a request.
    pub(super) host: String,
    /// How long nginx keeps idle connections; `None`: it does not.
    pub(super) keepalive: Option<Duration>,
    pub(super) is_udp: bool,
}

impl Group<'_> {
    /// The name that is shown.
    pub(super) fn name(&self) -> &str {
        match &self.target.host {
            Host::Name(name) => name,
            Host::Ip(_) | Host::Unix(_) => "",
        }
    }
}

/// All groups.
pub(super) fn groups(tree: &Tree) -> Vec<Group<'_>> {
    let upstreams = upstreams(tree);
    let passes = passes(tree);
    let fixed = passes.iter().filter_map(|pass| fixed(pass, &upstreams));
    let fixed: BTreeSet<Fixed> = fixed.collect();
    let mut found: BTreeMap<_, Group<'_>> = BTreeMap::new();
    for pass in passes {
        if pass.is_dynamic() && pass.scope.is_scripted() {
            continue;
        }
        for value in pass.values().texts {
            let Some(target) = Target::parse(pass.protocol, &value) else {
                continue;
            };
            let group = group(&pass, target, &upstreams, &fixed);
            let Some(group) = group.filter(|_| found.len() < GROUPS) else {
                continue;
            };
            let members: Vec<_> = group
                .members
                .iter()
                .map(|one| (one.host.clone(), one.port, one.resolver.clone()))
                .collect();
            let key = (
                group.pass.protocol,
                members,
                group.tls.clone(),
                group.bind.clone(),
                group.upstream.as_ref().map(|one| one.name.clone()),
            );
            found.entry(key).or_insert(group);
        }
    }
    let mut groups: Vec<_> = found.into_values().collect();
    groups.sort_by(|one, other| one.pass.directive.at.cmp(&other.pass.directive.at));
    groups
}

/// A name with its port, of `stream` or not.
type Fixed = (bool, String, u16);

/// What a pass without variables names: nginx resolves it when it reads the configuration, and
/// takes that for the same name in variables, too (`ngx_http_upstream_init_request`).
fn fixed(pass: &Pass<'_>, upstreams: &[Upstream<'_>]) -> Option<Fixed> {
    (!pass.is_dynamic()).then_some(())?;
    let target = Target::parse(pass.protocol, pass.directive.value())?;
    let is_block = upstreams.iter().any(|one| one.is(pass, &target));
    (!is_block).then(|| named(pass, &target))?
}

fn named(pass: &Pass<'_>, target: &Target) -> Option<Fixed> {
    let Host::Name(name) = &target.host else {
        return None;
    };
    let port = target.port_or_default(pass.protocol)?;
    Some((pass.protocol == Protocol::Stream, name.clone(), port))
}

fn group<'a>(
    pass: &Pass<'a>,
    target: Target,
    upstreams: &[Upstream<'a>],
    fixed: &BTreeSet<Fixed>,
) -> Option<Group<'a>> {
    let upstream = upstreams.iter().find(|one| one.is(pass, &target));
    let members: Vec<Member> = match upstream {
        Some(upstream) if upstream.is_scripted => return None,
        Some(upstream) => upstream
            .servers
            .iter()
            .filter_map(|server| member(server, upstream, pass))
            .collect(),
        None => {
            let is_fixed = || named(pass, &target).is_some_and(|one| fixed.contains(&one));
            let resolver = match (&target.host, pass.is_dynamic()) {
                (Host::Name(_), true) if !is_fixed() => own_resolver(&pass.scope),
                _ => Resolver::Library,
            };
            let port = match target.host {
                Host::Unix(_) => 0,
                _ => target.port_or_default(pass.protocol)?,
            };
            vec![Member {
                host: target.host.clone(),
                port,
                at: pass.directive.at.clone(),
                resolver,
                backup: false,
            }]
        }
    };
    let host = match (&target.host, target.port) {
        (Host::Unix(_), _) => "localhost".to_owned(),
        (Host::Ip(IpAddr::V6(ip)), port) => with_port(&format!("[{ip}]"), port),
        (Host::Ip(ip), port) => with_port(&ip.to_string(), port),
        (Host::Name(name), port) => with_port(name, port),
    };
    let is_udp = pass.scope.block("server").is_some_and(|server| {
        let mut listens = server.inside().iter().filter(|one| one.name() == "listen");
        pass.protocol == Protocol::Stream
            && listens.any(|one| one.arguments().iter().any(|word| word == "udp"))
    });
    Some(Group {
        tls: tls(pass, &target),
        bind: bind(pass),
        host: sent_host(pass, host),
        keepalive: upstream.and_then(keepalive),
        members,
        upstream: upstream.cloned(),
        pass: pass.clone(),
        target,
        is_udp,
    })
}

fn with_port(host: &str, port: Option<u16>) -> String {
    port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// The `Host` that is sent, where it is fixed.
fn sent_host(pass: &Pass<'_>, own: String) -> String {
    let headers = pass.scope.all("proxy_set_header");
    let mut hosts = headers
        .iter()
        .filter(|one| one.value().eq_ignore_ascii_case("host"));
    let set = hosts.next().and_then(|one| one.words.get(2));
    let is_fixed =
        |host: &&String| !host.contains('$') && !host.is_empty() && !host.contains(['\r', '\n']);
    set.filter(is_fixed).cloned().unwrap_or(own)
}

fn member(server: &Server<'_>, upstream: &Upstream<'_>, pass: &Pass<'_>) -> Option<Member> {
    // Those that are down are not tried; a service's port comes from DNS.
    if server.has("down") || server.has("service") {
        return None;
    }
    let port = match (&server.target.host, upstream.is_stream) {
        (Host::Unix(_), _) => 0,
        (_, false) => server.target.port.unwrap_or(80),
        (_, true) => server.target.port?,
    };
    let resolver = if server.has("resolve") {
        match upstream.find("resolver") {
            Some(own) => Resolver::Own(resolvers(own)),
            None => own_resolver(&pass.scope),
        }
    } else {
        Resolver::Library
    };
    Some(Member {
        host: server.target.host.clone(),
        port,
        at: server.at.clone(),
        resolver,
        backup: server.has("backup"),
    })
}

fn own_resolver(scope: &Scope<'_>) -> Resolver {
    match scope.find("resolver") {
        Some(directive) if directive.value() == "off" => Resolver::None,
        Some(directive) => Resolver::Own(resolvers(directive)),
        // A part of the module's name that is not known: `resolver` of OpenResty's `local=on`.
        None => Resolver::None,
    }
}

fn resolvers(directive: &Directive) -> Resolvers {
    let mut found = Resolvers {
        at: directive.at.clone(),
        servers: Vec::new(),
        has_names: false,
        v4: true,
        v6: true,
    };
    for word in directive.arguments() {
        match word.as_str() {
            "ipv6=off" => found.v6 = false,
            "ipv4=off" => found.v4 = false,
            word if word.contains('=') => found.has_names |= word == "local=on",
            word => match Target::server(word) {
                Some(Target {
                    host: Host::Ip(ip),
                    port,
                    ..
                }) => found
                    .servers
                    .push(SocketAddr::new(ip, port.unwrap_or(DNS_PORT))),
                _ => found.has_names = true,
            },
        }
    }
    found
}

/// How TLS is spoken, if it is.
fn tls(pass: &Pass<'_>, target: &Target) -> Option<Tls> {
    let is_on = |name: &str| pass.find(name).is_some_and(|one| one.value() == "on");
    let is_tls = target.secure || (pass.protocol == Protocol::Stream && is_on("ssl"));
    is_tls.then_some(())?;
    let name = match pass.find("ssl_name").map(Directive::value) {
        Some(name) => name.to_owned(),
        None => match &target.host {
            Host::Name(name) => name.clone(),
            _ => String::new(),
        },
    };
    let is_sent = is_on("ssl_server_name") && !name.is_empty() && !name.contains('$');
    let protocols = pass.find("ssl_protocols").map(Directive::arguments);
    // A name that only a request has cannot be sent, and a server may refuse a hello without it;
    // one that waits for the PROXY protocol refuses any.
    let is_name_known = !is_on("ssl_server_name") || !name.contains('$');
    let is_spoken = is_name_known && !(pass.protocol == Protocol::Stream && is_on("protocol"));
    let has = |version: &str| {
        is_spoken && protocols.is_none_or(|words| words.iter().any(|word| word == version))
    };
    Some(Tls {
        name: is_sent.then(|| name.split(':').next().unwrap_or_default().to_owned()),
        has_12: has("TLSv1.2"),
        has_13: has("TLSv1.3"),
        is_h2: pass.protocol == Protocol::Grpc,
    })
}

/// `proxy_bind`, where it is a fixed address of this host's.
fn bind(pass: &Pass<'_>) -> Option<(IpAddr, At)> {
    let directive = pass.find("bind")?;
    let is_transparent = directive
        .arguments()
        .iter()
        .any(|word| word == "transparent");
    match Target::server(directive.value()) {
        Some(Target {
            host: Host::Ip(ip), ..
        }) if !is_transparent => Some((ip, directive.at.clone())),
        _ => None,
    }
}

/// How long the connections of a block are kept: 60 s by default.
fn keepalive(upstream: &Upstream<'_>) -> Option<Duration> {
    let count = upstream.find("keepalive")?;
    (count.value() != "0").then_some(())?;
    let timeout = upstream.find("keepalive_timeout").map(Directive::value);
    match timeout {
        Some(text) => milliseconds(text),
        None => Some(Duration::from_secs(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let tree = Tree::of_text(text);
        let groups = groups(&tree);
        let member = |one: &Member| match &one.host {
            Host::Ip(ip) => SocketAddr::new(*ip, one.port).to_string(),
            Host::Name(name) => format!("{name}:{}", one.port),
            Host::Unix(path) => path.clone(),
        };
        let group = |one: &Group<'_>| {
            let members: Vec<_> = one.members.iter().map(member).collect();
            let tls = one.tls.as_ref().map_or("", |_| " tls");
            format!("{}{tls}", members.join(" "))
        };
        groups.iter().map(group).collect()
    }

    #[test]
    fn groups_are_blocks_or_single_addresses_each_once() {
        let text = "http { upstream app { server 10.0.0.1:1; server b backup; server 10.0.0.3 down; }
            upstream unused { server 10.9.9.9; }
            server { location / { proxy_pass http://app; } location /a { proxy_pass http://app/x/; }
            location /b { proxy_pass https://10.0.0.2; } location ~ php { fastcgi_pass unix:/run/p.sock; } } }
            stream { server { proxy_ssl on; proxy_pass db:3306; } }";
        assert_eq!(
            shown(text),
            [
                "10.0.0.1:1 b:80",
                "10.0.0.2:443 tls",
                "/run/p.sock",
                "db:3306 tls"
            ]
        );
    }

    #[test]
    fn what_a_script_or_a_request_decides_is_left_out() {
        let text = "http { upstream lua { server 0.0.0.1; balancer_by_lua_block { x } }
            server { set $a b; location / { proxy_pass http://lua; } location /h { proxy_pass http://$host; }
            location /l { access_by_lua_file a.lua; proxy_pass http://$a; } } }";
        assert_eq!(shown(text), Vec::<String>::new());
    }

    #[test]
    fn who_resolves_a_name_is_known() {
        let text = "http { resolver 10.0.0.53 [::1]:5353 valid=9s ipv6=off; server { set $a app.test; location / { proxy_pass http://$a:8000; } } }";
        let tree = Tree::of_text(text);
        let groups = groups(&tree);
        let Resolver::Own(own) = &groups[0].members[0].resolver else {
            panic!("{:?}", groups[0].members);
        };
        let servers: Vec<_> = own.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.53:53", "[::1]:5353"]);
        assert!(own.v4 && !own.v6 && !own.has_names);
    }

    #[test]
    fn a_name_that_is_also_fixed_needs_no_resolver() {
        let resolvers = |other: &str| {
            let text = format!(
                "http {{ server {{ location /a {{ proxy_pass http://app:8000$request_uri; }} {other} }} }}"
            );
            let tree = Tree::of_text(&text);
            let groups = groups(&tree);
            groups[0].members[0].resolver.clone()
        };
        assert_eq!(resolvers(""), Resolver::None);
        let fixed = "location /b { proxy_pass http://app:8000; }";
        assert_eq!(resolvers(fixed), Resolver::Library);
        let port = "location /b { proxy_pass http://app:8001; }";
        assert_eq!(resolvers(port), Resolver::None);
    }

    #[test]
    fn tls_has_the_name_that_is_configured() {
        let name = |server: &str, location: &str| {
            let text = format!("http {{ server {{ {server} location / {{ {location} }} }} }}");
            let tree = Tree::of_text(&text);
            let groups = groups(&tree);
            groups[0].tls.clone().map(|tls| (tls.name, tls.has_13))
        };
        assert_eq!(name("", "proxy_pass http://a;"), None);
        assert_eq!(name("", "proxy_pass https://a;"), Some((None, true)));
        let own = Some((Some("a".to_owned()), false));
        let on = "proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.2;";
        assert_eq!(name(on, "proxy_pass https://a;"), own);
        let other = name(on, "proxy_ssl_name b; proxy_pass https://a;");
        assert_eq!(other.unwrap().0.as_deref(), Some("b"));
        let tls = |text: &str| {
            let tree = Tree::of_text(text);
            let tls = groups(&tree)[0].tls.clone().unwrap();
            (tls.has_12, tls.has_13)
        };
        let http = "http { server { location / { proxy_ssl_server_name on;
            proxy_ssl_name $host; proxy_pass https://a; } } }";
        assert_eq!(tls(http), (false, false), "not known what is sent");
        let stream = "proxy_ssl on; proxy_pass 10.0.0.1:443;";
        let of = |more: &str| tls(&format!("stream {{ server {{ {more} {stream} }} }}"));
        assert_eq!(
            (of(""), of("proxy_protocol on;")),
            ((true, true), (false, false))
        );
    }
}
