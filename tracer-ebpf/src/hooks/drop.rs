//! `kfree_skb(struct sk_buff *skb, void *location, enum skb_drop_reason reason)`, the reason since
//! 5.17, a fourth argument since 6.11. Before 5.17 the function that frees the packet shows the
//! reason. Without either a drop by this host's netfilter looks like silence.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use tracer_ebpf::abi::DROP_SLOTS;

use crate::{
    constants,
    packet::{self, ACK, FIN, Packet, RST, SYN},
    task,
};

/// A packet is dropped; kernels from 5.17 on say why.
#[raw_tracepoint(tracepoint = "kfree_skb")]
pub fn drop_packet(ctx: RawTracePointContext) -> i32 {
    let reason: u32 = ctx.arg(2);
    let of_any = constants::is_wanted(reason);
    if !of_any && !constants::is_wanted_of_opening(reason) {
        return 0;
    }
    let mut packet = Packet::NONE;
    if packet::of_upstream(ctx.arg(0), &mut packet) && (of_any || is_opening(&packet)) {
        note(&packet, reason);
    }
    0
}

/// What nginx sends to open a connection: its SYN, and the ACK after it (which others look like).
#[inline(always)]
fn is_opening(packet: &Packet) -> bool {
    let flags = packet.flags & (SYN | FIN | RST | ACK);
    !packet.from_upstream && (flags == SYN || flags == ACK)
}

/// A packet is dropped; kernels before 5.17 say where.
#[raw_tracepoint(tracepoint = "kfree_skb")]
pub fn drop_packet_site(ctx: RawTracePointContext) -> i32 {
    let mut packet = Packet::NONE;
    if let Some(reason) = constants::reason_at(ctx.arg(1))
        && packet::of_upstream(ctx.arg(0), &mut packet)
    {
        note(&packet, reason);
    }
    0
}

/// Counts a drop in the packet's flow.
#[inline(always)]
pub fn note(packet: &Packet, reason: u32) {
    let Some(flow) = packet.flow() else {
        return;
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
            return;
        }
    }
}
