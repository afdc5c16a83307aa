//! What nginx connects to: each `*_pass` with the blocks around it, and the upstream blocks.

use super::{
    address::{Host, Target},
    tree::{At, Directive, Tree},
    variables::{self, Values},
};

/// What is spoken to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Protocol {
    Http,
    FastCgi,
    Uwsgi,
    Scgi,
    Grpc,
    Memcached,
    /// TCP or UDP.
    Stream,
}

impl Protocol {
    /// By the directive, and whether it is in `stream`.
    fn of(name: &str, is_stream: bool) -> Option<Self> {
        Some(match (name, is_stream) {
            ("proxy_pass", false) => Self::Http,
            ("proxy_pass", true) => Self::Stream,
            ("fastcgi_pass", false) => Self::FastCgi,
            ("uwsgi_pass", false) => Self::Uwsgi,
            ("scgi_pass", false) => Self::Scgi,
            ("grpc_pass", false) => Self::Grpc,
            ("memcached_pass", false) => Self::Memcached,
            _ => return None,
        })
    }

    /// What its directives begin with.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Http | Self::Stream => "proxy",
            Self::FastCgi => "fastcgi",
            Self::Uwsgi => "uwsgi",
            Self::Scgi => "scgi",
            Self::Grpc => "grpc",
            Self::Memcached => "memcached",
        }
    }
}

/// The blocks around a directive.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope<'a> {
    /// The top of the configuration.
    top: &'a [Directive],
    /// The outermost first.
    around: Vec<&'a Directive>,
}

impl<'a> Scope<'a> {
    /// The blocks, the innermost first.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = &'a Directive> {
        self.around.iter().rev().copied()
    }

    /// The directive of this name that counts here: the innermost block's that has one.
    pub(crate) fn find(&self, name: &str) -> Option<&'a Directive> {
        let top = self.top;
        let levels = self
            .blocks()
            .map(Directive::inside)
            .chain(std::iter::once(top));
        levels
            .filter_map(|level| level.iter().rfind(|one| one.name() == name))
            .next()
    }

    /// All of this name of the innermost block that has any.
    pub(crate) fn all(&self, name: &str) -> Vec<&'a Directive> {
        let levels = self.blocks().map(Directive::inside);
        for level in levels.chain(std::iter::once(self.top)) {
            let found: Vec<_> = level.iter().filter(|one| one.name() == name).collect();
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }

    /// The innermost block of this name.
    pub(crate) fn block(&self, name: &str) -> Option<&'a Directive> {
        self.blocks().find(|one| one.name() == name)
    }

    pub(crate) fn is_stream(&self) -> bool {
        self.around
            .first()
            .is_some_and(|one| one.name() == "stream")
    }

    /// May a script set variables here?
    pub(crate) fn is_scripted(&self) -> bool {
        self.blocks()
            .flat_map(Directive::inside)
            .chain(self.top)
            .any(|one| is_script(one.name()))
    }
}

/// May it set any variable, or connect by itself?
pub(crate) fn is_script(name: &str) -> bool {
    name.contains("_by_lua") || name.starts_with("js_") || name.starts_with("perl")
}

/// Has `visit` see each directive with the blocks around it, in order.
pub(crate) fn walk<'a>(tree: &'a Tree, visit: &mut dyn FnMut(&Scope<'a>, &'a Directive)) {
    let mut scope = Scope {
        top: &tree.directives,
        around: Vec::new(),
    };
    level(&tree.directives, &mut scope, visit);
}

fn level<'a>(
    directives: &'a [Directive],
    scope: &mut Scope<'a>,
    visit: &mut dyn FnMut(&Scope<'a>, &'a Directive),
) {
    for directive in directives {
        visit(scope, directive);
        // As deep as a tree is.
        if directive.block.is_some() {
            scope.around.push(directive);
            level(directive.inside(), scope, visit);
            scope.around.pop();
        }
    }
}

/// A directive that has requests passed on.
#[derive(Debug, Clone)]
pub(crate) struct Pass<'a> {
    pub(crate) protocol: Protocol,
    pub(crate) directive: &'a Directive,
    pub(crate) scope: Scope<'a>,
    tree: &'a Tree,
}

