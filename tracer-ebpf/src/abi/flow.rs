//! What the host did to packets of a connection, kept apart from it: such packets have no socket to
//! go by.

use super::Endpoint;

/// Both ends, seen from nginx: what a packet without a socket is joined by.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowKey {
    /// nginx's end.
    pub local: Endpoint,
    /// The upstream's end.
    pub remote: Endpoint,
    /// nginx's network namespace (inode number): others may have the same addresses.
    pub netns: u32,
}

/// How many reasons of drops are kept apart.
pub const DROP_SLOTS: usize = 3;

/// Packets dropped for one reason.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct DropSlot {
    /// When first, 0: slot unused.
    pub at: u64,
    /// `enum skb_drop_reason`, this kernel's numbers.
    pub reason: u32,
    /// How many.
    pub count: u16,
    /// TCP flags of the first.
    pub tcp_flags: u8,
    /// 1: on its way from the upstream to nginx.
    pub from_upstream: u8,
}

/// What the host did to the packets.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Flow {
    /// A RST sent for want of a socket, 0 none.
    pub rst_sent: u64,
    /// An ICMP error made, 0 none.
    pub icmp_sent: u64,
    /// `enum sk_rst_reason`, this kernel's numbers; 0 where the kernel has none.
    pub rst_reason: u32,
    /// ICMP type.
    pub icmp_kind: u8,
    /// ICMP code.
    pub icmp_code: u8,
    /// The upstream's end as an address translation made it; port 0: none did.
    pub translated: Endpoint,
    /// Drops, a slot a reason.
    pub drops: [DropSlot; DROP_SLOTS],
    /// How many waited in the listener's accept queue as it took no more.
    pub queue: u32,
    /// How many may; 0 with `queue` 0: it was not seen.
    pub queue_limit: u32,
}

impl Flow {
    /// Nothing was seen.
    pub const NONE: Self = Self {
        rst_sent: 0,
        icmp_sent: 0,
        rst_reason: 0,
        icmp_kind: 0,
        icmp_code: 0,
        translated: Endpoint::NONE,
        drops: [DropSlot {
            at: 0,
            reason: 0,
            count: 0,
            tcp_flags: 0,
            from_upstream: 0,
        }; DROP_SLOTS],
        queue: 0,
        queue_limit: 0,
    };
}
