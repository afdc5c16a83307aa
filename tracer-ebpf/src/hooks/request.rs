//! `ngx_int_t ngx_http_special_response_handler(ngx_http_request_t *r, ngx_int_t error)`
//! (src/http/ngx_http_special_response.c): every error answer that nginx itself makes. Without it
//! failed requests are known only by their connections, without a status.
//!
//! `void ngx_http_script_return_code(ngx_http_script_engine_t *e)` (src/http/ngx_http_script.c):
//! every `return` that the configuration has a request run into, also one with a text, of which
//! nginx makes no error answer. Without it only a `return 502` or `return 504` without a text is
//! known.

use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use tracer_ebpf::abi::{ANSWER, Answer, FLAG_OPEN, Worker, counter};

use crate::{
    apart::apart,
    emit::{self, Urgency},
    links,
    maps::{self, Request},
    nginx::{
        client, identity,
        layout::{ENGINE_IP, ENGINE_REQUEST, RETURN_STATUS},
        members, request,
    },
    read, stack, task,
    track::{at_once, connection, join, reply},
};

/// Writes the record of the request's last connection before its answer's, if none was written yet:
/// it is a unix socket's, or nginx keeps it alive.
#[inline(always)]
fn last_connection(request: &Request) {
    let sk = request.socket;
    let Some(connection) = maps::connection(sk) else {
        return;
    };
    if connection.request == request.id {
        connection.flags |= FLAG_OPEN;
        connection::write(sk, connection);
        connection.flags &= !FLAG_OPEN;
    }
}

/// nginx makes an error answer.
#[uprobe(multi)]
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
    members::show_by(pid, worker, at);
    request::by_request(pid, worker, at);
    let returned = core::mem::take(&mut worker.returned);
    if returned != 0 && returned == life(worker) {
        return 0;
    }
    let peer = request::peer(&worker.main);
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
            join::told(pid, worker, peer, id);
            if status == 502 && request.tried == 0 {
                at_once::answered(pid, worker, peer);
                request::by_request(pid, worker, at);
            }
        }
        last_connection(request);
    }
    report(pid, worker, at, id, status as u16, 0);
    0
}

/// Reports the answer to a request of [`Worker::main`]. `returned`: 1 if a `return` made it.
#[apart(worker = maps::worker(pid))]
fn report(pid: u32, worker: &mut Worker, at: u64, id: u64, status: u16, returned: u16) {
    let reply = reply::watch_answer(pid, worker, id);
    emit::in_place(&UNKNOWN, Urgency::Soon, |record| {
        record.header = emit::header::<Answer>(ANSWER, pid, task::now());
        record.request = id;
        record.status = status;
        record.reply = reply;
        record.returned = returned;
        client::of_request(pid, worker, at, &mut record.client);
    });
}

/// A `return` of the configuration ends a request. Without a text nginx makes the error answer
/// next.
#[uprobe(multi)]
pub fn return_code(ctx: ProbeContext) -> u32 {
    stack::of_task();
    if !links::counts(&ctx) {
        return 0;
    }
    let Some(engine) = ctx.arg::<u64>(0) else {
        return 0;
    };
    let Some(code) = read::user::<u64>(engine.wrapping_add(ENGINE_IP)) else {
        return 0;
    };
    let Some(status) = read::user::<u64>(code.wrapping_add(RETURN_STATUS)) else {
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
    if !members::is_main(at) {
        return 0;
    }
    members::show_by(pid, worker, at);
    request::by_request(pid, worker, at);
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
