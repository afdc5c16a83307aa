//! `ngx_int_t ngx_http_special_response_handler(ngx_http_request_t *r, ngx_int_t error)`
//! (src/http/ngx_http_special_response.c): every error answer that nginx itself makes. Without it failed requests
//! are known only by their connections, without a status.
//!
//! `void ngx_http_script_return_code(ngx_http_script_engine_t *e)` (src/http/ngx_http_script.c): every `return` that the
//! configuration has a request run into, also one with a text, of which nginx makes no error answer. Without it only
//! a `return 502` or `return 504` without a text is known.

use aya_ebpf::{helpers::bpf_probe_read_user_buf, macros::uprobe, programs::ProbeContext};
use tracer_ebpf::abi::{
    ANSWER, Answer, Client, Connection, FLAG_LOGS_ERRORS, FLAG_OPEN, HEAD_LEN, TAIL_LEN, Worker,
    counter,
};

use crate::{
    emit::{self, Urgency},
    hooks::{by_socket, log, reply, state},
    identity::{self, Context},
    layout, links, main_request,
    maps::{self, Request},
    names, read, sock, stack, task,
};

/// `NGX_HTTP_MODULE`, the signature every `ngx_http_request_t` begins with.
pub const HTTP: u32 = 0x5054_5448;
// ngx_http_request_t, src/http/ngx_http_request.h.
pub const REQUEST_CONNECTION: u64 = 8;
/// `r->headers_in.headers.part`, and `r->headers_in.host`, from `r->header_in` on.
const REQUEST_HEADERS: u64 = 16;
const REQUEST_HOST: u64 = 64;
// ngx_table_elt_t, src/core/ngx_hash.h.
const HEADER_KEY: u64 = 16;
const HEADER_VALUE: u64 = 24;
/// ngx_buf_t.start, src/core/ngx_buf.h.
const BUFFER_START: u64 = 32;
/// ngx_http_upstream_t.peer, src/http/ngx_http_upstream.h.
pub const UPSTREAM_PEER: u64 = 16;
/// ngx_http_script_engine_t.request, src/http/ngx_http_script.h.
const ENGINE_REQUEST: u64 = 80;
/// ngx_connection_t.log, src/core/ngx_connection.h.
pub const CONNECTION_LOG: u64 = 80;
/// `NGX_LOG_STDERR` to `NGX_LOG_DEBUG` in an `ngx_log_t.log_level`.
const LEVELS: u64 = 0xf;

/// Writes the record of the request's last connection before its answer's, if none was written yet: it is a unix
/// socket's, or nginx keeps it alive.
#[inline(always)]
fn last_connection(request: &Request) {
    let sk = request.socket;
    let Some(connection) = maps::connection(sk) else {
        return;
    };
    if connection.request == request.id {
        connection.flags |= FLAG_OPEN;
        state::write(sk, connection);
        connection.flags &= !FLAG_OPEN;
    }
}

/// nginx makes an error answer.
#[uprobe]
pub fn special_response(ctx: ProbeContext) -> u32 {
    stack::of_task();
    if !links::counts(&ctx) {
        return 0;
    }
    let Some(status) = ctx.arg::<u64>(1) else {
        return 0;
    };
    if !matches!(status, 500 | 502 | 504) {
        return 0;
    }
    let (Some((pid, worker)), Some(at)) = (task::worker(), ctx.arg::<u64>(0)) else {
        return 0;
    };
    layout::show_by(pid, worker, at);
    main_request::by_request(pid, worker, at);
    let returned = core::mem::take(&mut worker.returned);
    if returned != 0 && returned == life(worker) {
        return 0;
    }
    let peer = main_request::peer(&worker.main);
    // Of one without an upstream no other record comes.
    if peer == 0 && !maps::is_told(identity::new_id(worker)) {
        maps::count(counter::UNTOLD);
        return 0;
    }
    let mut id = 0;
    if peer != 0
        && let Some(request) = identity::of(pid, worker, peer)
    {
        id = request.id;
        if !maps::is_told(id) {
            // Of one that was tried each attempt is counted.
            if request.tried == 0 {
                maps::count(counter::UNTOLD);
            }
            return 0;
        }
        if worker.layout.is_by_socket() {
            by_socket::told(pid, worker, peer, id);
            if status == 502 && request.tried == 0 {
                by_socket::answered(pid, worker, peer);
                main_request::by_request(pid, worker, at);
            }
        }
        last_connection(request);
    }
    report(pid, worker, at, id, status as u16, 0);
    0
}

#[inline(always)]
fn report(pid: u32, worker: &mut Worker, at: u64, id: u64, status: u16, returned: u16) {
    let reply = reply::watch_answer(pid, worker, id);
    emit::in_place(&UNKNOWN, Urgency::Soon, |record| {
        record.header = emit::header::<Answer>(ANSWER, pid, task::now());
        record.request = id;
        record.status = status;
        record.reply = reply;
        record.returned = returned;
        client(pid, worker, at, &mut record.client);
    });
}

