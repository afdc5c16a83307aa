//! Why packets are dropped and RSTs sent: names from the running kernel, whose numbers differ
//! between versions.

use super::Btf;
use crate::event::decode::KernelNames;

/// Drops that tell nothing of a connection's failure: ends of normal life, or causes seen by other
/// hooks.
const ORDINARY: [&str; 16] = [
    "NOT_DROPPED_YET",
    "CONSUMED",
    "NOT_SPECIFIED",
    "SOCKET_CLOSE",
    "QUEUE_PURGE",
    "TCP_OFOMERGE",
    "TCP_OLD_DATA",
    "TCP_OLD_SEQUENCE",
    "TCP_OLD_ACK",
    "TCP_RESET",
    "TCP_CLOSE",
    "TCP_FLAGS",
    "TCP_ABORT_ON_DATA",
    "TCP_OVERWINDOW",
    "TCP_INVALID_SEQUENCE",
    "OTHERHOST",
];

/// Drops that tell something of a SYN of nginx's or the ACK after it alone: there is no socket for
/// the one, which is known by its RST where that is traced (6.10), or a listener with SYN cookies
/// had no room for the other.
const OF_OPENING: [&str; 1] = ["NO_SOCKET"];

/// Returns the running kernel's names: `enum skb_drop_reason` (since 5.17), `enum sk_rst_reason`
/// (since 6.10).
#[must_use]
pub(crate) fn names(btf: &Btf) -> KernelNames {
    let named = |enumeration, prefixes: &[&str]| {
        btf.enumerators(enumeration)
            .into_iter()
            .map(|(value, name)| {
                let short = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix));
                (value, short.unwrap_or(&name).to_owned())
            })
            .collect()
    };
    KernelNames {
        drops: named("skb_drop_reason", &["SKB_DROP_REASON_", "SKB_"]),
        resets: named("sk_rst_reason", &["SK_RST_REASON_"]),
        page_size: rustix::param::page_size() as u64,
    }
}

/// Returns one bit for each drop reason worth a record, as `abi::WantedDrops` has them: of any
/// packet, then of those that open a connection alone.
#[must_use]
pub(crate) fn wanted_drops(names: &KernelNames) -> [u64; 8] {
    let mut words = [0; 8];
    for (&value, name) in names.drops.iter().filter(|(value, _)| **value < 256) {
        let (word, bit) = ((value / 64) as usize, 1 << (value % 64));
        if OF_OPENING.contains(&name.as_str()) {
            words[4 + word] |= bit;
        } else if !ORDINARY.contains(&name.as_str()) {
            words[word] |= bit;
        }
    }
    words
}
