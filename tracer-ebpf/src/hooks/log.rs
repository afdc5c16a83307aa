//! `void ngx_log_error_core(ngx_uint_t level, ngx_log_t *log, ngx_err_t err, const char *fmt, ...)`
//! (src/core/ngx_log.c): nginx's own word on a failure, whatever the log's destination; it is
//! called only where `error_log`'s level lets the line through. Without it connection numbers of
//! failed attempts are not known.

use aya_ebpf::{
    helpers::{bpf_probe_read_user_buf, bpf_probe_read_user_str_bytes},
    macros::uprobe,
    programs::ProbeContext,
};
use tracer_ebpf::abi::{LOG_CALL, LOG_CALL_NUMBER, LOG_CALL_STREAM, LogCall, Worker};

use crate::{
    emit::{self, Urgency},
    framing, links, maps,
    nginx::{
        identity,
        layout::{LOG_ERR, LONGEST_TEXT, NGX_BUSY, SESSION_UPSTREAM},
        members, request,
    },
    read, stack, task,
    track::{
        at_once::{self, Text},
        join, reply,
    },
};

/// nginx logs.
#[uprobe(multi)]
pub fn log_error(ctx: ProbeContext) -> u32 {
    stack::of_task();
    if !links::counts(&ctx) {
        return 0;
    }
    let Some(level) = ctx.arg::<u64>(0) else {
        return 0;
    };
    if level > LOG_ERR {
        return 0;
    }
    let Some((pid, worker)) = task::worker() else {
        return 0;
    };
    let Some(log) = ctx.arg::<u64>(1) else {
        return 0;
    };
    let Some(errno) = ctx.arg::<u64>(2) else {
        return 0;
    };
    let Some(format) = ctx.arg::<u64>(3) else {
        return 0;
    };
    let errno = errno as u32;
    members::show_by_log(pid, worker, log);
    if worker.peer != 0 {
        worker.has_logged = 1;
        worker.logged_errno = errno;
    }
    let start: Text = match worker.layout.is_by_socket() {
        true => read::user(format).unwrap_or_default(),
        false => [0; size_of::<Text>()],
    };
    let end = at_once::logs(&ctx, worker, log, errno, &start);
    let argument = ctx.arg::<u64>(4).unwrap_or(0);
    let second = ctx.arg::<u64>(5).unwrap_or(0);
    let session = request::by_log(pid, worker, log);
    let connection = worker.main.connection;
    let (peer, stream) = match session {
        0 => (request::peer(&worker.main), 0),
        session => (session_peer(worker, pid, session, log), LOG_CALL_STREAM),
    };
    let mut id = 0;
    if peer != 0
        && let Some(known) = identity::of(pid, worker, peer)
    {
        id = known.id;
        if maps::is_told(id) {
            reply::watch_request(pid, worker, id);
            if worker.layout.is_by_socket() {
                join::told(pid, worker, peer, id);
                if end == Some(NGX_BUSY) {
                    at_once::failed(pid, worker, peer, NGX_BUSY, errno);
                }
            }
            let socket = identity::known(pid, peer).map_or(0, |request| request.socket);
            framing::measure_logged(pid, socket);
        }
    }
    if id == 0 || maps::is_told(id) {
        emit::in_place(&UNKNOWN, Urgency::Whenever, |record| {
            record.header = emit::header::<LogCall>(LOG_CALL, pid, task::now());
            record.request = id;
            record.connection = connection;
            record.errno = errno;
            record.level = level as u32 | stream;
            record.format_at = format;
            // SAFETY: the helper checks the address itself.
            let _ =
                unsafe { bpf_probe_read_user_str_bytes(format as *const u8, &mut record.format) };
            text(record, argument, second);
        });
    }
    if let Some(code) = end
        && code != NGX_BUSY
    {
        at_once::ends(pid, worker, peer, code);
    }
    0
}

/// A call of which nothing is known yet, in read-only data.
static UNKNOWN: LogCall = LogCall::UNKNOWN;

/// The arguments as a text: `%*s` is given a length and a place, `%V` an ngx_str_t
/// (src/core/ngx_string.h), `%s` a string that ends with NUL, `%ui` a number. Which of them it is
/// the format says, which may not be readable here.
#[inline(always)]
fn text(record: &mut LogCall, argument: u64, second: u64) {
    let (text, len) = if argument < LONGEST_TEXT {
        // A length, or the number that the format takes first.
        record.state = argument as u32;
        record.level |= LOG_CALL_NUMBER;
        (second, argument)
    } else {
        record.state = second as u32;
        string(argument)
    };
    // SAFETY: the helper checks the address itself.
    let read = unsafe { bpf_probe_read_user_buf(text as *const u8, &mut record.text) };
    if read.is_ok() {
        record.text_len = len as u32;
    } else {
        // A path's characters are no `ngx_str_t`. Its length stays 0.
        // SAFETY: the helper checks the address itself.
        let _ = unsafe { bpf_probe_read_user_str_bytes(argument as *const u8, &mut record.text) };
    }
}

/// An `ngx_str_t` (src/core/ngx_string.h): its bytes and their number.
#[inline(always)]
fn string(at: u64) -> (u64, u64) {
    let [len, bytes] = read::user(at).unwrap_or_default();
    (bytes, len)
}

/// The peer object of a session (ngx_stream_upstream_t begins with it). The member has moved once:
/// it is the one that this worker has tried.
#[inline(always)]
fn session_peer(worker: &Worker, pid: u32, session: u64, log: u64) -> u64 {
    let member_of_log = u64::from(members::known(worker).peer_log);
    for member in SESSION_UPSTREAM {
        let peer: u64 = read::user(session.wrapping_add(member)).unwrap_or(0);
        if peer == 0 {
            continue;
        }
        if peer == worker.peer
            || identity::known(pid, peer).is_some()
            || (member_of_log != 0 && read::user(peer.wrapping_add(member_of_log)) == Some(log))
        {
            return peer;
        }
    }
    0
}
