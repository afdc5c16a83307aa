//! By what a failed request is known elsewhere: its server block, its upstream block, and the identifiers that it carries.
//! Each finder returns where an `ngx_str_t` or an `ngx_variable_value_t` lies, or 0. Whatever moves between builds is shown by
//! the worker's own memory, or nothing is returned.
//!
//! The loops hide their index from the compiler, which would unroll them past what a BPF stack holds.

use core::hint::black_box;

use aya_ebpf::helpers::bpf_probe_read_user_buf;
use tracer_ebpf::abi::{Client, NAME_COMPUTED, Name, Worker};

use crate::{
    apart,
    layout::{self, same},
    maps, read,
};

// ngx_http_request_t, src/http/ngx_http_request.h.
const REQUEST_MAIN_CONF: u64 = 24;
const REQUEST_SERVER_CONF: u64 = 32;
/// `r->headers_in.headers`, from `r->header_in` on.
const REQUEST_HEADERS: u64 = 8;
/// `r->variables`, from `r->main` on.
const MAIN_VARIABLES: u64 = 64;
/// `r->main` lies within so many slots from `headers_out.status` on.
const MAIN_SLOTS: u64 = 96;

// ngx_http_core_srv_conf_t, src/http/ngx_http_core_module.h: the file and line came between in later versions.
const SERVER_CONTEXT: u64 = 40;
const SERVER_NAME: [u64; 2] = [48, 64];
/// Longer than any length, lower than any address.
const LONGEST: u64 = 1 << 16;
/// `srv_conf` in an ngx_http_conf_ctx_t, src/http/ngx_http_config.h.
const CONTEXT_SERVER: u64 = 8;

// ngx_http_upstream_srv_conf_t, src/http/ngx_http_upstream.h: a block's own context has it in its module's place.
const BLOCK_CONTEXT: u64 = 24;
const BLOCK_NAME: u64 = 48;
/// `ngx_http_upstream_module` is among the first of `http {}` in every build (2 or 3 of those seen).
const MODULES: usize = 8;
/// `upstream` lies within these slots of an ngx_http_upstream_t.
const BLOCK_FROM: u64 = 128;
const BLOCK_SLOTS: u64 = 48;

// ngx_list_t, src/core/ngx_list.h; nginx makes that of headers in parts of 20.
const LIST_PART: u64 = 8;
const LIST_SIZE: u64 = 32;
const PARTS: u64 = 2;
const PART: u64 = 20;
// ngx_table_elt_t, src/core/ngx_hash.h.
const HEADER_KEY_LEN: u64 = 8;
const HEADER_VALUE: u64 = 24;
const HEADER_LOWCASE: u64 = 40;

/// `cmcf->variables`, src/http/ngx_http_core_module.h.
const CORE_VARIABLES: u64 = 96;
/// More indexed variables than a configuration has.
const VARIABLES: u64 = 192;
/// An ngx_variable_value_t, src/core/ngx_string.h: 28 bits of length, then `valid`.
const VALUE: u64 = 16;
const VALID: u64 = NAME_COMPUTED;

/// A name of 9 to 16 bytes, as two words.
struct Word {
    first: u64,
    second: u64,
    len: u64,
}

impl Word {
    const fn new(text: &[u8]) -> Self {
        let (mut words, mut at) = ([0; 2], 0);
        while at < text.len() {
            words[at / 8] |= (text[at] as u64) << (at % 8 * 8);
            at += 1;
        }
        Self {
            first: words[0],
            second: words[1],
            len: text.len() as u64,
        }
    }

    /// 1: these are its bytes.
    #[inline(always)]
    fn is(&self, text: u64, len: u64) -> u64 {
        let [first, second] = read::user_or_zero(text);
        let mask = (1 << ((self.len - 8) * 8)) - 1;
        same(first, self.first) & same(second & mask, self.second) & same(len, self.len)
    }
}

const REQUEST_ID: Word = Word::new(b"request_id");
const X_REQUEST_ID: Word = Word::new(b"x-request-id");
const TRACEPARENT: Word = Word::new(b"traceparent");

/// 1: an index is below a count. Without a branch, as [`same`].
#[inline(always)]
fn is_below(index: u64, count: u64) -> u64 {
    index.wrapping_sub(count) >> 63
}

/// The names of a request or subrequest of [`Worker::main`].
#[inline(always)]
pub fn fill(pid: u32, worker: &mut Worker, request: u64, client: &mut Client) {
    let upstream = worker.main.upstream;
    let main = worker.main.request;
    keep(tracer_server_name(request), &mut client.server);
    keep(tracer_block_name(upstream), &mut client.block);
    let headers = main.wrapping_add(layout::known(worker).header_in() + REQUEST_HEADERS);
    keep(tracer_header(headers, 0), &mut client.traceparent);
    let mut id = apart::call(worker, &mut (), || tracer_request_id(pid, main));
    if id == 0 {
        id = tracer_header(headers, 1);
    }
    keep(id, &mut client.id);
}

/// Reads it; of none, zero.
#[inline(always)]
fn keep(at: u64, name: &mut Name) {
    let [len, text] = read::user_or_zero(at);
    name.len = len & (2 * VALID - 1);
    // SAFETY: the helper checks the address itself.
    let _ = unsafe { bpf_probe_read_user_buf(text as *const u8, &mut name.text) };
}

