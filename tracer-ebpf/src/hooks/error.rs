//! `inet_sk_error_report(const struct sock *sk)`, since 5.14, and `icmp_send(const struct sk_buff
//! *skb, int type, int code)`, since 6.11. Without the first, asynchronous errors are known only as
//! nginx logs them; without the second, which ICMP error this host made is not known.
//!
//! Before those: `sock_def_error_report(struct sock *sk)`, which each TCP socket's report goes
//! through, and `__icmp_send(struct sk_buff *skb_in, int type, int code, …)`.

use crate::{
    maps,
    packet::{self, Packet},
    read, sock, task,
};
use aya_ebpf::{
    macros::{fentry, kprobe, raw_tracepoint},
    programs::{FEntryContext, ProbeContext, RawTracePointContext},
};

/// A socket reports an error to its owner.
#[raw_tracepoint(tracepoint = "inet_sk_error_report")]
pub fn error_report(ctx: RawTracePointContext) -> i32 {
    reported(ctx.arg(0))
}

/// The same, before 5.14.
#[fentry]
pub fn error_report_entry(ctx: FEntryContext) -> i32 {
    // A pointer that the verifier knows the type of: its bytes are a number.
    let sk: u64 = ctx.arg(0);
    reported(read::kernel_at((&raw const sk) as u64).unwrap_or(0))
}

/// The same.
#[kprobe]
pub fn error_report_probe(ctx: ProbeContext) -> i32 {
    reported(ctx.arg(0).unwrap_or(0))
}

#[inline(always)]
fn reported(sk: u64) -> i32 {
    let Some(connection) = maps::connection(sk) else {
        return 0;
    };
    let error = sock::error(sk);
    if error != 0 {
        connection.error = error;
        connection.error_at = task::now();
    }
    0
}

/// This host answers a packet with an ICMP error.
#[raw_tracepoint(tracepoint = "icmp_send")]
pub fn icmp_send(ctx: RawTracePointContext) -> i32 {
    refused(ctx.arg(0), ctx.arg(1), ctx.arg(2))
}

/// The same, before 6.11.
#[fentry]
pub fn icmp_send_entry(ctx: FEntryContext) -> i32 {
    refused(ctx.arg(0), ctx.arg(1), ctx.arg(2))
}

/// The same.
#[kprobe]
pub fn icmp_send_probe(ctx: ProbeContext) -> i32 {
    match (ctx.arg(0), ctx.arg(1), ctx.arg(2)) {
        (Some(skb), Some(kind), Some(code)) => refused(skb, kind, code),
        _ => 0,
    }
}

#[inline(always)]
fn refused(skb: u64, kind: u32, code: u32) -> i32 {
    let mut packet = Packet::NONE;
    if !packet::of_upstream(skb, &mut packet) {
        return 0;
    }
    if let Some(flow) = packet.flow() {
        flow.icmp_sent = task::now();
        flow.icmp_kind = kind as u8;
        flow.icmp_code = code as u8;
    }
    0
}
