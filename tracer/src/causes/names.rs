//! What is known by name around an attempt: the upstream, the request's method and host, the
//! backend's program.

use super::scene::Scene;
use crate::event::Upstream;

impl<'a> Scene<'a> {
    /// The upstream's name, for sentences.
    pub(super) fn to(&self) -> String {
        self.upstream().unwrap_or_else(|| "the upstream".to_owned())
    }

    /// The upstream's name. A connection's record has no unix path; nginx's log line may.
    pub(super) fn upstream(&self) -> Option<String> {
        let upstream = self.attempt?.upstream.as_ref()?;
        let nameless = matches!(upstream, Upstream::Unix(path) if path.is_empty());
        let logged = || {
            let lines = self.case.sure_lines();
            let mut paths = lines.filter_map(|line| line.upstream.as_deref()?.split_once("unix:"));
            let (_, path) = paths.next()?;
            Some(format!("unix:{}", path.split(':').next()?))
        };
        nameless
            .then(logged)
            .flatten()
            .or_else(|| Some(upstream.to_string()))
    }

    /// The request's method, where its line is known.
    pub(super) fn method(&self) -> Option<&'a str> {
        let seen = self.case.head.as_ref().map(|head| head.line.as_str());
        let mut lines = self.case.sure_lines();
        let line = seen.or_else(|| lines.find_map(|line| line.request.as_deref()))?;
        line.split_once(' ').map(|(method, _)| method)
    }

    /// The scheme that nginx's log shows for the upstream, as its directives begin: `proxy`,
    /// `fastcgi`, `grpc`, ….
    pub(super) fn scheme(&self) -> Option<&'static str> {
        let mut lines = self.case.sure_lines();
        let upstream = lines.find_map(|line| line.upstream.as_deref())?;
        match upstream.split_once("://")?.0 {
            "fastcgi" => Some("fastcgi"),
            "uwsgi" | "suwsgi" => Some("uwsgi"),
            "scgi" => Some("scgi"),
            "grpc" | "grpcs" => Some("grpc"),
            _ => None,
        }
    }

    /// The name that the client asked for: what nginx sends as SNI unless configured otherwise.
    pub(super) fn server_name(&self) -> Option<&'a str> {
        let head = self.case.head.as_ref();
        let seen = head.and_then(|head| head.host.as_deref());
        let mut lines = self.case.sure_lines();
        let host = seen.or_else(|| lines.find_map(|line| line.host.as_deref()))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        (!host.is_empty() && host.chars().all(plain)).then_some(host)
    }

    /// The backend's program, where a process of it is known by name.
    pub(super) fn backend_name(&self) -> Option<&'a str> {
        let facts = self.facts();
        let used = || {
            let holder = self.connection()?.holder.as_ref();
            holder.map(|holder| holder.name.as_str())
        };
        let closer = self
            .attempt?
            .peer_closed
            .as_ref()
            .map(|closed| closed.name.as_str());
        let holder = || {
            facts
                .peer_socket
                .as_ref()?
                .owner
                .as_ref()
                .map(|owner| owner.name.as_str())
        };
        let listeners = || {
            let view = facts.listener.as_ref()?;
            let mut owners = view
                .exact
                .iter()
                .filter_map(|listener| listener.owner.as_ref());
            owners.next().map(|owner| owner.name.as_str())
        };
        let on_path = || {
            let listener = facts.unix_path.as_ref()?.listener.as_ref()?;
            listener.owner.as_ref().map(|owner| owner.name.as_str())
        };
        closer
            .or_else(used)
            .or_else(holder)
            .or_else(listeners)
            .or_else(on_path)
    }
}
