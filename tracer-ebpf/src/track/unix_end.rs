//! The upstream's end of a unix connection, which `connect()` makes at once: whether `accept()`
//! took it, and which process reads or writes it, seen through `sock_recv_length` and
//! `sock_send_length`. Without them a unix socket shows who listens, not who serves.

use tracer_ebpf::abi::{ACCEPTED, Connection, QUEUED, UnixConnection};

use crate::{
    constants::OFFSETS,
    hints,
    maps::{self, BACKENDS, FAMILY, SIGNALS},
    read, sock, task,
};

/// nginx connected, or uses a connection of which nothing was known: its peer's users are seen from
/// now on.
#[inline(always)]
pub fn watch(sk: u64) {
    let end = other_end(sk);
    // nginx's first write is seen when it returns: who reads at once may have been here by then.
    match maps::unix_end(end) {
        Some(known) if known.inode == 0 || known.inode == sock::inode(sk) as u32 => return,
        // Of another connection, whose place it has.
        Some(_) => maps::remove_unix_end(end),
        None => {}
    }
    maps::add_unix_end(end);
}

/// The current process read from or wrote to some socket.
#[inline(always)]
pub fn used(sk: u64) {
    if maps::unix_end(sk).is_none() && is_early(sk) {
        maps::add_unix_end(sk);
    }
    let Some(end) = maps::unix_end(sk) else {
        return;
    };
    let pid = task::pid();
    if end.holder.pid == pid {
        return;
    }
    end.inode = sock::inode(other_end(sk)) as u32;
    end.holder.pid = pid;
    task::name(&mut end.holder.name);
    // Its end is told.
    let _ = BACKENDS.insert(&pid, &FAMILY, 0);
}

/// Whether it is the peer of a connection that a worker has open, and has not written to yet:
/// accept() gave it its listener's address, which a client's socket does not have.
#[inline(always)]
fn is_early(sk: u64) -> bool {
    hints::are_unix_ends_known()
        && sock::family(sk) == sock::AF_UNIX
        && read::kernel::<u64>(sk, &OFFSETS.unix_addr).is_some_and(|address| address != 0)
        && maps::worker(sock::peer_pid(sk)).is_some()
        && other_end(other_end(sk)) == sk
}

/// What is known of the upstream's end of `connection`, whose own socket nginx may have closed by
/// now.
#[inline(always)]
pub fn tell(connection: &Connection, record: &mut UnixConnection) {
    let end = connection.upstream_end;
    if let Some(known) = maps::unix_end(end) {
        record.holder = known.holder;
        if let Some(signal) = SIGNALS.get_ptr(&known.holder.pid) {
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
