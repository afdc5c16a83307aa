//! Every cause there is: what it means, what splits it from its look-alikes, the nginx log lines it
//! explains, the fix.
//!
//! `tracer causes` and `docs/causes.md` come from here, and so does the order of matching, which
//! decides nothing: a verdict needs one cause that fits better than all others.

pub(crate) use super::cause::Cause;
pub(crate) use super::logged::{Place, Shown};
use super::{
    addresses, closed, death, denied, dns, early, firewall, keepalive, limits, looped, no_live,
    queues, refused, response, returned, routes, session, storage, timeouts, tls, unexplained,
    unix, unreachable, waiting,
};

/// The catalogue, in the order of a request's way.
#[must_use]
pub(crate) fn all() -> &'static [&'static Cause] {
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
    &closed::BACKEND_CLOSED_EARLY,
    &closed::BACKEND_RESET,
    &death::BACKEND_DIED,
    &death::BACKEND_OOM_KILLED,
    &keepalive::KEEPALIVE_RACE,
    &waiting::BACKEND_SLOW,
    &waiting::BACKEND_NOT_ACCEPTING,
    &early::EARLY_RESPONSE,
    &response::RESPONSE_REJECTED,
    &tls::TLS_HANDSHAKE_FAILED,
    &response::RESPONSE_TRUNCATED,
    &session::SESSION_BROKEN,
    &response::PASSED_THROUGH,
    &looped::PROXY_LOOP,
    &storage::PROXY_STORAGE,
    &no_live::NO_LIVE_UPSTREAMS,
    &dns::DNS_FAILED,
    &returned::RETURNED_BY_CONFIG,
    &unexplained::UNEXPLAINED,
];

/// The entry of that id.
#[must_use]
pub(crate) fn find(id: &str) -> Option<&'static Cause> {
    all().iter().copied().find(|cause| cause.id == id)
}

/// Those that can be behind such a line of nginx's error log, in the catalogue's order.
pub(crate) fn behind(shown: &Shown) -> Vec<&'static Cause> {
    let causes = all().iter().copied();
    causes.filter(|cause| cause.can_be_behind(shown)).collect()
}
