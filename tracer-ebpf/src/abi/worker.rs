//! What the kernel side keeps of an nginx process. Written by the collector, then by the hooks.

use super::Routes;

/// A followed master: value of the `MASTERS` map, keyed by host pid.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Master {
    /// Where libc's `errno` lies from the thread pointer; 0 unknown. Its children share it.
    pub errno_offset: i64,
    /// Where `headers_out.status` lies in an `ngx_http_request_t`; 0 unknown. Its children share it.
    pub status_offset: u16,
    /// Zero.
    pub padding: [u16; 3],
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
    /// 1: an attempt of the same request came before that call; 2: of the same client's request, with another upstream
    /// object (`error_page` led on to it).
    pub is_retry: u32,
    /// See [`Master::status_offset`].
    pub status_offset: u16,
    /// How many of its requests are watched until they are answered.
    pub watched: u16,
    /// Route lookups within that call.
    pub routes: Routes,
}
