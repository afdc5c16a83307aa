//! What the kernel side keeps of an nginx process. Written by the collector, then by the hooks.

use super::Routes;

/// What lies where in a master's processes: the value of the `MASTERS` map, keyed by host pid. Its children share it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Where libc's `errno` lies from the thread pointer; 0 unknown.
    pub errno: i64,
    /// Where an `ngx_connection_t` counts its requests; 0 unknown.
    pub requests: u64,
    /// Where `headers_out.status` lies in an `ngx_http_request_t`; 0 unknown.
    pub status: u64,
    /// Where `ngx_event_connect_peer` begins in the process. 0: attempts are seen by its entry and return, not by their
    /// sockets.
    pub connect: u64,
    /// How many bytes of code it is.
    pub connect_len: u64,
}

impl Layout {
    /// Are attempts seen by their sockets?
    #[must_use]
    #[inline(always)]
    pub fn is_by_socket(&self) -> bool {
        self.connect != 0
    }
}

/// Elements of the array `WORKER_HINT`.
pub const WORKER_HINTS: u32 = 4096;

/// A followed worker: value of the `WORKERS` map, keyed by host pid.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Worker {
    /// See [`Layout`].
    pub layout: Layout,
    /// The `ngx_peer_connection_t *` of the `ngx_event_connect_peer` call under way, 0 none; by sockets always 0.
    pub peer: u64,
    /// When that call began; by sockets when the attempt was first seen.
    pub start: u64,
    /// The `struct sock *` that call moved to `SYN_SENT`, 0 none.
    pub socket: u64,
    /// The request of that call: a number that this worker gives to no other request.
    pub request: u64,
    /// The errno that call logged.
    pub logged_errno: u32,
    /// 1: that call logged, be it without an errno.
    pub has_logged: u32,
    /// 1: an attempt of the same request came before that call; 2: of the same client's request, with another upstream
    /// object (`error_page` led on to it).
    pub is_retry: u32,
    /// How many of its requests are watched until they are answered.
    pub watched: u32,
    /// 1: the worker's next attempt may be a further one of a request, whose last one nothing else tells of.
    pub is_led_on: u64,
    /// 1: it has had unix connections to upstreams, whose end only nginx tells.
    pub has_unix: u64,
    /// A socket of which nothing is known got a RST: the `struct sock *`, 0 none.
    pub reset: u64,
    /// When.
    pub reset_at: u64,
    /// Route lookups within that call; by sockets since the worker last read or wrote one.
    pub routes: Routes,
}
