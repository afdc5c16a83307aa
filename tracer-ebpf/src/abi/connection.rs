//! The life of an upstream connection: kept in a kernel map, written once, at its end.

use super::{COMM_LEN, Endpoint, Flow, Header, SOCKADDR_LEN, Signal};

/// Tag of [`Connection`].
pub const CONNECTION: u16 = 2;

/// The RST met the socket in `SYN_SENT`.
pub const FLAG_RST_IN_SYN_SENT: u16 = 1;
/// It serves a request of which an attempt failed before.
pub const FLAG_RETRY: u16 = 2;
/// A unix stream socket: the endpoints are void.
pub const FLAG_UNIX: u16 = 4;
/// The record was written while the connection was open.
pub const FLAG_OPEN: u16 = 8;

/// The worker wrote TLS application data: its handshake was complete.
pub const FLAG_TLS_DATA: u16 = 16;

/// The worker read the end although the response's header had announced another: it broke off.
pub const FLAG_BROKE_OFF: u16 = 32;

/// Which request it serves was not asked yet: nothing is wrong with it so far.
pub const FLAG_UNASKED: u16 = 64;

/// The log of the request it serves was found to let errors through.
pub const FLAG_LOGS_ERRORS: u16 = 128;
/// In [`Connection::flags`]: a read failed after all had come that the response's header had
/// announced.
pub const FLAG_WHOLE: u16 = 256;
/// In [`Connection::flags`]: the response's header was measured.
pub const FLAG_MEASURED: u16 = 512;
/// In [`Connection::head_at`]: the header announces no length.
pub const NO_LENGTH: u64 = (1 << 48) - 1;

/// `TCP_SYN_SENT`, include/net/tcp_states.h.
const TCP_SYN_SENT: u8 = 2;

/// The route lookups of one `connect()`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Routes {
    /// How many.
    pub lookups: u16,
    /// IPv6: the last one's route type.
    pub kind: u8,
    /// The errno with which a security module denied the call before, 0: none was seen to.
    pub security: u8,
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
    /// 0: none since the request began. TLS's handshake and its alerts are no response.
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
    /// The request it serves, see [`Worker::request`](super::Worker::request); 0 unknown.
    pub request: u64,
    /// nginx's `ngx_connection_t *`, 0 unknown.
    pub nginx: u64,
    /// The request's ordinal on it (`c->requests`), 0 unknown.
    pub turn: u64,
    /// Positive errno, 0 none.
    pub error: u32,
    /// Network namespace (inode number).
    pub netns: u32,
    /// The worker's last write, 0 none.
    pub last_sent: u64,
    /// The worker's last read of bytes, 0 none.
    pub last_received: u64,
    /// The worker read the end, 0 not.
    pub end_read: u64,
    /// A read or write of the worker's failed, 0 none did.
    pub transfer_error_at: u64,
    /// Nanoseconds without a read when it was last reused.
    pub idle: u64,
    /// The errno of that, positive.
    pub transfer_error: u32,
    /// Unix: the host pid of who called `listen()`, 0 unknown.
    pub listener_pid: u32,
    /// First byte written, 0 unread.
    pub first_sent: u8,
    /// First byte read, 0 unread.
    pub first_received: u8,
    /// Bytes of a message that is not whole yet, of the resolver's own connections; with
    /// [`FLAG_MEASURED`] those of the response's header.
    pub pending: u16,
    /// The TLS alert that came first (RFC 8446 section 6): 1 and its description; 0 none.
    pub alert: u16,
    /// Bytes that the worker wrote of the request, until it heard of the upstream; at most
    /// `u16::MAX`.
    pub asked: u16,
    /// Where the worker read the first byte to; with [`FLAG_MEASURED`] the response's
    /// `Content-Length`, or [`NO_LENGTH`].
    pub head_at: u64,
    /// Unix: `struct sock *` of the upstream's end, 0 unknown.
    pub upstream_end: u64,
    /// Unix: `pc->sockaddr`, which lies in nginx's configuration.
    pub address: u64,
    /// Unix: `pc->socklen`.
    pub address_len: u32,
    /// Unix: the number of nginx's socket's inode, its lower half.
    pub inode: u32,
    /// Bytes of the response so far, at most `u32::MAX`.
    pub response: u32,
    /// Bytes that the worker read, of all requests, at most `u32::MAX`.
    pub read: u32,
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

/// In [`UnixConnection::accepted`]: it waits for `accept()`.
pub const QUEUED: u32 = 1;
/// In [`UnixConnection::accepted`]: a process has it.
pub const ACCEPTED: u32 = 2;

/// The process that last read from or wrote to the upstream's end.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Holder {
    /// Host pid, 0: none yet.
    pub pid: u32,
    /// Its `comm`.
    pub name: [u8; COMM_LEN],
}

impl Holder {
    /// Nobody has used it.
    pub const NOBODY: Self = Self {
        pid: 0,
        name: [0; COMM_LEN],
    };
}

/// A unix connection: the same, with where to, and what is known of the upstream's end.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct UnixConnection {
    /// Its header's length is this structure's.
    pub connection: Connection,
    /// `pc->socklen`, 0 unknown.
    pub address_len: u32,
    /// `QUEUED`, `ACCEPTED`; 0 unknown.
    pub accepted: u32,
    /// Who uses the upstream's end.
    pub holder: Holder,
    /// Zero.
    pub padding: u32,
    /// The last fatal signal sent to the holder.
    pub signal: Signal,
    /// `pc->sockaddr`, up to its length.
    pub address: [u8; SOCKADDR_LEN],
}

impl UnixConnection {
    /// A connection of which nothing is known yet.
    pub const UNKNOWN: Self = Self {
        connection: Connection::UNKNOWN,
        address_len: 0,
        accepted: 0,
        holder: Holder::NOBODY,
        padding: 0,
        signal: Signal::NONE,
        address: [0; SOCKADDR_LEN],
    };
}

impl Connection {
    /// A connection of which nothing is known yet.
    pub const UNKNOWN: Self = Self {
        header: Header {
            tag: CONNECTION,
            len: size_of::<Self>() as u16,
            pid: 0,
            at: 0,
        },
        socket: 0,
        peer: 0,
        start: 0,
        established: 0,
        first_byte: 0,
        fin_received: 0,
        rst_received: 0,
        error_at: 0,
        last_retransmit: 0,
        reused_at: 0,
        bytes_received: 0,
        bytes_sent: 0,
        request: 0,
        nginx: 0,
        turn: 0,
        error: 0,
        netns: 0,
        last_sent: 0,
        last_received: 0,
        end_read: 0,
        transfer_error_at: 0,
        idle: 0,
        transfer_error: 0,
        listener_pid: 0,
        first_sent: 0,
        first_received: 0,
        pending: 0,
        alert: 0,
        asked: 0,
        head_at: 0,
        upstream_end: 0,
        address: 0,
        address_len: 0,
        inode: 0,
        response: 0,
        read: 0,
        reuses: 0,
        flags: 0,
        syn_retransmits: 0,
        routes: Routes::NONE,
        status: 0,
        state: TCP_SYN_SENT,
        padding: 0,
        local: Endpoint::NONE,
        remote: Endpoint::NONE,
        flow: Flow::NONE,
    };
}

impl Routes {
    /// No lookup.
    pub const NONE: Self = Self {
        lookups: 0,
        kind: 0,
        security: 0,
        error: 0,
    };
}
