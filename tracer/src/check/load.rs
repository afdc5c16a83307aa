//! What fails under load at a peer, though it works now: its queue, its descriptors, the ports
//! towards it, its idle connections.
//!
//! The bounds are those that no sound backend reaches; what is only smaller than it could be is
//! none of them.

use std::{net::SocketAddr, time::Duration};

use super::{
    host, programs,
    tcp::{Fault, Shown, is_full, queue_full},
    words::{duration, holder, who},
};
use crate::event::fact::{Listener, ListenerView, UnixPathView};

/// A backlog below this is a mistake or a test's.
const SMALL: u32 = 16;
/// The backlog of nginx, php-fpm and node; somaxconn is 4096 since 5.4.
const USUAL: u32 = 511;
/// Shares, in hundredths, from which on something is nearly used up.
pub(super) const NEARLY: u64 = 90;

/// What is wrong with a listener that takes connections.
pub(super) fn of_tcp(peer: SocketAddr, shown: &Shown) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Some(view) = &shown.listener {
        for listener in view.exact.iter().take(1) {
            faults.extend(queue(&peer.to_string(), listener, view.somaxconn));
            faults.extend(descriptors(listener));
        }
    }
    if let Some(ports) = &shown.ports {
        let (low, high) = ports.range;
        let all = u64::from(high.saturating_sub(low)) + 1;
        let used = u64::from(ports.connected) + u64::from(ports.time_wait);
        if used * 100 >= all * NEARLY {
            faults.push(Fault::warning(
                "ports-exhausted",
                format!("{used} of {all} ephemeral ports towards {peer} are in use, {} of them in TIME_WAIT", ports.time_wait),
                "Keep connections with keepalive in the upstream block, or widen net.ipv4.ip_local_port_range; see: ss -s".to_owned(),
            ));
        }
    }
    faults
}

/// The same for a unix socket.
pub(super) fn of_unix(path: &str, view: &UnixPathView) -> Option<Fault> {
    let listener = view.listener.as_ref()?;
    queue(&format!("unix:{path}"), listener, view.somaxconn).or_else(|| descriptors(listener))
}

fn queue(peer: &str, listener: &Listener, somaxconn: Option<u32>) -> Option<Fault> {
    if is_full(listener) {
        return Some(queue_full(peer, listener, somaxconn));
    }
    let fix = "Raise the backlog (and net.core.somaxconn above it), then restart the backend; see: ss -lt  (Send-Q limits)";
    let most = somaxconn.filter(|most| *most == listener.limit);
    if listener.limit < SMALL {
        let by = match most {
            Some(_) => "net.core.somaxconn".to_owned(),
            None => format!("the backlog of {}", holder(listener)),
        };
        let text = format!(
            "{peer} lets {} connections wait for accept(): {by}",
            listener.limit + 1
        );
        return Some(Fault::warning("accept-queue-full", text, fix.to_owned()));
    }
    most.filter(|most| *most < USUAL).map(|most| {
        let text = format!(
            "net.core.somaxconn is {most}: it limits the accept queue of {}",
            holder(listener)
        );
        Fault::note("accept-queue-full", text, fix.to_owned())
    })
}

/// The backend has no descriptor left for many connections.
fn descriptors(listener: &Listener) -> Option<Fault> {
    let owner = listener.owner.as_ref()?;
    let view = host::descriptors(owner.pid)?;
    (view.open * 100 >= view.soft_limit.saturating_mul(NEARLY)).then(|| {
        Fault::warning(
            "backend-not-accepting",
            format!(
                "{} has {} of {} descriptors open: it cannot accept many more connections",
                who(owner),
                view.open,
                view.soft_limit
            ),
            format!(
                "Raise its limit: LimitNOFILE= in its unit; see: cat /proc/{}/limits",
                owner.pid
            ),
        )
    })
}

/// Does the backend close idle connections before nginx does?
pub(super) fn kept(peer: &str, kept: Duration, view: &ListenerView) -> Option<Fault> {
    let owner = view.exact.first()?.owner.as_ref()?;
    let own = programs::kept(owner)?;
    (own.time < kept).then(|| {
        let (theirs, ours) = (duration(own.time), duration(kept));
        let fault = match own.is_set {
            true => Fault::warning,
            false => Fault::note,
        };
        let by = match own.is_set {
            true => own.option,
            false => "by default",
        };
        fault(
            "keepalive-race",
            format!("{} closes idle connections of {peer} after {theirs} ({by}), nginx keeps them for {ours}: a request may meet the close", who(owner)),
            format!("Set {} of {} above {}, or keepalive_timeout in the upstream block below {theirs}; measure it: tracer check --idle", own.option, owner.name, kept.as_secs()),
        )
    })
}
