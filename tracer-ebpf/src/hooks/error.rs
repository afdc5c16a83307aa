//! `inet_sk_error_report(const struct sock *sk)`, since 5.14, and `icmp_send(const struct sk_buff *skb, int type, int
//! code)`, since 6.11. Without the first, asynchronous errors are known only as nginx logs them; without the second,
//! which ICMP error this host made is not known.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_ebpf::abi::Connection;

use crate::{maps::CONNECTIONS, packet, sock, task};

/// A socket reports an error to its owner.
#[btf_tracepoint(function = "inet_sk_error_report")]
pub fn error_report(ctx: BtfTracePointContext) -> i32 {
    let sk: u64 = ctx.arg(0);
    let Some(connection) = CONNECTIONS.get_ptr_mut(&sk) else {
        return 0;
    };
    let error = sock::error(sk);
    if error != 0 {
        // SAFETY: the entry lives as long as the program runs.
        let connection: &mut Connection = unsafe { &mut *connection };
        connection.error = error;
        connection.error_at = task::now();
    }
    0
}

/// This host answers a packet with an ICMP error.
#[btf_tracepoint(function = "icmp_send")]
pub fn icmp_send(ctx: BtfTracePointContext) -> i32 {
    let (skb, kind, code): (u64, u32, u32) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    let Some(packet) = packet::of_upstream(skb) else {
        return 0;
    };
    if let Some(flow) = packet::flow(&packet.key) {
        flow.icmp_sent = task::now();
        flow.icmp_kind = kind as u8;
        flow.icmp_code = code as u8;
    }
    0
}
