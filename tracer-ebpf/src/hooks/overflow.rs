//! `tcp_conn_request(struct request_sock_ops *rsk_ops, const struct tcp_request_sock_ops *af_ops,
//! struct sock *sk, struct sk_buff *skb)` and `tcp_v4_syn_recv_sock(const struct sock *sk, struct
//! sk_buff *skb, …)`, its IPv6 sibling alike: a listener takes a SYN, or the ACK after it. Both
//! begin with the same test (`sk_acceptq_is_full`), and drop the packet without a tracepoint if it
//! holds; so their entry shows it, and how many parameters follow does not matter. Without them a
//! full accept queue is read from the listener, as `inferred`.

use aya_ebpf::{
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use tracer_ebpf::abi::own_reason::LISTEN_OVERFLOW;

use crate::{
    constants::OFFSETS,
    hooks::drop,
    packet::{self, Packet},
    read,
};

/// A listener takes a SYN.
#[fentry]
pub fn overflow_syn(ctx: FEntryContext) -> i32 {
    taken(ctx.arg(2), ctx.arg(3))
}

/// The same.
#[kprobe]
pub fn overflow_syn_probe(ctx: ProbeContext) -> i32 {
    taken(ctx.arg(2).unwrap_or(0), ctx.arg(3).unwrap_or(0))
}

/// A listener takes the ACK of a handshake over IPv4.
#[fentry]
pub fn overflow_ack(ctx: FEntryContext) -> i32 {
    taken(ctx.arg(0), ctx.arg(1))
}

/// The same.
#[kprobe]
pub fn overflow_ack_probe(ctx: ProbeContext) -> i32 {
    taken(ctx.arg(0).unwrap_or(0), ctx.arg(1).unwrap_or(0))
}

/// A listener takes the ACK of a handshake over IPv6 (or over IPv4, on a socket of both).
#[fentry]
pub fn overflow_ack6(ctx: FEntryContext) -> i32 {
    taken(ctx.arg(0), ctx.arg(1))
}

/// The same.
#[kprobe]
pub fn overflow_ack6_probe(ctx: ProbeContext) -> i32 {
    taken(ctx.arg(0).unwrap_or(0), ctx.arg(1).unwrap_or(0))
}

#[inline(always)]
fn taken(listener: u64, skb: u64) -> i32 {
    let Some(queue) = read::kernel::<u32>(listener, &OFFSETS.ack_backlog) else {
        return 0;
    };
    let Some(limit) = read::kernel::<u32>(listener, &OFFSETS.max_ack_backlog) else {
        return 0;
    };
    if queue <= limit {
        return 0;
    }
    let mut packet = Packet::NONE;
    if packet::taken_by(listener, skb, &mut packet) {
        drop::note(&packet, LISTEN_OVERFLOW);
        if let Some(flow) = packet.flow() {
            flow.queue = queue;
            flow.queue_limit = limit;
        }
    }
    0
}
