//! Where nginx keeps what hooks read: offsets of members, signatures and codes, each with its
//! source file. They hold for nginx since 1.7.5 and its forks on 64-bit hosts, unless a version is
//! given. Where a member moves between builds, `members` finds it among the places listed here.

use tracer_ebpf::abi::Members;

// ngx_int_t results, src/core/ngx_core.h.
pub const NGX_OK: i32 = 0;
pub const NGX_ERROR: i32 = -1;
pub const NGX_AGAIN: i32 = -2;
pub const NGX_BUSY: i32 = -3;
pub const NGX_DONE: i32 = -4;
pub const NGX_DECLINED: i32 = -5;

// Levels of a log, src/core/ngx_log.h.
/// `NGX_LOG_ERR`
pub const LOG_ERR: u64 = 4;
/// `NGX_LOG_STDERR` to `NGX_LOG_DEBUG` in `log_level`; debugging of one module lies above.
pub const LOG_LEVELS: u64 = 0xf;
/// Longer than any text that nginx logs (`NGX_MAX_ERROR_STR` is 2048), lower than any address.
pub const LONGEST_TEXT: u64 = 4096;

// ngx_log_t, src/core/ngx_log.h.
pub const LOG_LEVEL: u64 = 0;
/// The number of the connection that the log is of.
pub const LOG_CONNECTION: u64 = 16;
/// Where `data` may lie: at 40 since 1.7.10, before at 32.
pub const LOG_DATA: u64 = 24;
pub const LOG_DATA_SLOTS: usize = 5;

// ngx_http_log_ctx_t, src/http/ngx_http_request.h: what the `data` of a request's log points to.
pub const CONTEXT_CONNECTION: usize = 0;
/// The client's request.
pub const CONTEXT_REQUEST: usize = 1;
/// The request or subrequest that nginx works on.
pub const CONTEXT_CURRENT: usize = 2;
pub const CONTEXT_MEMBERS: usize = 3;

// ngx_connection_t, src/core/ngx_connection.h. `Layout::requests` has where `requests` lies.
pub const CONNECTION_DATA: u64 = 0;
pub const CONNECTION_FD: u64 = 24;
pub const CONNECTION_LOG: u64 = 80;
/// `requests`, as the last of the members that identify a client's request: `number` lies one or,
/// since `start_time` was added in 1.19.10, two before it.
pub const CONNECTION_REQUESTS: usize = 2;
/// epoll is given a connection's address with a bit of its own
/// (src/event/modules/ngx_epoll_module.c).
pub const EPOLL_INSTANCE: u64 = 1;

// ngx_peer_connection_t, src/event/ngx_event_connect.h.
pub const PC_CONNECTION: u64 = 0;
/// `sockaddr`, followed by `socklen`.
pub const PC_SOCKADDR: u64 = 8;
pub const PC_SOCKLEN: u64 = 16;
pub const PC_NAME: u64 = 24;
/// `start_time`, from `tries` on.
pub const PC_START_TIME: u64 = 8;
/// Where `log` may lie: at 112, without ssl and compat at 96, since 1.31.3 8 further, in Angie 24.
pub const PC_LOG: u64 = 80;
pub const PC_LOG_SLOTS: usize = 11;
/// `log` with `sndbuf` before it: since 1.31.3.
const SNDBUF_LOG: u16 = 120;
/// The lowest `log` of Angie's.
const ANGIE_LOG: u16 = 136;

/// `tries` in an `ngx_peer_connection_t`: Angie has two pointers more before it.
#[inline(always)]
pub fn tries(members: Members) -> u64 {
    if members.peer_log >= ANGIE_LOG {
        48
    } else {
        32
    }
}

/// `local` in an `ngx_peer_connection_t`: `type` and `rcvbuf` lie between it and `log`, since
/// 1.31.3 `sndbuf` as well.
#[inline(always)]
pub fn local(members: Members) -> u64 {
    match members.peer_log {
        SNDBUF_LOG => 96,
        log => u64::from(log).wrapping_sub(16),
    }
}

// ngx_http_request_t, src/http/ngx_http_request.h.
/// `NGX_HTTP_MODULE`, the signature that every request begins with.
pub const HTTP: u32 = 0x5054_5448;
pub const REQUEST_CONNECTION: u64 = 8;
/// Where `upstream` may lie: at 72, without cache at 64.
pub const REQUEST_UPSTREAM: [u64; 3] = [56, 64, 72];
/// `headers_in.headers.part`, from `header_in` on.
pub const REQUEST_HEADERS: u64 = 16;
/// `headers_in.host`, from `header_in` on; since 1.29.8 (`max_headers`) `count` is there, and the
/// host follows.
pub const REQUEST_HOST: u64 = 64;

