//! Packets of a connection that this host dropped, and what that says.

use super::{finding::Finding, hook, scene::Scene, wording};
use crate::event::{Connection, Drop};

/// The first drop with that reason.
fn dropped<'a>(c: &'a Connection, reason: &str) -> Option<&'a Drop> {
    c.drops.iter().find(|drop| drop.reason == reason)
}

/// Netfilter dropped a packet of the connection.
pub(super) fn netfilter_drop(c: &Connection) -> Option<&Drop> {
    dropped(c, "NETFILTER_DROP")
}

/// Netfilter dropped our SYN itself: a rule that answers does that, and answers us.
pub(super) fn filtered_syn(c: &Connection) -> bool {
    c.drops.iter().any(|drop| {
        drop.reason == "NETFILTER_DROP" && drop.tcp_flags & 0x12 == 0x02 && !drop.from_upstream
    })
}

/// This host found no socket for our SYN: seen by its RST, or by the SYN's own drop where RSTs
/// without a socket are not traced (before 6.10).
pub(super) fn no_socket_for_syn(c: &Connection) -> bool {
    c.rst_sent.is_some()
        || c.drops.iter().any(|drop| {
            drop.reason == "NO_SOCKET" && drop.tcp_flags & 0x12 == 0x02 && !drop.from_upstream
        })
}

/// Drops that explain something: freeing what was queued, or for no stated reason, is part of a
/// normal close.
pub(super) fn telling_drops(c: &Connection) -> impl Iterator<Item = &Drop> {
    c.drops.iter().filter(|drop| {
        !matches!(
            drop.reason.as_str(),
            "NOT_SPECIFIED" | "QUEUE_PURGE" | "NOT_DROPPED_YET" | "CONSUMED" | "SOCKET_CLOSE"
        )
    })
}

/// Lowers what rests on a drop where fewer packets were dropped for its reason than SYNs were sent:
/// another one may have been answered, or lost elsewhere.
pub(super) fn for_every_syn(
    scene: &Scene<'_>,
    c: &Connection,
    dropped: &Drop,
    finding: Finding,
) -> Finding {
    let sent = u64::from(c.syn_retransmits) + 1;
    let such = c.drops.iter().filter(|drop| {
        drop.reason == dropped.reason && drop.from_upstream == dropped.from_upstream
    });
    let total: u64 = such.map(|drop| u64::from(drop.count)).sum();
    let rest = sent.saturating_sub(total);
    finding
        .unless(
            rest == 0,
            format!("what became of {rest} of {}", wording::count(sent, "SYN")),
        )
        .rests_on(scene, &[hook::RETRANSMIT])
}
