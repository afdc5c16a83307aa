//! A location that passes its requests to itself.
//!
//! Only what is certain: the request arrives at the same server by its address and the `Host` that
//! is sent, with the same path, so at the same location.

use std::net::IpAddr;

use super::{
    finding::{Finding, Severity},
    subject::Subject,
};
use crate::nginx::config::{
    Directive, Host, Pass, Protocol, Target, Tree, passes, upstreams, walk,
};

/// All that are certain.
pub(super) fn check(subject: &Subject) -> Vec<Finding> {
    looping(&subject.tree)
        .into_iter()
        .map(|(pass, port)| Finding {
            severity: Severity::Error,
            master: subject.master,
            at: pass.directive.at.clone(),
            peer: None,
            cause: "proxy-loop",
            text: format!("this location passes its requests to nginx's own port {port}, to the same server and location: each makes another until none is left"),
            fix: "Correct the port or the address of the backend; see: nginx -T | grep -n listen".to_owned(),
        })
        .collect()
}

fn looping(tree: &Tree) -> Vec<(Pass<'_>, u16)> {
    let servers = servers(tree);
    let upstreams = upstreams(tree);
    let mut found = Vec::new();
    for pass in passes(tree) {
        let Some(own) = pass.scope.block("server") else {
            continue;
        };
        let is_plain = pass.protocol == Protocol::Http
            && !pass.is_dynamic()
            && !changes_path(&pass)
            && pass.scope.block("if").is_none();
        let target = Target::parse(pass.protocol, pass.directive.value());
        let Some(target) = target.filter(|target| is_plain && !target.has_uri) else {
            continue;
        };
        let block = upstreams.iter().find(|one| one.is(&pass, &target));
        let ends: Vec<(Host, u16)> = match block {
            Some(block) if block.is_scripted => continue,
            Some(block) => {
                let servers = block.servers.iter().filter(|one| !one.has("down"));
                servers
                    .map(|one| (one.target.host.clone(), one.target.port.unwrap_or(80)))
                    .collect()
            }
            None => vec![(
                target.host.clone(),
                target.port_or_default(pass.protocol).unwrap_or(0),
            )],
        };
        let own_end = ends.into_iter().find(|(host, port)| {
            let ip = match host {
                Host::Ip(ip) if ip.is_loopback() => *ip,
                Host::Name(name) if name == "localhost" => IpAddr::from([127, 0, 0, 1]),
                Host::Ip(ip) => *ip,
                _ => return false,
            };
            arrives(&servers, own, &pass, &target, (ip, *port))
        });
        found.extend(own_end.map(|(_, port)| (pass, port)));
    }
    found
}

/// Does the location change what it passes on?
fn changes_path(pass: &Pass<'_>) -> bool {
    let changing = [
        "rewrite",
        "if",
        "return",
        "try_files",
        "proxy_method",
        "auth_request",
    ];
    pass.scope
        .blocks()
        .take_while(|block| block.name() != "http")
        .flat_map(Directive::inside)
        .any(|one| changing.contains(&one.name()))
        || pass.scope.is_scripted()
}

/// A server's `listen`.
struct Listen {
    ip: Option<IpAddr>,
    /// Of a wildcard: which families arrive there.
    takes_v4: bool,
    takes_v6: bool,
    port: u16,
    is_default: bool,
    is_secure: bool,
    /// Another protocol comes before the request.
    is_other: bool,
}

fn listen(directive: &Directive) -> Option<Listen> {
    let value = directive.value();
    let (ip, port) = match value.parse::<u16>() {
        Ok(port) => (None, port),
        Err(_) => {
            let rest = value.strip_prefix('*').map(|rest| format!("0.0.0.0{rest}"));
            let target = Target::server(rest.as_deref().unwrap_or(value))?;
            match target.host {
                Host::Ip(ip) => (Some(ip), target.port.unwrap_or(80)),
                _ => return None,
            }
        }
    };
    let has = |word: &str| directive.arguments().iter().any(|one| one == word);
    let is_v6 = ip.is_some_and(|ip: IpAddr| ip.is_ipv6());
    Some(Listen {
        ip: ip.filter(|ip| !ip.is_unspecified()),
        // IPv4 comes to `[::]` only where that is asked for.
        takes_v4: !is_v6 || has("ipv6only=off"),
        takes_v6: is_v6,
        port,
        is_default: has("default_server") || has("default"),
        is_secure: has("ssl"),
        is_other: has("proxy_protocol") || has("quic") || has("udp"),
    })
}

fn servers(tree: &Tree) -> Vec<(&Directive, Vec<Listen>)> {
    let mut found = Vec::new();
    walk(tree, &mut |scope, directive| {
        if directive.name() == "server" && directive.block.is_some() && !scope.is_stream() {
            let listens = directive
                .inside()
                .iter()
                .filter(|one| one.name() == "listen");
            let mut listens: Vec<Listen> = listens.filter_map(listen).collect();
            let has_any = directive.inside().iter().any(|one| one.name() == "listen");
            if !has_any {
                listens.push(Listen {
                    ip: None,
                    takes_v4: true,
                    takes_v6: false,
                    port: 80,
                    is_default: false,
                    is_secure: false,
                    is_other: false,
                });
            }
            found.push((directive, listens));
        }
    });
    found
}