impl<'a> Pass<'a> {
    /// Whether its value has variables: names in it are resolved with each request.
    pub(crate) fn is_dynamic(&self) -> bool {
        variables::split(self.directive.value()).is_some()
    }

    /// What it may be: with variables as far as they are fixed. Variables in the path do not count.
    pub(crate) fn values(&self) -> Values {
        variables::expand(self.authority(), &self.scope, self.tree)
    }

    /// Its value up to the path, where that begins with a variable or a slash.
    fn authority(&self) -> &'a str {
        let value = self.directive.value();
        let scheme = value.find("://").map_or(0, |at| at + 3);
        let rest = &value[scheme..];
        if rest.starts_with("unix:") || rest.starts_with('$') && scheme == 0 {
            return value;
        }
        let slash = rest.find('/').unwrap_or(rest.len());
        &value[..scheme + slash.min(path(rest).unwrap_or(rest.len()))]
    }

    /// The directive of its protocol that counts for it: `proxy_` and this name.
    pub(crate) fn find(&self, name: &str) -> Option<&'a Directive> {
        self.scope
            .find(&format!("{}_{name}", self.protocol.prefix()))
    }
}

/// Where a path begins by a variable, right behind a name or a port: `app:80$request_uri`.
fn path(text: &str) -> Option<usize> {
    let mut left = text;
    while let Some((before, name, after)) = variables::split(left) {
        if matches!(name, "request_uri" | "uri" | "document_uri" | "is_args") {
            return Some(text.len() - left.len() + before.len());
        }
        left = after;
    }
    None
}

/// Every pass of a configuration, in order.
pub(crate) fn passes(tree: &Tree) -> Vec<Pass<'_>> {
    let mut found = Vec::new();
    walk(tree, &mut |scope, directive| {
        let protocol = Protocol::of(directive.name(), scope.is_stream());
        if let Some(protocol) = protocol.filter(|_| !directive.value().is_empty()) {
            found.push(Pass {
                protocol,
                directive,
                scope: scope.clone(),
                tree,
            });
        }
    });
    found
}

/// A server of an upstream block.
#[derive(Debug, Clone)]
pub(crate) struct Server<'a> {
    pub(crate) target: Target,
    pub(crate) parameters: &'a [String],
    pub(crate) at: &'a At,
}

impl Server<'_> {
    /// Whether it has this parameter, as a word or with a value.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.parameters
            .iter()
            .any(|one| one == name || one.split('=').next() == Some(name))
    }
}

/// An upstream block.
#[derive(Debug, Clone)]
pub(crate) struct Upstream<'a> {
    pub(crate) name: String,
    pub(crate) directive: &'a Directive,
    pub(crate) is_stream: bool,
    pub(crate) servers: Vec<Server<'a>>,
    /// A script chooses the server, or a module that is not known may.
    pub(crate) is_scripted: bool,
}

impl Upstream<'_> {
    /// Does a pass with this target mean it? (`ngx_http_upstream_add`, and for variables
    /// `ngx_http_upstream_init_request`.)
    pub(crate) fn is(&self, pass: &Pass<'_>, target: &Target) -> bool {
        let has_name = matches!(&target.host, Host::Name(name) if *name == self.name);
        has_name
            && self.is_stream == (pass.protocol == Protocol::Stream)
            && !(pass.is_dynamic() && target.port.is_some())
    }

    /// A directive of it.
    pub(crate) fn find(&self, name: &str) -> Option<&Directive> {
        self.directive
            .inside()
            .iter()
            .find(|one| one.name() == name)
    }
}

/// Directives of an upstream block that leave its servers what they are: of nginx, Angie and
/// Tengine.
const UPSTREAM: [&str; 27] = [
    "check",
    "check_http_expect_alive",
    "check_http_send",
    "check_keepalive_requests",
    "check_shm_size",
    "fair",
    "feedback",
    "hash",
    "include",
    "ip_hash",
    "keepalive",
    "keepalive_requests",
    "keepalive_time",
    "keepalive_timeout",
    "least_conn",
    "least_time",
    "ntlm",
    "queue",
    "random",
    "resolver",
    "resolver_timeout",
    "server",
    "session_sticky",
    "state",
    "sticky",
    "sticky_cookie_insert",
    "zone",
];

