//! `fib_table_lookup(u32 tb_id, const struct flowi4 *flp, const struct fib_nh_common *nhc, int
//! err)` and `fib6_table_lookup(const struct net *net, const struct fib6_result *res, struct
//! fib6_table *table, const struct flowi6 *flp)`: what routing said within nginx's connect(). A
//! security hook denies before any lookup. Without them routes and security hooks with equal errnos
//! cannot be distinguished.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use tracer_ebpf::abi::Worker;

use crate::{constants::OFFSETS, read, sock, task};

/// The worker, if it is inside connect(): once that failed it logs, perhaps to a syslog server,
/// which is routed as well. By sockets that is not known: the flow is to be TCP's, unlike those of
/// datagrams and of packets that arrive meanwhile.
#[inline(always)]
fn connecting(flow: u64, protocol: &'static u16) -> Option<&'static mut Worker> {
    let (_, worker) = task::worker()?;
    if worker.layout.is_by_socket() {
        if read::kernel::<u8>(flow, protocol) != Some(sock::TCP as u8) {
            return None;
        }
    } else if worker.peer == 0 || worker.has_logged != 0 {
        return None;
    }
    Some(worker)
}

/// An IPv4 table was searched.
#[raw_tracepoint(tracepoint = "fib_table_lookup")]
pub fn route_lookup(ctx: RawTracePointContext) -> i32 {
    if let Some(worker) = connecting(ctx.arg(1), &OFFSETS.flow_protocol) {
        worker.routes.lookups = worker.routes.lookups.saturating_add(1);
        worker.routes.error = ctx.arg(3);
    }
    0
}

/// An IPv6 table was searched.
#[raw_tracepoint(tracepoint = "fib6_table_lookup")]
pub fn route_lookup6(ctx: RawTracePointContext) -> i32 {
    if let Some(worker) = connecting(ctx.arg(3), &OFFSETS.flow6_protocol) {
        worker.routes.lookups = worker.routes.lookups.saturating_add(1);
        worker.routes.kind = read::kernel(ctx.arg(1), &OFFSETS.fib6_type).unwrap_or(0);
    }
    0
}
