//! `ngx_int_t ngx_http_special_response_handler(ngx_http_request_t *r, ngx_int_t error)`
//! (src/http/ngx_http_special_response.c): every error answer that nginx itself makes. Without it failed requests
//! are known only by their connections, without a status.

use aya_ebpf::{helpers::bpf_probe_read_user_buf, macros::uprobe, programs::ProbeContext};
use tracer_ebpf::abi::{ANSWER, Answer, Client, Connection, FLAG_OPEN};

use crate::{
    emit::{self, Urgency},
    hooks::{
        attempt::{self, CONNECTION_FD},
        reply, state,
    },
    maps::{CONNECTIONS, REQUESTS, RequestKey},
    read, sock, task,
};

/// `NGX_HTTP_MODULE`, the signature every `ngx_http_request_t` begins with.
pub const HTTP: u32 = 0x5054_5448;
// ngx_http_request_t, src/http/ngx_http_request.h (upstream: builds with the cache, the default).
pub const REQUEST_CONNECTION: u64 = 8;
const REQUEST_UPSTREAM: u64 = 72;
const REQUEST_HEADER_IN: u64 = 96;
/// ngx_buf_t.start, src/core/ngx_buf.h.
const BUFFER_START: u64 = 32;
/// ngx_http_upstream_t.peer, src/http/ngx_http_upstream.h.
const UPSTREAM_PEER: u64 = 16;
/// ngx_connection_t.log, src/core/ngx_connection.h.
pub const CONNECTION_LOG: u64 = 80;
/// ngx_log_t.connection and .data, src/core/ngx_log.h; of a request the latter is an ngx_http_log_ctx_t
/// (src/http/ngx_http_request.h).
pub const LOG_CONNECTION: u64 = 16;
pub const LOG_DATA: u64 = 40;
pub const CONTEXT_REQUEST: u64 = 8;
const CONTEXT_CURRENT: u64 = 16;

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
    let (Some((pid, worker)), Some(request)) = (task::worker(), ctx.arg::<u64>(0)) else {
        return 0;
    };
    let peer = peer_of(request);
    let begun = if peer == 0 { 0 } else { attempt::begun(peer) };
    if peer != 0 {
        last_connection(pid, peer, begun);
    }
    let reply = reply::watch_answer(pid, worker, request, peer, begun);
    emit::in_place(&UNKNOWN, Urgency::Now, |record| {
        record.header = emit::header::<Answer>(ANSWER, pid, task::now());
        record.peer = peer;
        record.begun = begun;
        record.status = status as u16;
        record.reply = reply;
        client(request, &mut record.client);
    });
    0
}

/// An answer of which nothing is known yet, in read-only data.
static UNKNOWN: Answer = Answer::UNKNOWN;

/// Whose request it is, and what it asks: `r->header_in` still holds an HTTP/1 request from its first byte on.
#[inline(always)]
pub fn client(request: u64, client: &mut Client) {
    client.request = reply::main(request).0;
    if let Some(connection) = read::user::<u64>(request.wrapping_add(REQUEST_CONNECTION)) {
        if let Some(log) = read::user::<u64>(connection.wrapping_add(CONNECTION_LOG)) {
            client.connection = read::user(log.wrapping_add(LOG_CONNECTION)).unwrap_or(0);
        }
        let socket = read::user(connection.wrapping_add(CONNECTION_FD)).and_then(task::socket_of);
        if let Some(sk) = socket {
            client.address = sock::remote(sk);
        }
    }
    let Some(buffer) = read::user::<u64>(request.wrapping_add(REQUEST_HEADER_IN)) else {
        return;
    };
    // ngx_buf_t begins with pos.
    if let (Some(position), Some(start)) = (
        read::user::<u64>(buffer),
        read::user::<u64>(buffer.wrapping_add(BUFFER_START)),
    ) {
        client.parsed = position.wrapping_sub(start) as u32;
        // SAFETY: the helper checks the address itself.
        let _ = unsafe { bpf_probe_read_user_buf(start as *const u8, &mut client.head) };
    }
}

/// The request that a log belongs to, 0 if none does.
#[inline(always)]
pub fn request_of(log: u64) -> u64 {
    let Some(context) = read::user::<u64>(log.wrapping_add(LOG_DATA)) else {
        return 0;
    };
    for member in [CONTEXT_CURRENT, CONTEXT_REQUEST] {
        if let Some(request) = read::user::<u64>(context.wrapping_add(member))
            && read::user::<u32>(request) == Some(HTTP)
        {
            return request;
        }
    }
    0
}

/// The log of the connection of a peer object.
#[inline(always)]
pub fn log_of(peer: u64) -> Option<u64> {
    let connection: u64 = read::user(peer)?;
    read::user(connection.wrapping_add(CONNECTION_LOG))
}