/// `header_in` in an `ngx_http_request_t`: two pointers lie between it and `upstream`.
#[inline(always)]
pub fn header_in(members: Members) -> u64 {
    u64::from(members.upstream) + 24
}

// ngx_http_upstream_t, src/http/ngx_http_upstream.h.
pub const UPSTREAM_PEER: u64 = 16;

// ngx_http_upstream_rr_peer_t, src/http/ngx_http_upstream_round_robin.h.
/// `name`, after the address and its length.
pub const RR_PEER_NAME: u64 = 16;

// ngx_table_elt_t, src/core/ngx_hash.h.
/// `key.data`
pub const HEADER_KEY: u64 = 16;
pub const HEADER_VALUE: u64 = 24;

// ngx_http_script_engine_t and ngx_http_script_return_code_t, src/http/ngx_http_script.h.
pub const ENGINE_IP: u64 = 0;
pub const ENGINE_REQUEST: u64 = 80;
/// `status` of the code that `ip` points to.
pub const RETURN_STATUS: u64 = 8;

// ngx_buf_t, src/core/ngx_buf.h, in members of eight bytes.
pub const BUFFER_POS: usize = 0;
pub const BUFFER_START: usize = 4;

// ngx_stream_session_t, src/stream/ngx_stream.h, since 1.11.4.
/// `NGX_STREAM_MODULE`, the signature that every session begins with.
pub const STREAM: u32 = 0x4d52_5453;
/// `upstream`: before 1.25.5, and since. An `ngx_stream_upstream_t` begins with the peer object.
pub const SESSION_UPSTREAM: [u64; 2] = [72, 80];

// What a request is known by: src/http/ngx_http_request.h.
pub const REQUEST_MAIN_CONF: u64 = 24;
pub const REQUEST_SERVER_CONF: u64 = 32;
/// `headers_in.headers`, from `header_in` on.
pub const REQUEST_LIST: u64 = 8;
/// `variables`, from `main` on.
pub const MAIN_VARIABLES: u64 = 64;
/// `main` lies within so many slots from `headers_out.status` on.
pub const MAIN_SLOTS: u64 = 96;

// ngx_http_core_srv_conf_t, src/http/ngx_http_core_module.h: later versions have the file and line
// in between.
pub const SERVER_CONTEXT: u64 = 40;
pub const SERVER_NAME: [u64; 2] = [48, 64];
/// Longer than any length of a name, lower than any address.
pub const LONGEST_NAME: u64 = 1 << 16;
/// `srv_conf` in an ngx_http_conf_ctx_t, src/http/ngx_http_config.h.
pub const CONTEXT_SERVER: u64 = 8;

// ngx_http_upstream_srv_conf_t, src/http/ngx_http_upstream.h: a block's own context has it in its
// module's place.
pub const BLOCK_CONTEXT: u64 = 24;
pub const BLOCK_NAME: u64 = 48;
/// `ngx_http_upstream_module` is among the first of `http {}` in every build (2 or 3 of those
/// seen).
pub const MODULES: usize = 8;
/// `upstream` lies within these slots of an ngx_http_upstream_t.
pub const BLOCK_FROM: u64 = 128;
pub const BLOCK_SLOTS: u64 = 48;

// ngx_list_t, src/core/ngx_list.h; nginx allocates that of headers in parts of 20.
pub const LIST_PART: u64 = 8;
pub const LIST_SIZE: u64 = 32;
pub const LIST_PARTS: u64 = 2;
pub const LIST_PART_LEN: u64 = 20;
// ngx_table_elt_t, src/core/ngx_hash.h.
pub const HEADER_KEY_LEN: u64 = 8;
pub const HEADER_LOWCASE: u64 = 40;

/// `variables` in an ngx_http_core_main_conf_t, src/http/ngx_http_core_module.h.
pub const CORE_VARIABLES: u64 = 96;
/// More indexed variables than a configuration has.
pub const VARIABLES: u64 = 192;
/// Bytes of an ngx_variable_value_t, src/core/ngx_string.h.
pub const VALUE_LEN: u64 = 16;
