//! What the client of a request that met a failure got in the end.

use super::Header;

/// Tag of [`Reply`].
pub const REPLY: u16 = 20;

/// In an answer: a [`Reply`] will tell what the client really got.
pub const WATCHED: u16 = 1;

/// The client of a request of which an attempt failed is sent its answer, or is gone.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// Tag [`REPLY`].
    pub header: Header,
    /// `ngx_http_request_t *` of the client's own request, subrequests apart.
    pub request: u64,
    /// `log->connection`.
    pub connection: u64,
    /// Of the attempt that failed last, see [`Worker::request`](super::Worker::request); 0 without
    /// an upstream.
    pub failed: u64,
    /// `r->headers_out.status`; 0: the client is gone.
    pub status: u16,
    /// 1: its answer had begun before that attempt failed.
    pub is_earlier: u16,
    /// Zero.
    pub padding: [u16; 2],
}

/// A client's own request (`r->main`), as the log of its connection has it. What can not be read is
/// 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Main {
    /// `ngx_http_request_t *`
    pub request: u64,
    /// That, or the subrequest of it that it was found by; 0: there is no request.
    pub by: u64,
    /// `r->upstream` of that.
    pub upstream: u64,
    /// `r->connection`, the client's.
    pub nginx: u64,
    /// `log->connection`, that one's number.
    pub connection: u64,
    /// The request's ordinal on it, 0 unknown.
    pub ordinal: u64,
    /// The client's socket, 0 if it was not looked for.
    pub socket: u64,
    /// What `nginx` itself has of that number and of how many requests it carried, with what lies
    /// between: no other request of the worker's has the same. 0 unknown.
    pub life: [u64; 3],
}

impl Main {
    /// Nothing is known.
    pub const NONE: Self = Self {
        request: 0,
        by: 0,
        upstream: 0,
        nginx: 0,
        connection: 0,
        ordinal: 0,
        socket: 0,
        life: [0; 3],
    };
}

/// A request whose answer is waited for.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Watched {
    /// See [`Reply::request`]; 0: none.
    pub request: u64,
    /// See [`Reply::connection`].
    pub connection: u64,
    /// Its ordinal on that connection, 0 unknown.
    pub ordinal: u64,
    /// See [`Reply::failed`].
    pub failed: u64,
    /// Host pid.
    pub worker: u64,
}

impl Watched {
    /// None.
    pub const NONE: Self = Self {
        request: 0,
        connection: 0,
        ordinal: 0,
        failed: 0,
        worker: 0,
    };
}