/// A `return` of the configuration ends a request. Without a text nginx makes the error answer next.
#[uprobe]
pub fn return_code(ctx: ProbeContext) -> u32 {
    stack::of_task();
    if !links::counts(&ctx) {
        return 0;
    }
    let Some(engine) = ctx.arg::<u64>(0) else {
        return 0;
    };
    let Some([_, status]) = read::user::<u64>(engine).and_then(read::user::<[u64; 2]>) else {
        return 0;
    };
    if !(500..600).contains(&status) {
        return 0;
    }
    let Some((pid, worker)) = task::worker() else {
        return 0;
    };
    let at: u64 = read::user(engine.wrapping_add(ENGINE_REQUEST)).unwrap_or(0);
    // What a subrequest's answer leads to is reported as nginx makes that.
    if layout::tracer_is_main(at) == 0 {
        return 0;
    }
    layout::show_by(pid, worker, at);
    main_request::by_request(pid, worker, at);
    worker.returned = life(worker);
    // A page or location for what failed before: the client's status is reported with that.
    if reply::is_watched(worker) {
        return 0;
    }
    if !maps::is_told(identity::new_id(worker)) {
        maps::count(counter::UNTOLD);
        return 0;
    }
    report(pid, worker, at, 0, status as u16, 1);
    0
}

/// Which request of its worker's [`Worker::main`] is.
#[inline(always)]
fn life(worker: &Worker) -> u32 {
    (worker.main.connection as u32).rotate_left(12) ^ worker.main.ordinal as u32
}

/// An answer of which nothing is known yet, in read-only data.
static UNKNOWN: Answer = Answer::UNKNOWN;

/// Whose request it is, [`Worker::main`], and what that or a subrequest asks: `r->header_in` still holds an HTTP/1 request from
/// its first byte on.
#[inline(always)]
pub fn client(pid: u32, worker: &mut Worker, request: u64, client: &mut Client) {
    client.request = worker.main.request;
    client.connection = worker.main.connection;
    if let Some(sk) = main_request::socket(&mut worker.main) {
        client.address = sock::remote(sk);
    }
    if !maps::are_details_told() {
        maps::count(counter::BARE);
        return;
    }
    const MEMBERS: usize = member(REQUEST_HOST) + 1;
    let places = layout::known(worker);
    if places.upstream == 0 {
        return;
    }
    names::fill(pid, worker, request, client);
    let Some(members) = read::user::<[u64; MEMBERS]>(request.wrapping_add(places.header_in()))
    else {
        return;
    };
    host(members[member(REQUEST_HOST)], client);
    // ngx_buf_t begins with pos.
    const BUFFER: usize = BUFFER_START as usize / 8;
    if let Some(buffer) = read::user::<[u64; BUFFER + 1]>(members[0]) {
        let (position, start) = (buffer[0], buffer[BUFFER]);
        client.parsed = position.wrapping_sub(start) as u32;
        // SAFETY: the helper checks the address itself.
        let _ = unsafe { bpf_probe_read_user_buf(start as *const u8, &mut client.head) };
        first_header(members[member(REQUEST_HEADERS)], start, client);
    }
}

/// Which of a request's members from `header_in` on it is.
const fn member(at: u64) -> usize {
    at as usize / 8
}

/// Before its first header is the request's line; pipelined requests share the buffer.
#[inline(always)]
fn first_header(headers: u64, start: u64, client: &mut Client) {
    let first: u64 = read::user(headers.wrapping_add(HEADER_KEY)).unwrap_or(0);
    let line_end = first.wrapping_sub(start);
    if headers == 0 || line_end > u64::from(client.parsed) {
        return;
    }
    client.line_end = line_end as u32;
    if line_end > HEAD_LEN as u64 {
        let tail = first.wrapping_sub(TAIL_LEN as u64);
        // SAFETY: the helper checks the address itself.
        let _ = unsafe { bpf_probe_read_user_buf(tail as *const u8, &mut client.tail) };
    }
}

#[inline(always)]
fn host(header: u64, client: &mut Client) {
    if header == 0 {
        return;
    }
    if let Some([len, text]) = read::user::<[u64; 2]>(header.wrapping_add(HEADER_VALUE)) {
        client.host_len = len as u32;
        // SAFETY: the helper checks the address itself.
        let _ = unsafe { bpf_probe_read_user_buf(text as *const u8, &mut client.host) };
    }
}

/// The request that a log belongs to, by what its `data` points to; 0 if none does.
#[inline(always)]
pub fn request_of(context: &Context) -> u64 {
    let [main, current] = context.requests();
    for request in [current, main] {
        if read::user::<u32>(request) == Some(HTTP) {
            return request;
        }
    }
    0
}

/// Does nginx itself say what goes wrong with a connection to an upstream: does its log let errors through?
#[inline(always)]
pub fn logs_errors(connection: &mut Connection) -> bool {
    // It is asked as the end is read, and then as nginx closes it.
    if connection.flags & FLAG_LOGS_ERRORS != 0 {
        return true;
    }
    let nginx = match connection.nginx {
        0 => read::user(connection.peer).unwrap_or(0),
        nginx => nginx,
    };
    // ngx_log_t begins with its level; those of debugging lie above.
    let is_told = read::user::<u64>(nginx.wrapping_add(CONNECTION_LOG))
        .and_then(read::user::<u64>)
        .is_some_and(is_told);
    if is_told {
        connection.flags |= FLAG_LOGS_ERRORS;
    } else {
        maps::count(counter::CLOSINGS);
    }
    is_told
}

/// Does a log of this level let errors through?
#[inline(always)]
pub fn is_told(level: u64) -> bool {
    level & LEVELS >= log::ERROR
}