/// Every upstream block of a configuration.
pub(crate) fn upstreams(tree: &Tree) -> Vec<Upstream<'_>> {
    let mut found = Vec::new();
    walk(tree, &mut |scope, directive| {
        if directive.name() != "upstream" || directive.block.is_none() {
            return;
        }
        let servers = directive.inside().iter();
        let servers = servers.filter(|one| one.name() == "server");
        let servers = servers.filter_map(|one| {
            Some(Server {
                target: Target::server(one.value())?,
                parameters: one.words.get(2..).unwrap_or_default(),
                at: &one.at,
            })
        });
        let is_other = |one: &Directive| !UPSTREAM.contains(&one.name());
        found.push(Upstream {
            name: directive.value().to_lowercase(),
            directive,
            is_stream: scope.is_stream(),
            servers: servers.collect(),
            is_scripted: directive.inside().iter().any(is_other),
        });
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_has_the_directives_of_the_blocks_around_it() {
        let tree = Tree::of_text(
            "http { resolver 10.0.0.1; proxy_ssl_name a; server { listen 80; location / { proxy_ssl_name b;
             if ($x) { proxy_pass https://c; } fastcgi_pass unix:/a; } } }
             stream { server { listen 1; proxy_pass d:1; } }",
        );
        let passes = passes(&tree);
        let protocols: Vec<_> = passes.iter().map(|pass| pass.protocol).collect();
        use Protocol::{FastCgi, Http, Stream};
        assert_eq!(protocols, [Http, FastCgi, Stream]);
        assert_eq!(passes[0].find("ssl_name").unwrap().value(), "b");
        assert_eq!(
            passes[0].scope.find("resolver").unwrap().value(),
            "10.0.0.1"
        );
        assert_eq!(passes[0].scope.block("location").unwrap().value(), "/");
        assert!(passes[2].find("ssl_name").is_none());
    }

    #[test]
    fn the_path_of_a_pass_is_none_of_its_address() {
        for (text, expected, dynamic) in [
            ("http://a:80/b", "http://a:80", false),
            ("http://a:80$request_uri", "http://a:80", true),
            ("http://a/x/$1", "http://a", true),
            ("http://a:80${uri}", "http://a:80", true),
            (
                "https://unix:/run/a.sock:/x",
                "https://unix:/run/a.sock:/x",
                false,
            ),
        ] {
            let tree = Tree::of_text(&format!(
                "http {{ server {{ location / {{ proxy_pass {text}; }} }} }}"
            ));
            let passes = passes(&tree);
            let values = passes[0].values();
            assert_eq!(
                (values.texts, values.complete),
                (vec![expected.to_owned()], true)
            );
            assert_eq!(passes[0].is_dynamic(), dynamic);
        }
    }

    #[test]
    fn an_upstream_s_name_with_a_port_is_another_for_variables() {
        let tree = Tree::of_text(
            "http { upstream App { server a:1 down; server b:2 max_fails=3; server $x; } upstream l { server 0.0.0.1; balancer_by_lua_block { } }
             server { set $p app; location / { proxy_pass http://$p; } location /b { proxy_pass http://app; } location /c { proxy_pass http://$p:81; } } }",
        );
        let upstreams = upstreams(&tree);
        assert_eq!((upstreams.len(), upstreams[0].servers.len()), (2, 2));
        assert!(upstreams[0].servers[0].has("down") && upstreams[0].servers[1].has("max_fails"));
        assert!(upstreams[1].is_scripted && !upstreams[0].is_scripted);
        let is: Vec<bool> = passes(&tree)
            .iter()
            .map(|pass| {
                let value = &pass.values().texts[0];
                upstreams[0].is(pass, &Target::parse(pass.protocol, value).unwrap())
            })
            .collect();
        assert_eq!(is, [true, true, false]);
    }
}
