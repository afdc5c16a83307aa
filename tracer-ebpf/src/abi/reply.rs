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
    /// `ngx_peer_connection_t *` of the attempt that failed last, 0 without an upstream.
    pub peer: u64,
    /// `pc->start_time`.
    pub begun: u32,
    /// `r->headers_out.status`; 0: the client is gone.
    pub status: u16,
    /// Zero.
    pub padding: u16,
}

/// A request whose answer is waited for.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Watched {
    /// See [`Reply::request`]; 0: none.
    pub request: u64,
    /// See [`Reply::connection`].
    pub connection: u64,
    /// See [`Reply::peer`].
    pub peer: u64,
    /// See [`Reply::begun`].
    pub begun: u32,
    /// Host pid.
    pub worker: u32,
}

impl Watched {
    /// None.
    pub const NONE: Self = Self {
        request: 0,
        connection: 0,
        peer: 0,
        begun: 0,
        worker: 0,
    };
}
