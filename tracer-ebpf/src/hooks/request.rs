//! `ngx_int_t ngx_http_special_response_handler(ngx_http_request_t *r, ngx_int_t error)`
//! (src/http/ngx_http_special_response.c): every error answer that nginx itself makes. Without it failed requests
//! are known only by their connections, without a status.

use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use tracer_ebpf::abi::{ANSWER, Answer, Connection, Endpoint, FLAG_OPEN};

use crate::{
    emit::{self, Urgency},
    hooks::{
        attempt::{self, CONNECTION_FD},
        state,
    },
    maps::{CONNECTIONS, REQUESTS, RequestKey},
    read, sock, task,
};

/// `NGX_HTTP_MODULE`, the signature every `ngx_http_request_t` begins with.
const HTTP: u32 = 0x5054_5448;
// ngx_http_request_t, src/http/ngx_http_request.h (upstream: builds with the cache, the default).
const REQUEST_CONNECTION: u64 = 8;
const REQUEST_UPSTREAM: u64 = 72;
/// ngx_http_upstream_t.peer, src/http/ngx_http_upstream.h.
const UPSTREAM_PEER: u64 = 16;
/// ngx_connection_t.log, src/core/ngx_connection.h.
const CONNECTION_LOG: u64 = 80;
/// ngx_log_t.connection, src/core/ngx_log.h.
pub const LOG_CONNECTION: u64 = 16;

/// `&r->upstream->peer`, 0 where `request` is no request or has no upstream.
#[inline(always)]
pub fn peer_of(request: u64) -> u64 {
    if read::user::<u32>(request) != Some(HTTP) {
        return 0;
    }
    match read::user::<u64>(request.wrapping_add(REQUEST_UPSTREAM)) {
        Some(upstream) if upstream != 0 => upstream.wrapping_add(UPSTREAM_PEER),
        _ => 0,
    }
}

/// Writes the record of the request's last connection before its answer's, if none was written yet: it is a unix
/// socket's, or nginx keeps it alive.
#[inline(always)]
fn last_connection(pid: u32, peer: u64, begun: u32) {
    let key = RequestKey::new(pid, peer, begun);
    let Some(last) = REQUESTS.get_ptr(&key) else {
        return;
    };
    // SAFETY: the entry lives as long as the program runs.
    let sk = unsafe { (*last).socket };
    let _ = REQUESTS.remove(&key);
    let Some(connection) = CONNECTIONS.get_ptr_mut(&sk) else {
        return;
    };
    // SAFETY: as above.
    let connection: &mut Connection = unsafe { &mut *connection };
    if connection.peer == peer && connection.begun == begun {
        connection.flags |= FLAG_OPEN;
        state::write(sk, connection);
        connection.flags &= !FLAG_OPEN;
    }
}

/// nginx makes an error answer.
#[uprobe]
pub fn special_response(ctx: ProbeContext) -> u32 {
    let Some(status) = ctx.arg::<u64>(1) else {
        return 0;
    };
    if !matches!(status, 500 | 502 | 504) {
        return 0;
    }
    let (Some((pid, _)), Some(request)) = (task::worker(), ctx.arg::<u64>(0)) else {
        return 0;
    };
    let mut record = Answer {
        header: emit::header::<Answer>(ANSWER, pid, task::now()),
        peer: peer_of(request),
        connection: 0,
        begun: 0,
        padding2: 0,
        client: Endpoint::default(),
        status: status as u16,
        padding: [0; 4],
    };
    if record.peer != 0 {
        record.begun = attempt::begun(record.peer);
        last_connection(pid, record.peer, record.begun);
    }
    if let Some(connection) = read::user::<u64>(request.wrapping_add(REQUEST_CONNECTION)) {
        if let Some(log) = read::user::<u64>(connection.wrapping_add(CONNECTION_LOG)) {
            record.connection = read::user(log.wrapping_add(LOG_CONNECTION)).unwrap_or(0);
        }
        let client = read::user(connection.wrapping_add(CONNECTION_FD)).and_then(task::socket_of);
        if let Some(sk) = client {
            record.client = sock::remote(sk);
        }
    }
    emit::record(&record, Urgency::Now);
    0
}
