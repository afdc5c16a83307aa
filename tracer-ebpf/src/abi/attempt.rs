//! An attempt to reach an upstream: failed at once, still knocking, or first answered.

use super::{Client, Endpoint, Header, Routes};

/// Tag of [`Failure`].
pub const FAILURE: u16 = 1;
/// Tag of [`Retransmit`].
pub const RETRANSMIT: u16 = 3;
/// Tag of [`FirstByte`].
pub const FIRST_BYTE: u16 = 4;

/// Tag of [`Retry`].
pub const RETRY: u16 = 11;

/// `sizeof(struct sockaddr_un)`, rounded up.
pub const SOCKADDR_LEN: usize = 112;

/// `ngx_event_connect_peer` failed at once.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// Tag [`FAILURE`].
    pub header: Header,
    /// When the call began.
    pub start: u64,
    /// The request, see [`Worker::request`](super::Worker::request).
    pub request: u64,
    /// `NGX_ERROR` −1, `NGX_BUSY` −3, `NGX_DECLINED` −5.
    pub code: i32,
    /// Positive; 0 none.
    pub errno: u32,
    /// Route lookups within the call.
    pub routes: Routes,
    /// The kernel moved the socket to `SYN_SENT`.
    pub syn_sent: u8,
    /// `pc->sockaddr` could be read.
    pub has_address: u8,
    /// Zero.
    pub padding: [u8; 2],
    /// `pc->socklen`; for `NGX_BUSY` the length of `*pc->name`.
    pub address_len: u32,
    /// `pc->sockaddr`, up to its length; for `NGX_BUSY` `*pc->name`.
    pub address: [u8; SOCKADDR_LEN],
    /// `pc->local->sockaddr` (`proxy_bind`), zero if none.
    pub source: [u8; 32],
}

/// A further attempt of a request begins: how it went is reported at its end.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Tag [`RETRY`].
    pub header: Header,
    /// The request, see [`Worker::request`](super::Worker::request).
    pub request: u64,
}

/// A SYN of a worker's is sent again.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Retransmit {
    /// Tag [`RETRANSMIT`].
    pub header: Header,
    /// `struct sock *`.
    pub socket: u64,
    /// The upstream.
    pub remote: Endpoint,
    /// Its ordinal.
    pub count: u16,
    /// Zero.
    pub padding: [u8; 4],
}

/// The first byte of a response on a connection that serves a retry.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FirstByte {
    /// Tag [`FIRST_BYTE`].
    pub header: Header,
    /// `struct sock *`.
    pub socket: u64,
    /// The request, see [`Worker::request`](super::Worker::request).
    pub request: u64,
    /// When `connect()` began.
    pub start: u64,
    /// HTTP/1 status, 0 unread.
    pub status: u16,
    /// Zero.
    pub padding: u16,
    /// `pc->socklen`.
    pub address_len: u32,
    /// `pc->sockaddr`, up to its length.
    pub address: [u8; SOCKADDR_LEN],
    /// nginx's end.
    pub local: Endpoint,
    /// Zero.
    pub padding_of_local: [u8; 6],
    /// Whose request it is.
    pub client: Client,
}

impl FirstByte {
    /// A first byte of which nothing is known yet.
    pub const UNKNOWN: Self = Self {
        header: Header {
            tag: FIRST_BYTE,
            len: 0,
            pid: 0,
            at: 0,
        },
        socket: 0,
        request: 0,
        start: 0,
        status: 0,
        padding: 0,
        address_len: 0,
        address: [0; SOCKADDR_LEN],
        local: Endpoint::NONE,
        padding_of_local: [0; 6],
        client: Client::UNKNOWN,
    };
}

impl Failure {
    /// A failure of which nothing is known yet.
    pub const UNKNOWN: Self = Self {
        header: Header {
            tag: FAILURE,
            len: 0,
            pid: 0,
            at: 0,
        },
        start: 0,
        request: 0,
        code: 0,
        errno: 0,
        routes: Routes::NONE,
        syn_sent: 0,
        has_address: 0,
        padding: [0; 2],
        address_len: 0,
        address: [0; SOCKADDR_LEN],
        source: [0; 32],
    };
}