/// A request's server block has a context, whose list of blocks is the request's.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracer_server_name(request: u64) -> u64 {
    let [blocks] = read::user_or_zero(request.wrapping_add(REQUEST_SERVER_CONF));
    let [server] = read::user_or_zero(blocks);
    let [context, first] = read::user_or_zero(server.wrapping_add(SERVER_CONTEXT));
    let [own] = read::user_or_zero(context.wrapping_add(CONTEXT_SERVER));
    let [early, late] = SERVER_NAME;
    let member = if first < LONGEST { early } else { late };
    same(own, blocks) * server.wrapping_add(member)
}

/// The one slot that leads to a block which its own context leads back to. What is no block (`proxy_pass` to an address) has no
/// context.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracer_block_name(upstream: u64) -> u64 {
    let (mut found, mut places) = (0_u64, 0);
    let mut slot = 0;
    while slot < BLOCK_SLOTS {
        let [block] = read::user_or_zero(upstream.wrapping_add(BLOCK_FROM + 8 * slot));
        let is_it = tracer_is_block(block) & 1;
        found = found.wrapping_add(is_it * block);
        places += is_it;
        slot = black_box(slot) + 1;
    }
    same(places, 1) * found.wrapping_add(BLOCK_NAME)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracer_is_block(block: u64) -> u64 {
    let [context] = read::user_or_zero(block.wrapping_add(BLOCK_CONTEXT));
    let modules: [u64; MODULES] = read::user_or_zero(context);
    let mut leads_back = 0;
    for module in modules {
        leads_back |= same(module, block);
    }
    leads_back & (1 ^ same(block, 0))
}

/// The value of a header of the list, if it is there once. `which`: 0 `traceparent`, 1 `X-Request-ID`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracer_header(list: u64, which: u32) -> u64 {
    let (mut found, mut places) = (0_u64, 0);
    let mut part = list.wrapping_add(LIST_PART);
    let [size] = read::user_or_zero(list.wrapping_add(LIST_SIZE));
    let mut parts = 0;
    while parts < PARTS {
        let [headers, count, next] = read::user_or_zero(part);
        let mut index = 0;
        while index < PART {
            let header = headers.wrapping_add(index * size);
            let is_it = tracer_is_header(header, which) & is_below(index, count);
            found = found.wrapping_add(is_it * header);
            places += is_it;
            index = black_box(index) + 1;
        }
        part = next;
        parts = black_box(parts) + 1;
    }
    same(places, 1) * found.wrapping_add(HEADER_VALUE)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracer_is_header(header: u64, which: u32) -> u64 {
    let [len] = read::user_or_zero(header.wrapping_add(HEADER_KEY_LEN));
    let [key] = read::user_or_zero(header.wrapping_add(HEADER_LOWCASE));
    match which {
        0 => TRACEPARENT.is(key, len),
        _ => X_REQUEST_ID.is(key, len),
    }
}

/// `$request_id`, if something has evaluated it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracer_request_id(pid: u32, request: u64) -> u64 {
    let Some(worker) = maps::worker(pid) else {
        return 0;
    };
    if worker.layout.status == 0 {
        return 0;
    }
    let [configuration] = read::user_or_zero(request.wrapping_add(REQUEST_MAIN_CONF));
    let [core] = read::user_or_zero(configuration);
    if worker.core != core {
        worker.core = core;
        worker.request_id = tracer_variable(core);
    }
    if worker.request_id == 0 {
        return 0;
    }
    let main = tracer_main_slot(request, request.wrapping_add(worker.layout.status));
    let [variables] = read::user_or_zero(main.wrapping_add(MAIN_VARIABLES));
    let value = variables.wrapping_add((worker.request_id - 1).wrapping_mul(VALUE));
    let [flags] = read::user_or_zero(value);
    // That its 32 bytes are hexadecimal digits is checked where they are decoded.
    same(flags & (2 * VALID - 1), VALID | 32) * value
}

/// Which indexed variable is `$request_id`, counted from 1; 0 none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracer_variable(core: u64) -> u64 {
    let [variables, count, size] = read::user_or_zero(core.wrapping_add(CORE_VARIABLES));
    let (mut found, mut places) = (0, 0);
    let mut index = 0;
    while index < VARIABLES {
        let variable = variables.wrapping_add(index * size);
        let is_it = tracer_is_variable(variable) & is_below(index, count);
        index = black_box(index) + 1;
        found += is_it * index;
        places += is_it;
    }
    same(places, 1) * found
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracer_is_variable(variable: u64) -> u64 {
    let [len, name] = read::user_or_zero(variable);
    REQUEST_ID.is(name, len)
}

/// The first slot from an address on that holds this request: a client's own has itself as `r->main`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tracer_main_slot(request: u64, from: u64) -> u64 {
    let (mut found, mut places) = (0_u64, 0);
    let mut slot = 0;
    while slot < MAIN_SLOTS {
        let at = from.wrapping_add(8 * slot);
        let [held] = read::user_or_zero(at);
        let is_it = same(held, request) & same(places, 0);
        found = found.wrapping_add(is_it * at);
        places += is_it;
        slot = black_box(slot) + 1;
    }
    found
}
