//! `tcp_receive_reset(struct sock *sk)`, since 4.15, and `tcp_send_reset(const struct sock *sk,
//! const struct sk_buff *skb, const enum sk_rst_reason reason)`, the reason since 6.10. Received
//! and not sent by this host: the RST came from elsewhere. Without the second, no-listener and
//! firewall-reject cannot be distinguished by the kernel's word.
//!
//! Before 6.10 a RST for want of a socket has no tracepoint: the function that sends it is hooked,
//! `tcp_v4_send_reset(const struct sock *sk, struct sk_buff *skb)`, and `tcp_v6_send_reset` alike.

use aya_ebpf::{
    macros::{fentry, kprobe, raw_tracepoint},
    programs::{FEntryContext, ProbeContext, RawTracePointContext},
};
use tracer_ebpf::abi::FLAG_RST_IN_SYN_SENT;

use crate::{
    apart::apart,
    maps,
    packet::{self, ACK, Packet, SYN},
    sock::{self, state},
    task,
    track::ending,
};

/// A RST arrived.
#[raw_tracepoint(tracepoint = "tcp_receive_reset")]
pub fn receive_reset(ctx: RawTracePointContext) -> i32 {
    let sk: u64 = ctx.arg(0);
    let Some(connection) = maps::connection(sk) else {
        // Over loopback it answers a write that is under way.
        if let Some((_, worker)) = task::worker() {
            worker.reset = sk;
            worker.reset_at = task::now();
        }
        return 0;
    };
    connection.rst_received = task::now();
    if sock::tcp_state(sk) == state::SYN_SENT {
        connection.flags |= FLAG_RST_IN_SYN_SENT;
    }
    0
}

/// A RST leaves; kernels from 6.10 on say why.
#[raw_tracepoint(tracepoint = "tcp_send_reset")]
pub fn send_reset_reason(ctx: RawTracePointContext) -> i32 {
    send_reset(ctx.arg(0), ctx.arg(1), ctx.arg(2))
}

/// A RST leaves; kernels before 6.10 pass no reason.
#[raw_tracepoint(tracepoint = "tcp_send_reset")]
pub fn send_reset_plain(ctx: RawTracePointContext) -> i32 {
    send_reset(ctx.arg(0), ctx.arg(1), 0)
}

/// A RST answers a packet over IPv4.
#[fentry]
pub fn reset_answer(ctx: FEntryContext) -> i32 {
    answered(ctx.arg(0), ctx.arg(1))
}

/// The same.
#[kprobe]
pub fn reset_answer_probe(ctx: ProbeContext) -> i32 {
    answered(ctx.arg(0).unwrap_or(0), ctx.arg(1).unwrap_or(0))
}

/// A RST answers a packet over IPv6.
#[fentry]
pub fn reset_answer6(ctx: FEntryContext) -> i32 {
    answered(ctx.arg(0), ctx.arg(1))
}

/// The same.
#[kprobe]
pub fn reset_answer6_probe(ctx: ProbeContext) -> i32 {
    answered(ctx.arg(0).unwrap_or(0), ctx.arg(1).unwrap_or(0))
}

/// With a socket, the tracepoint reports it.
#[inline(always)]
fn answered(sk: u64, skb: u64) -> i32 {
    if sk == 0 { send_reset(0, skb, 0) } else { 0 }
}

/// The answer to a SYN for which there is no socket, or a backend's own deliberate RST.
#[inline(always)]
fn send_reset(sk: u64, skb: u64, reason: u32) -> i32 {
    if sk != 0 && skb == 0 && maps::connection(sk).is_none() {
        ending::reset(sk, reason);
        return 0;
    }
    // The skb's own check: the verifier takes no arithmetic on a pointer that may be null.
    if sk != 0 || skb == 0 {
        return 0;
    }
    unanswered(skb, reason);
    0
}

/// A SYN for which there is no socket is answered by a RST.
#[apart]
fn unanswered(skb: u64, reason: u32) {
    let mut packet = Packet::NONE;
    if !packet::of_upstream(skb, &mut packet) {
        if packet.flags & (SYN | ACK) == SYN {
            maps::add_stray(task::now(), packet.sequence, &packet.key.remote, reason);
        }
        return;
    }
    if packet.from_upstream || packet.flags & (SYN | ACK) != SYN {
        return;
    }
    if let Some(flow) = packet.flow() {
        flow.rst_sent = task::now();
        flow.rst_reason = reason;
    }
}
