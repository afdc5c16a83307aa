//! What nginx itself does about a request: its error answers, its error-log calls.

use super::{Endpoint, Header};

/// Tag of [`Answer`].
pub const ANSWER: u16 = 5;
/// Tag of [`LogCall`].
pub const LOG_CALL: u16 = 6;

/// Bytes of a log call's format string that are kept.
pub const FORMAT_LEN: usize = 96;

/// Bytes of a request's beginning that are kept.
pub const HEAD_LEN: usize = 256;
/// Bytes kept before the first header of a request that lies further in.
pub const TAIL_LEN: usize = 128;
/// Bytes of a `Host` that are kept.
pub const HOST_LEN: usize = 96;

/// Bytes of a [`Name`] that are kept.
pub const NAME_LEN: usize = 96;

/// In [`Name::len`]: it is a variable's, which nginx computed.
pub const NAME_COMPUTED: u64 = 1 << 28;

/// By what a request is known elsewhere.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Name {
    /// Its length; 0 none. Longer than `text`: it is not known.
    pub len: u64,
    /// Its bytes, and what follows them in the worker's memory.
    pub text: [u8; NAME_LEN],
}

impl Name {
    /// None.
    pub const NONE: Self = Self {
        len: 0,
        text: [0; NAME_LEN],
    };
}

/// Whose request it is, and what it asks.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// `ngx_http_request_t *` of the client's own request, subrequests apart; 0 unknown.
    pub request: u64,
    /// `r->connection->log->connection`, 0 unknown.
    pub connection: u64,
    /// The client's end; port 0 unknown.
    pub address: Endpoint,
    /// The port of nginx's own that it connected to, 0 unknown.
    pub server_port: u16,
    /// Bytes of `r->header_in` that were parsed so far, from its beginning.
    pub parsed: u32,
    /// Where in `r->header_in` the first header of this request begins, 0 unknown.
    pub line_end: u32,
    /// The length of its `Host`, 0 none.
    pub host_len: u32,
    /// What `r->header_in` begins with, zero unknown.
    pub head: [u8; HEAD_LEN],
    /// What comes before the first header, where that lies beyond `head`.
    pub tail: [u8; TAIL_LEN],
    /// The value of `Host`.
    pub host: [u8; HOST_LEN],
    /// The `server_name` of its server block.
    pub server: Name,
    /// The name of its upstream block.
    pub block: Name,
    /// `$request_id`, or the value of `X-Request-ID`.
    pub id: Name,
    /// The value of `traceparent`.
    pub traceparent: Name,
}

impl Client {
    /// Nothing is known yet.
    pub const UNKNOWN: Self = Self {
        request: 0,
        connection: 0,
        address: Endpoint::NONE,
        server_port: 0,
        parsed: 0,
        line_end: 0,
        host_len: 0,
        head: [0; HEAD_LEN],
        tail: [0; TAIL_LEN],
        host: [0; HOST_LEN],
        server: Name::NONE,
        block: Name::NONE,
        id: Name::NONE,
        traceparent: Name::NONE,
    };
}

/// `ngx_http_special_response_handler(r, 500 | 502 | 504)`, or `ngx_http_script_return_code` with a
/// status of 500 or above.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// Tag [`ANSWER`].
    pub header: Header,
    /// See [`Worker::request`](super::Worker::request), 0 without an upstream.
    pub request: u64,
    /// The status.
    pub status: u16,
    /// What the client got already; or [`WATCHED`](super::WATCHED); or 0: not known.
    pub reply: u16,
    /// 1: a `return` of the configuration made it.
    pub returned: u16,
    /// Zero.
    pub padding: u16,
    /// Whose request it is.
    pub client: Client,
}

impl Answer {
    /// An answer of which nothing is known yet.
    pub const UNKNOWN: Self = Self {
        header: Header {
            tag: ANSWER,
            len: 0,
            pid: 0,
            at: 0,
        },
        request: 0,
        status: 0,
        reply: 0,
        returned: 0,
        padding: 0,
        client: Client::UNKNOWN,
    };
}

/// In `level`: the log is a `stream {}` session's.
pub const LOG_CALL_STREAM: u32 = 0x100;
/// In `level`: the first argument is a small number, in `state`.
pub const LOG_CALL_NUMBER: u32 = 0x200;

/// Bytes kept of a text or name that a log call was given.
pub const TEXT_LEN: usize = 96;

/// `ngx_log_error_core(level <= NGX_LOG_ERR, …)`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LogCall {
    /// Tag [`LOG_CALL`].
    pub header: Header,
    /// The request whose log it is, see [`Worker::request`](super::Worker::request); 0 unknown.
    pub request: u64,
    /// `log->connection`.
    pub connection: u64,
    /// The errno given, 0 none.
    pub errno: u32,
    /// `NGX_LOG_*`, with [`LOG_CALL_STREAM`] for a `stream {}` session's, and [`LOG_CALL_NUMBER`].
    pub level: u32,
    /// The format string, NUL-terminated unless longer; empty if its page was not in memory yet.
    pub format: [u8; FORMAT_LEN],
    /// Where it lies in the worker.
    pub format_at: u64,
    /// Bytes of `text` that count; 0 where it ends with NUL.
    pub text_len: u32,
    /// The argument after a `%V`; with [`LOG_CALL_NUMBER`] the first one.
    pub state: u32,
    /// The text of a `%*s`, `%V` or `%s` that the format begins with.
    pub text: [u8; TEXT_LEN],
}

impl LogCall {
    /// A call of which nothing is known yet.
    pub const UNKNOWN: Self = Self {
        header: Header {
            tag: LOG_CALL,
            len: 0,
            pid: 0,
            at: 0,
        },
        request: 0,
        connection: 0,
        errno: 0,
        level: 0,
        format: [0; FORMAT_LEN],
        format_at: 0,
        text_len: 0,
        state: 0,
        text: [0; TEXT_LEN],
    };
}
