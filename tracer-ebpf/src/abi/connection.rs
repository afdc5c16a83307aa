//! The life of an upstream connection: kept in a kernel map, written once, at its end.

use super::{Endpoint, Flow, Header};

/// Tag of [`Connection`].
pub const CONNECTION: u16 = 2;

/// The RST met the socket in `SYN_SENT`.
pub const FLAG_RST_IN_SYN_SENT: u16 = 1;
/// It serves a request of which an attempt failed before.
pub const FLAG_RETRY: u16 = 2;
/// A unix stream socket: the endpoints are void.
pub const FLAG_UNIX: u16 = 4;

/// The route lookups of one `connect()`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Routes {
    /// How many.
    pub lookups: u16,
    /// IPv6: the last one's route type.
    pub kind: u8,
    /// Zero.
    pub padding: u8,
    /// IPv4: the last one's error (negative errno).
    pub error: i32,
}

/// An upstream connection.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// Tag [`CONNECTION`]; `at` is when the worker closed it.
    pub header: Header,
    /// `struct sock *`.
    pub socket: u64,
    /// `ngx_peer_connection_t *` of the request it serves, 0 unknown.
    pub peer: u64,
    /// When `connect()` began, 0 before attaching.
    pub start: u64,
    /// 0: never.
    pub established: u64,
    /// 0: none since the request began.
    pub first_byte: u64,
    /// 0: none.
    pub fin_received: u64,
    /// 0: none.
    pub rst_received: u64,
    /// When the socket last reported an error, 0 never.
    pub error_at: u64,
    /// 0: none.
    pub last_retransmit: u64,
    /// When nginx last took it from its keep-alive cache, 0 never.
    pub reused_at: u64,
    /// `tcp_sock.bytes_received`.
    pub bytes_received: u64,
    /// `tcp_sock.bytes_sent`.
    pub bytes_sent: u64,
    /// Positive errno, 0 none.
    pub error: u32,
    /// Network namespace (inode number).
    pub netns: u32,
    /// How often reused.
    pub reuses: u32,
    /// `FLAG_*`.
    pub flags: u16,
    /// SYNs sent again.
    pub syn_retransmits: u16,
    /// Route lookups within `connect()`.
    pub routes: Routes,
    /// HTTP/1 status of the last response, 0 unread.
    pub status: u16,
    /// TCP state before the worker closed it.
    pub state: u8,
    /// Zero.
    pub padding: u8,
    /// nginx's end; port 0: none chosen.
    pub local: Endpoint,
    /// The upstream's end.
    pub remote: Endpoint,
    /// What was seen of its packets.
    pub flow: Flow,
}