/// Does a request that is sent there arrive at the same server?
fn arrives(
    servers: &[(&Directive, Vec<Listen>)],
    own: &Directive,
    pass: &Pass<'_>,
    target: &Target,
    (ip, port): (IpAddr, u16),
) -> bool {
    let of_port = |exact: bool| -> Vec<(&Directive, &Listen)> {
        servers
            .iter()
            .flat_map(|(server, listens)| listens.iter().map(move |one| (*server, one)))
            .filter(|(_, one)| one.port == port && one.ip == exact.then_some(ip))
            .collect()
    };
    let exact = of_port(true);
    // A wildcard is this host's for sure only where the address is a loopback's.
    let mut there = match exact.is_empty() {
        true if ip.is_loopback() => of_port(false),
        _ => exact,
    };
    there.retain(|(_, one)| {
        one.ip.is_some()
            || if ip.is_ipv4() {
                one.takes_v4
            } else {
                one.takes_v6
            }
    });
    if there
        .iter()
        .any(|(_, one)| one.is_other || one.is_secure != target.secure)
    {
        return false;
    }
    let is_own = |server: &Directive| std::ptr::eq(server, own);
    if !there.iter().any(|(server, _)| is_own(server)) {
        return false;
    }
    if there.iter().all(|(server, _)| is_own(server)) {
        return true;
    }
    let headers = pass.scope.all("proxy_set_header");
    let host = headers
        .iter()
        .find(|one| one.value().eq_ignore_ascii_case("host"))
        .and_then(|one| one.words.get(2));
    match host.map(String::as_str) {
        // The client's own, by which it came to this server.
        Some("$host" | "$http_host" | "$host:$server_port") => true,
        Some(host) if host.contains('$') => false,
        host => {
            let own_host = match &target.host {
                Host::Name(name) => name.clone(),
                Host::Ip(ip) => ip.to_string(),
                Host::Unix(_) => return false,
            };
            let host = host.map_or(own_host, |host| {
                host.split(':').next().unwrap_or_default().to_owned()
            });
            let named = there.iter().find(|(server, _)| has_name(server, &host));
            let is_pattern = |server: &Directive| {
                names(server).any(|name| name.contains(['*', '~']) || name.starts_with('.'))
            };
            if there.iter().any(|(server, _)| is_pattern(server)) {
                return false;
            }
            let default = there
                .iter()
                .find(|(_, one)| one.is_default)
                .or(there.first());
            named.or(default).is_some_and(|(server, _)| is_own(server))
        }
    }
}

fn names(server: &Directive) -> impl Iterator<Item = &String> {
    let names = server
        .inside()
        .iter()
        .filter(|one| one.name() == "server_name");
    names.flat_map(Directive::arguments)
}

fn has_name(server: &Directive, host: &str) -> bool {
    names(server).any(|name| name.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> Vec<u16> {
        let tree = Tree::of_text(&format!("http {{ {text} }}"));
        looping(&tree).into_iter().map(|(_, port)| port).collect()
    }

    #[test]
    fn a_location_that_passes_to_itself_is_found() {
        for text in [
            "server { listen 80; location / { proxy_pass http://127.0.0.1; } }",
            "server { location / { proxy_pass http://localhost:80; } }",
            "upstream u { server 127.0.0.1:8080; } server { listen 127.0.0.1:8080; location / { proxy_pass http://u; } }",
            "server { listen 81; server_name a; location / { proxy_pass http://127.0.0.1:81; proxy_set_header Host $host; } } server { listen 81; server_name b; }",
            "server { listen 81 default_server; location / { proxy_pass http://127.0.0.1:81; } } server { listen 81; server_name b; }",
            "server { listen [::]:80 ipv6only=off; location / { proxy_pass http://127.0.0.1:80; } }",
            "server { listen [::]:80; location / { proxy_pass http://[::1]:80; } }",
        ] {
            assert_eq!(ports(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn what_another_server_location_or_program_takes_is_none() {
        for text in [
            "server { listen 80; location / { proxy_pass http://127.0.0.1:8080; } } server { listen 8080; location / { return 200; } }",
            "server { listen 80; location /a { proxy_pass http://127.0.0.1/b; } }",
            "server { listen 81; server_name a; location / { proxy_pass http://127.0.0.1:81; } } server { listen 81 default_server; server_name b; }",
            "server { listen 81; location / { proxy_pass http://127.0.0.1:81; proxy_set_header Host b; } } server { listen 81; server_name b; }",
            "server { listen 10.0.0.1:80; location / { proxy_pass http://127.0.0.1:80; } }",
            "server { listen 80; location / { proxy_pass http://10.0.0.9:80; } }",
            "server { listen 443 ssl; location / { proxy_pass http://127.0.0.1:443; } }",
            "server { listen [::]:80; location / { proxy_pass http://127.0.0.1:80; } }",
            "server { listen 80; location / { proxy_pass http://[::1]:80; } }",
            "server { listen 80; location / { rewrite ^/a(.*) $1 break; proxy_pass http://127.0.0.1:80; } }",
            "server { listen 80; if ($http_x) { return 404; } location / { proxy_pass http://127.0.0.1:80; } }",
        ] {
            assert_eq!(ports(text), Vec::<u16>::new(), "{text}");
        }
    }
}
