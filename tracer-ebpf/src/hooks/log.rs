//! `void ngx_log_error_core(ngx_uint_t level, ngx_log_t *log, ngx_err_t err, const char *fmt, ...)`
//! (src/core/ngx_log.c): nginx's own word on a failure, whatever the log's destination; it is called only where
//! `error_log`'s level lets the line through. Without it connection numbers of failed attempts are not known.

use aya_ebpf::{helpers::bpf_probe_read_user_str_bytes, macros::uprobe, programs::ProbeContext};
use tracer_ebpf::abi::{FORMAT_LEN, LOG_CALL, LogCall};

use crate::{
    emit::{self, Urgency},
    hooks::{
        attempt,
        request::{LOG_CONNECTION, peer_of},
    },
    read, task,
};

/// `NGX_LOG_ERR`
const ERROR: u64 = 4;
// ngx_log_t.data, src/core/ngx_log.h; for a request it is an ngx_http_log_ctx_t, src/http/ngx_http_request.h.
const LOG_DATA: u64 = 40;
const CONTEXT_REQUEST: u64 = 8;
const CONTEXT_CURRENT: u64 = 16;

/// nginx logs.
#[uprobe]
pub fn log_error(ctx: ProbeContext) -> u32 {
    let Some(level) = ctx.arg::<u64>(0) else {
        return 0;
    };
    if level > ERROR {
        return 0;
    }
    let Some((pid, worker)) = task::worker() else {
        return 0;
    };
    let (Some(log), Some(errno), Some(format)) =
        (ctx.arg::<u64>(1), ctx.arg::<u64>(2), ctx.arg::<u64>(3))
    else {
        return 0;
    };
    let errno = errno as u32;
    if worker.peer != 0 {
        worker.has_logged = 1;
        worker.logged_errno = errno;
    }
    let mut record = LogCall {
        header: emit::header::<LogCall>(LOG_CALL, pid, task::now()),
        peer: peer(log),
        connection: read::user(log.wrapping_add(LOG_CONNECTION)).unwrap_or(0),
        begun: 0,
        padding: 0,
        errno,
        level: level as u32,
        format: [0; FORMAT_LEN],
    };
    if record.peer != 0 {
        record.begun = attempt::begun(record.peer);
    }
    // SAFETY: the helper checks the address itself.
    let _ = unsafe { bpf_probe_read_user_str_bytes(format as *const u8, &mut record.format) };
    emit::record(&record, Urgency::Whenever);
    0
}

/// The peer object of the request whose log it is.
#[inline(always)]
fn peer(log: u64) -> u64 {
    let Some(context) = read::user::<u64>(log.wrapping_add(LOG_DATA)) else {
        return 0;
    };
    for member in [CONTEXT_CURRENT, CONTEXT_REQUEST] {
        if let Some(request) = read::user::<u64>(context.wrapping_add(member)) {
            let peer = peer_of(request);
            if peer != 0 {
                return peer;
            }
        }
    }
    0
}
