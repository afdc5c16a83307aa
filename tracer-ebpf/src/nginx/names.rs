//! By what a failed request is known elsewhere: its server block, its upstream block, and the
//! identifiers that it carries. Each finder returns where an `ngx_str_t` or an
//! `ngx_variable_value_t` lies, or 0. Whatever moves between builds is shown by the worker's own
//! memory, or nothing is returned.
//!
//! The loops hide their index from the compiler, which would unroll them past what a BPF stack
//! holds.

use core::hint::black_box;

use aya_ebpf::helpers::bpf_probe_read_user_buf;
use tracer_ebpf::abi::{Client, NAME_COMPUTED, Name, Worker};

use super::{
    layout::{
        self, BLOCK_CONTEXT, BLOCK_FROM, BLOCK_NAME, BLOCK_SLOTS, CONTEXT_SERVER, CORE_VARIABLES,
        HEADER_KEY_LEN, HEADER_LOWCASE, HEADER_VALUE, LIST_PART, LIST_PART_LEN, LIST_PARTS,
        LIST_SIZE, LONGEST_NAME, MAIN_SLOTS, MAIN_VARIABLES, MODULES, REQUEST_LIST,
        REQUEST_MAIN_CONF, REQUEST_SERVER_CONF, SERVER_CONTEXT, SERVER_NAME, VALUE_LEN, VARIABLES,
    },
    members::{self, same},
};
use crate::{apart::apart, maps, read};

/// The bit after an `ngx_variable_value_t`'s 28 bits of length.
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
    keep(server_name(request), &mut client.server);
    keep(block_name(upstream), &mut client.block);
    let headers = main.wrapping_add(layout::header_in(members::known(worker)) + REQUEST_LIST);
    keep(header(headers, 0), &mut client.traceparent);
    let mut id = request_id(pid, worker, main);
    if id == 0 {
        id = header(headers, 1);
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
#[apart()]
fn server_name(request: u64) -> u64 {
    let [blocks] = read::user_or_zero(request.wrapping_add(REQUEST_SERVER_CONF));
    let [server] = read::user_or_zero(blocks);
    let [context, first] = read::user_or_zero(server.wrapping_add(SERVER_CONTEXT));
    let [own] = read::user_or_zero(context.wrapping_add(CONTEXT_SERVER));
    let [early, late] = SERVER_NAME;
    let member = if first < LONGEST_NAME { early } else { late };
    same(own, blocks) * server.wrapping_add(member)
}

/// The one slot that leads to a block which its own context leads back to. What is no block
/// (`proxy_pass` to an address) has no context.
#[apart()]
fn block_name(upstream: u64) -> u64 {
    let (mut found, mut places) = (0_u64, 0);
    let mut slot = 0;
    while slot < BLOCK_SLOTS {
        let [block] = read::user_or_zero(upstream.wrapping_add(BLOCK_FROM + 8 * slot));
        let is_it = is_block(block) & 1;
        found = found.wrapping_add(is_it * block);
        places += is_it;
        slot = black_box(slot) + 1;
    }
    same(places, 1) * found.wrapping_add(BLOCK_NAME)
}

#[apart()]
fn is_block(block: u64) -> u64 {
    let [context] = read::user_or_zero(block.wrapping_add(BLOCK_CONTEXT));
    let modules: [u64; MODULES] = read::user_or_zero(context);
    let mut leads_back = 0;
    for module in modules {
        leads_back |= same(module, block);
    }
    leads_back & (1 ^ same(block, 0))
}

/// The value of a header of the list, if it is there once. `which`: 0 `traceparent`, 1
/// `X-Request-ID`.
#[apart()]
fn header(list: u64, which: u32) -> u64 {
    let (mut found, mut places) = (0_u64, 0);
    let mut part = list.wrapping_add(LIST_PART);
    let [size] = read::user_or_zero(list.wrapping_add(LIST_SIZE));
    let mut parts = 0;
    while parts < LIST_PARTS {
        let [headers, count, next] = read::user_or_zero(part);
        let mut index = 0;
        while index < LIST_PART_LEN {
            let header = headers.wrapping_add(index * size);
            let is_it = is_header(header, which) & is_below(index, count);
            found = found.wrapping_add(is_it * header);
            places += is_it;
            index = black_box(index) + 1;
        }
        part = next;
        parts = black_box(parts) + 1;
    }
    same(places, 1) * found.wrapping_add(HEADER_VALUE)
}

#[apart()]
fn is_header(header: u64, which: u32) -> u64 {
    let [len] = read::user_or_zero(header.wrapping_add(HEADER_KEY_LEN));
    let [key] = read::user_or_zero(header.wrapping_add(HEADER_LOWCASE));
    match which {
        0 => TRACEPARENT.is(key, len),
        _ => X_REQUEST_ID.is(key, len),
    }
}

/// `$request_id`, if something has evaluated it.
#[apart(worker = maps::worker(pid))]
fn request_id(pid: u32, worker: &mut Worker, request: u64) -> u64 {
    if worker.layout.status == 0 {
        return 0;
    }
    let [configuration] = read::user_or_zero(request.wrapping_add(REQUEST_MAIN_CONF));
    let [core] = read::user_or_zero(configuration);
    if worker.core != core {
        worker.core = core;
        worker.request_id = variable(core);
    }
    if worker.request_id == 0 {
        return 0;
    }
    let main = main_slot(request, request.wrapping_add(worker.layout.status));
    let [variables] = read::user_or_zero(main.wrapping_add(MAIN_VARIABLES));
    let value = variables.wrapping_add((worker.request_id - 1).wrapping_mul(VALUE_LEN));
    let [flags] = read::user_or_zero(value);
    // That its 32 bytes are hexadecimal digits is checked where they are decoded.
    same(flags & (2 * VALID - 1), VALID | 32) * value
}

/// Which indexed variable is `$request_id`, counted from 1; 0 none.
#[apart()]
fn variable(core: u64) -> u64 {
    let [variables, count, size] = read::user_or_zero(core.wrapping_add(CORE_VARIABLES));
    let (mut found, mut places) = (0, 0);
    let mut index = 0;
    while index < VARIABLES {
        let variable = variables.wrapping_add(index * size);
        let is_it = is_variable(variable) & is_below(index, count);
        index = black_box(index) + 1;
        found += is_it * index;
        places += is_it;
    }
    same(places, 1) * found
}

#[apart()]
fn is_variable(variable: u64) -> u64 {
    let [len, name] = read::user_or_zero(variable);
    REQUEST_ID.is(name, len)
}

/// The first slot from an address on that holds this request: a client's own has itself as
/// `r->main`.
#[apart()]
fn main_slot(request: u64, from: u64) -> u64 {
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
