//! `tcp_retransmit_skb(const struct sock *sk, const struct sk_buff *skb)`, since 4.15: a SYN sent
//! again is the moment to read the listener's queue. Without it, how many SYNs stayed unanswered is
//! not known.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use tracer_ebpf::abi::{RETRANSMIT, Retransmit};

use crate::{
    emit::{self, Urgency},
    maps,
    sock::{self, state},
    task,
};

/// A segment is sent again.
#[raw_tracepoint(tracepoint = "tcp_retransmit_skb")]
pub fn retransmit(ctx: RawTracePointContext) -> i32 {
    let sk: u64 = ctx.arg(0);
    let Some(connection) = maps::connection(sk) else {
        return 0;
    };
    if sock::tcp_state(sk) != state::SYN_SENT {
        return 0;
    }
    let now = task::now();
    connection.syn_retransmits = connection.syn_retransmits.saturating_add(1);
    connection.last_retransmit = now;
    let record = Retransmit {
        header: emit::header::<Retransmit>(RETRANSMIT, connection.header.pid, now),
        socket: sk,
        remote: connection.remote,
        count: connection.syn_retransmits,
        padding: [0; 4],
    };
    emit::record(&record, Urgency::Now);
    0
}
