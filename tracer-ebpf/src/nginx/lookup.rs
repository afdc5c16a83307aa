//! What leads from a socket to the request that it serves: by way of epoll to nginx's connection,
//! by that one's data or log to the request or session, and to its peer object. What can not be
//! read, or does not fit, leads nowhere: 0.

use tracer_ebpf::abi::{Members, SOCKADDR_LEN};

use super::{
    identity::Context,
    layout::{
        CONNECTION_DATA, CONNECTION_LOG, EPOLL_INSTANCE, HTTP, PC_CONNECTION, RR_PEER_NAME,
        SESSION_UPSTREAM, STREAM, UPSTREAM_PEER,
    },
    members,
};
use crate::{apart::apart, constants::OFFSETS, maps, read, sock};

/// nginx's connection: what epoll, which waits for the socket, was given. 0: none does.
#[inline(always)]
pub fn connection_of(sk: u64) -> u64 {
    waiting(sk).map_or(0, |data| data & !EPOLL_INSTANCE)
}

#[inline(always)]
fn waiting(sk: u64) -> Option<u64> {
    let queue: u64 = read::kernel(sk, &OFFSETS.sk_wq)?;
    let head = queue.wrapping_add(read::offset_of(&OFFSETS.wait_head)?);
    let entry: u64 = read::kernel_at(head)?;
    if entry == head {
        return None;
    }
    let poll = entry.wrapping_sub(read::offset_of(&OFFSETS.wait_entry)?);
    let item: u64 = read::kernel(poll, &OFFSETS.wait_item)?;
    read::kernel(item, &OFFSETS.epoll_data)
}

/// Is that the connection of the peer object?
#[inline(always)]
pub fn holds(peer: u64, connection: u64) -> bool {
    read::user(peer.wrapping_add(PC_CONNECTION)) == Some(connection)
}

/// The peer object of the request that a connection to an upstream serves: its `data` is the
/// request, once it is connected; or the end of nginx's in `stream {}`, a session. 0: it is none.
#[apart]
pub fn peer_of(pid: u32, connection: u64) -> u64 {
    let Some(worker) = maps::worker(pid) else {
        return 0;
    };
    let Some(data) = read::user::<u64>(connection.wrapping_add(CONNECTION_DATA)) else {
        return 0;
    };
    let members = members::known(worker);
    peer_of_data(members, data, |peer| holds(peer, connection))
}

/// The same by its log.
#[apart]
pub fn peer_of_unset(pid: u32, connection: u64) -> u64 {
    match read::user(connection.wrapping_add(CONNECTION_LOG)) {
        Some(log) => peer_of_log(pid, log, |peer| holds(peer, connection)),
        None => 0,
    }
}

/// The peer object of the request or session that a log belongs to, 0 none. `is_it` chooses where
/// several may be.
#[inline(always)]
pub fn peer_of_log(pid: u32, log: u64, is_it: impl Fn(u64) -> bool + Copy) -> u64 {
    let Some(worker) = maps::worker(pid) else {
        return 0;
    };
    let members = members::known(worker);
    let place = u64::from(members.peer_log);
    if place == 0 {
        return 0;
    }
    let of_log = |peer: u64| read::user(peer.wrapping_add(place)) == Some(log) && is_it(peer);
    let Some(context) = Context::of_log(members, log) else {
        return 0;
    };
    if context.is_session() {
        return peer_of_data(members, context.session(), of_log);
    }
    peer_of_data(members, request_of(&context), of_log)
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

#[inline(always)]
fn peer_of_data(members: Members, data: u64, is_it: impl Fn(u64) -> bool) -> u64 {
    match read::user::<u32>(data) {
        Some(HTTP) if members.upstream != 0 => {
            let place = data.wrapping_add(members.upstream.into());
            let upstream: u64 = read::user(place).unwrap_or(0);
            let peer = upstream.wrapping_add(UPSTREAM_PEER);
            if upstream != 0 && is_it(peer) {
                peer
            } else {
                0
            }
        }
        Some(STREAM) => {
            for member in SESSION_UPSTREAM {
                let peer: u64 = read::user(data.wrapping_add(member)).unwrap_or(0);
                if peer != 0 && is_it(peer) {
                    return peer;
                }
            }
            0
        }
        _ => 0,
    }
}

/// Whether it is the name in an `ngx_http_upstream_rr_peer_t`, which begins with the address, its
/// length, and the name.
#[inline(always)]
pub fn is_of_peer(name: u64) -> bool {
    let [address, length] =
        read::user::<[u64; 2]>(name.wrapping_sub(RR_PEER_NAME)).unwrap_or_default();
    let family: u16 = read::user(address).unwrap_or(0);
    (length as u32) <= SOCKADDR_LEN as u32
        && matches!(family, sock::AF_UNIX | sock::AF_INET | sock::AF_INET6)
}
