//! The upstream's end of a unix connection, which `connect()` makes at once: whether `accept()`
//! took it, and which process reads or writes it, seen through `sock_recv_length` and
//! `sock_send_length`. Without them a unix socket shows who listens, not who serves.

use tracer_ebpf::abi::{ACCEPTED, Connection, QUEUED, UnixConnection};

use crate::{
    constants::OFFSETS,
    maps::{self, BACKENDS, FAMILY, SIGNALS},
    read, task,
};

/// nginx connected, or uses a connection of which nothing was known: its peer's users are seen from
/// now on.
#[inline(always)]
pub fn watch(sk: u64) {
    maps::add_unix_end(other_end(sk));
}

/// The current process read from or wrote to some socket.
#[inline(always)]
pub fn used(sk: u64) {
    let Some(holder) = maps::unix_end(sk) else {
        return;
    };
    let pid = task::pid();
    if holder.pid == pid {
        return;
    }
    holder.pid = pid;
    task::name(&mut holder.name);
    // Its end is told.
    let _ = BACKENDS.insert(&pid, &FAMILY, 0);
}

/// What is known of the upstream's end of `connection`, whose own socket nginx may have closed by
/// now.
#[inline(always)]
pub fn tell(connection: &Connection, record: &mut UnixConnection) {
    let end = connection.upstream_end;
    if let Some(holder) = maps::unix_end(end) {
        record.holder = *holder;
        if let Some(signal) = SIGNALS.get_ptr(&holder.pid) {
            // SAFETY: the entry lives as long as the program runs.
            record.signal = unsafe { *signal };
        }
    }
    // While it is open it points at nginx's end; a socket that no accept() has taken has no file.
    let is_open = other_end(end) == connection.socket;
    record.accepted = match read::kernel::<u64>(end, &OFFSETS.sk_socket) {
        _ if record.holder.pid != 0 => ACCEPTED,
        Some(0) if is_open => QUEUED,
        Some(_) if is_open => ACCEPTED,
        _ => 0,
    };
}

/// The connection is over for nginx.
#[inline(always)]
pub fn forget(connection: &Connection) {
    maps::remove_unix_end(connection.upstream_end);
}

/// The socket of the upstream's end, 0 unknown.
#[inline(always)]
pub fn other_end(sk: u64) -> u64 {
    read::kernel(sk, &OFFSETS.unix_peer).unwrap_or(0)
}
