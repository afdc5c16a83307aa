//! What the client of a failed request asks, read from nginx's memory.

use aya_ebpf::helpers::bpf_probe_read_user_buf;
use tracer_ebpf::abi::{Client, HEAD_LEN, TAIL_LEN, Worker, counter};

use super::{
    layout::{
        self, BUFFER_POS, BUFFER_START, HEADER_KEY, HEADER_VALUE, LONGEST_NAME, REQUEST_HEADERS,
        REQUEST_HOST,
    },
    members, names, request,
};
use crate::{apart::apart, maps, read, sock};

/// Whose request it is, [`Worker::main`], and what that or a subrequest asks: `r->header_in` still
/// holds an HTTP/1 request from its first byte on.
#[inline(always)]
pub fn of_request(pid: u32, worker: &mut Worker, request: u64, client: &mut Client) {
    client.request = worker.main.request;
    client.connection = worker.main.connection;
    client.server_port = server_port(pid, worker);
    if worker.main.socket != 0 {
        client.address = sock::remote(worker.main.socket);
    }
    if !maps::are_details_told() {
        maps::count(counter::BARE);
        return;
    }
    let places = members::known(worker);
    if places.upstream == 0 {
        return;
    }
    names::fill(pid, worker, request, client);
    let header_in = request.wrapping_add(layout::header_in(places));
    // What is between them would take the stack that there is.
    let Some([buffer, _, headers]) = read::user::<[u64; member(REQUEST_HEADERS) + 1]>(header_in)
    else {
        return;
    };
    let Some([first, second]) = read::user::<[u64; 2]>(header_in.wrapping_add(REQUEST_HOST)) else {
        return;
    };
    let has_count = first != 0 && first < LONGEST_NAME;
    host(if has_count { second } else { first }, client);
    if let Some(buffer) = read::user::<[u64; BUFFER_START + 1]>(buffer) {
        let (position, start) = (buffer[BUFFER_POS], buffer[BUFFER_START]);
        client.parsed = position.wrapping_sub(start) as u32;
        // SAFETY: the helper checks the address itself.
        let _ = unsafe { bpf_probe_read_user_buf(start as *const u8, &mut client.head) };
        first_header(headers, start, client);
    }
}

/// The port that it connected to, 0 unknown; its socket is in [`Worker::main`] then.
#[apart(worker = maps::worker(pid))]
fn server_port(pid: u32, worker: &mut Worker) -> u16 {
    request::socket(&mut worker.main).map_or(0, sock::local_port)
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
