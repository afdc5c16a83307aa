//! What the kernel side keeps of an nginx process. Written by the collector, then by the hooks.

use super::Routes;

/// A followed master: value of the `MASTERS` map, keyed by host pid.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Master {
    /// Where libc's `errno` lies from the thread pointer; 0 unknown. Its children share it.
    pub errno_offset: i64,
}

/// A followed worker: value of the `WORKERS` map, keyed by host pid.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Worker {
    /// See [`Master::errno_offset`].
    pub errno_offset: i64,
    /// The `ngx_peer_connection_t *` of the `ngx_event_connect_peer` call under way, 0 none.
    pub peer: u64,
    /// When that call began.
    pub start: u64,
    /// The `struct sock *` that call moved to `SYN_SENT`, 0 none.
    pub socket: u64,
    /// `pc->start_time` of that call.
    pub begun: u32,
    /// `pc->tries` of that call.
    pub tries: u32,
    /// The errno that call logged.
    pub logged_errno: u32,
    /// 1: that call logged, be it without an errno.
    pub has_logged: u32,
    /// 1: an attempt of the same request came before that call.
    pub is_retry: u32,
    /// Zero.
    pub padding: u32,
    /// Route lookups within that call.
    pub routes: Routes,
}
