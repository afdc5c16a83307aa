//! Every cause there is: what it means, what splits it from its look-alikes, the nginx log lines it explains, the fix.
//!
//! `tracer causes` and `docs/causes.md` come from here, and so does the order of matching, which decides nothing: a
//! verdict needs one cause that fits better than all others.

use super::{
    addresses, after_connect, denied, finding::Finding, firewall, limits, no_connect, queues,
    refused, routes, scene::Scene, timeouts, unexplained, unix, unreachable,
};

/// One entry.
pub struct Cause {
    /// The stable name: the verdict's `cause`.
    pub id: &'static str,
    /// What happened, in a sentence without its stop.
    pub title: &'static str,
    /// How the kernel shows it, and what tells it from its look-alikes.
    pub split: &'static str,
    /// Lines of nginx's error log that it explains; one line can have many causes.
    pub log_lines: &'static [&'static str],
    /// The status the client gets, unless a retry hides the failure.
    pub client_gets: &'static str,
    /// What mends it, in general; a verdict's advice is filled with what was seen.
    pub fix: &'static str,
    /// Whether an attempt fits; `None`: no verdict names it yet, such requests are `unexplained`.
    pub(super) matches: Option<fn(&Scene<'_>) -> Option<Finding>>,
}

impl Cause {
    /// Verdicts can name it. (`unexplained` is what is left, so it needs no matcher.)
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.matches.is_some() || self.id == unexplained::UNEXPLAINED.id
    }
}

/// The catalogue, in the order of a request's way.
#[must_use]
pub fn all() -> &'static [&'static Cause] {
    ALL
}

static ALL: &[&Cause] = &[
    &refused::NO_LISTENER,
    &refused::REFUSED_BY_PEER,
    &firewall::FIREWALL_REJECT,
    &firewall::FIREWALL_DROP,
    &timeouts::SYN_TIMEOUT,
    &queues::ACCEPT_QUEUE_FULL,
    &unreachable::NEIGHBOR_FAILED,
    &unreachable::ICMP_UNREACHABLE,
    &routes::ROUTE_UNREACHABLE,
    &routes::ROUTE_PROHIBIT,
    &routes::ROUTE_BLACKHOLE,
    &routes::NO_ROUTE,
    &denied::LSM_DENIED,
    &denied::CGROUP_DENIED,
    &limits::PORTS_EXHAUSTED,
    &addresses::BIND_FAILED,
    &addresses::ADDRESS_INVALID,
    &limits::FD_LIMIT,
    &limits::WORKER_CONNECTIONS,
    &unix::UNIX_SOCKET_MISSING,
    &unix::UNIX_SOCKET_STALE,
    &unix::UNIX_SOCKET_PERMISSION,
    &after_connect::BACKEND_CLOSED_EARLY,
    &after_connect::BACKEND_RESET,
    &after_connect::BACKEND_DIED,
    &after_connect::BACKEND_OOM_KILLED,
    &after_connect::KEEPALIVE_RACE,
    &after_connect::BACKEND_SLOW,
    &after_connect::BACKEND_NOT_ACCEPTING,
    &after_connect::RESPONSE_REJECTED,
    &after_connect::TLS_HANDSHAKE_FAILED,
    &after_connect::RESPONSE_TRUNCATED,
    &after_connect::PASSED_THROUGH,
    &no_connect::NO_LIVE_UPSTREAMS,
    &no_connect::DNS_FAILED,
    &unexplained::UNEXPLAINED,
];

/// The entry of that id.
#[must_use]
pub fn find(id: &str) -> Option<&'static Cause> {
    all().iter().copied().find(|cause| cause.id == id)
}
