//! `kfree_skb(struct sk_buff *skb, void *location, enum skb_drop_reason reason)`, the reason since 5.17, a fourth
//! argument since 6.11. Without the reason a drop by this host's netfilter looks like silence.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_ebpf::abi::DROP_SLOTS;

use crate::{
    maps,
    packet::{self, ACK, FIN, RST, SYN},
    task,
};

/// A packet is dropped.
#[btf_tracepoint(function = "kfree_skb")]
pub fn drop_packet(ctx: BtfTracePointContext) -> i32 {
    let reason: u32 = ctx.arg(2);
    let of_any = maps::is_wanted(reason);
    if !of_any && !maps::is_wanted_of_acks(reason) {
        return 0;
    }
    let Some(packet) = packet::of_upstream(ctx.arg(0)) else {
        return 0;
    };
    if !of_any && (packet.from_upstream || packet.flags & (SYN | FIN | RST | ACK) != ACK) {
        return 0;
    }
    let Some(flow) = packet::flow(&packet.key) else {
        return 0;
    };
    for slot in 0..DROP_SLOTS {
        let slot = &mut flow.drops[slot];
        if slot.at == 0 {
            slot.at = task::now();
            slot.reason = reason;
            slot.tcp_flags = packet.flags;
            slot.from_upstream = u8::from(packet.from_upstream);
        }
        if slot.reason == reason && slot.from_upstream == u8::from(packet.from_upstream) {
            slot.count = slot.count.saturating_add(1);
            return 0;
        }
    }
    0
}
