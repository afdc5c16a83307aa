//! The host's sockets by `NETLINK_SOCK_DIAG` (`net/ipv4/inet_diag.c`, `net/unix/diag.c`), in a
//! network namespace. No privilege is needed but for the namespace.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::netlink::{Extent, attributes, number_at, request};
use crate::process::Netns;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const TCP_LISTEN: u8 = 10;
/// `TCPF_LISTEN`.
pub(super) const LISTENING: u32 = 1 << TCP_LISTEN;
/// `TCPF_BOUND_INACTIVE`: bound, neither listening nor connected. Since 6.8; before, it matches
/// nothing.
pub(super) const BOUND: u32 = 1 << 13;
/// Every state in which a connection holds its local port.
pub(super) const CONNECTED: u32 = !(LISTENING | BOUND | 1 << 7);
/// `TCP_ESTABLISHED` … as in include/net/tcp_states.h.
pub(super) const ESTABLISHED: u8 = 1;
/// See [`ESTABLISHED`].
pub(super) const SYN_RECV: u8 = 3;
/// See [`ESTABLISHED`].
pub(super) const CLOSE_WAIT: u8 = 8;
/// See [`ESTABLISHED`].
pub(super) const TIME_WAIT: u8 = 6;

/// An attribute: `SK_MEMINFO_*` numbers (include/uapi/linux/sock_diag.h).
const INET_DIAG_SKMEMINFO: u16 = 7;
/// Its place for `SK_MEMINFO_DROPS`.
const DROPS: usize = 8 * 4;

/// Which TCP sockets to list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query {
    /// `AF_INET` or `AF_INET6`.
    pub family: i32,
    /// A mask of TCP states.
    pub states: u32,
    /// The peer's port; 0 any.
    pub remote_port: u16,
    /// The most sockets to hand over.
    pub limit: usize,
}

/// A TCP socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct TcpSocket {
    pub state: u8,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// For a listener `sk_ack_backlog`.
    pub receive_queue: u32,
    /// For a listener `sk_max_ack_backlog`.
    pub send_queue: u32,
    /// 0 for a socket that no descriptor holds any more.
    pub inode: u32,
    /// The interface it is bound to; 0 none.
    pub interface: u32,
    pub v6_only: bool,
    /// Of a listener: connections that the kernel dropped at it (`sk_drops`).
    pub drops: u32,
    /// How often the oldest packet that is not acknowledged was sent again (`icsk_retransmits`).
    pub retransmits: u8,
}

impl TcpSocket {
    pub(super) fn listens(&self) -> bool {
        self.state == TCP_LISTEN
    }
}

/// Hands each TCP socket that matches to `each`.
///
/// # Errors
/// The kernel has no `tcp_diag`, or refused.
pub(super) fn tcp(
    netns: &Netns,
    query: Query,
    mut each: impl FnMut(TcpSocket),
) -> io::Result<Extent> {
    let mut payload = inet_request(query.family);
    payload[4..8].copy_from_slice(&query.states.to_ne_bytes());
    payload[10..12].copy_from_slice(&query.remote_port.to_be_bytes());
    request(
        netns,
        libc::NETLINK_SOCK_DIAG,
        SOCK_DIAG_BY_FAMILY,
        libc::NLM_F_DUMP,
        &payload,
        query.limit,
        |_, message| {
            if let Some(socket) = tcp_socket(message) {
                each(socket);
            }
        },
    )
}

/// The socket with these two ends: a connection of any state; without one, the listener that would
/// take it. One look into the kernel's tables (`inet_diag_find_one_icsk`), however many sockets
/// there are.
///
/// # Errors
/// The kernel has no `tcp_diag`, or refused.
pub(super) fn connection(
    netns: &Netns,
    local: SocketAddr,
    remote: SocketAddr,
) -> io::Result<Option<TcpSocket>> {
    let family = match (local, remote) {
        (SocketAddr::V4(_), SocketAddr::V4(_)) => libc::AF_INET,
        _ => libc::AF_INET6,
    };
    let mut payload = inet_request(family);
    payload[8..10].copy_from_slice(&local.port().to_be_bytes());
    payload[10..12].copy_from_slice(&remote.port().to_be_bytes());
    for (at, ip) in [(12, local.ip()), (28, remote.ip())] {
        match ip {
            IpAddr::V4(ip) if family == libc::AF_INET => {
                payload[at..at + 4].copy_from_slice(&ip.octets());
            }
            IpAddr::V4(ip) => {
                payload[at..at + 16].copy_from_slice(&ip.to_ipv6_mapped().octets());
            }
            IpAddr::V6(ip) => payload[at..at + 16].copy_from_slice(&ip.octets()),
        }
    }
    let mut found = None;
    let answered = request(
        netns,
        libc::NETLINK_SOCK_DIAG,
        SOCK_DIAG_BY_FAMILY,
        0,
        &payload,
        1,
        |_, message| found = tcp_socket(message),
    );
    match answered {
        Ok(_) => Ok(found),
        // No such socket; or no such module, of which a list complains too.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            let query = Query {
                family,
                states: LISTENING,
                remote_port: 0,
                limit: 1,
            };
            tcp(netns, query, |_| {}).map(|_| None)
        }
        Err(error) => Err(error),
    }
}

/// Returns the local addresses of connections with this peer, in any state but listening and
/// `TIME_WAIT`.
///
/// # Errors
/// The kernel has no `tcp_diag`, or refused.
pub(super) fn of_remote(netns: &Netns, remote: SocketAddr) -> io::Result<Vec<SocketAddr>> {
    let mut found = Vec::new();
    // An IPv6 listener may have taken an IPv4 connection.
    for family in [libc::AF_INET, libc::AF_INET6] {
        if family == libc::AF_INET && remote.is_ipv6() {
            continue;
        }
        let query = Query {
            family,
            states: CONNECTED & !(1 << TIME_WAIT),
            remote_port: remote.port(),
            limit: 4096,
        };
        tcp(netns, query, |socket| {
            let ip = socket.remote.ip().to_canonical();
            if (ip, socket.remote.port()) == (remote.ip(), remote.port()) {
                let local = socket.local;
                found.push(SocketAddr::new(local.ip().to_canonical(), local.port()));
            }
        })?;
    }
    Ok(found)
}

/// `struct inet_diag_req_v2`: family, protocol, extensions, states; source and destination port;
/// source and destination address, interface, cookie.
fn inet_request(family: i32) -> [u8; 56] {
    let mut payload = [0; 56];
    payload[0] = family as u8;
    payload[1] = libc::IPPROTO_TCP as u8;
    payload[2] = 1 << (INET_DIAG_SKMEMINFO - 1);
    // INET_DIAG_NOCOOKIE
    payload[48..56].fill(0xff);
    payload
}

/// `struct inet_diag_msg`: family, state, timer, retransmits; ports, addresses, interface, cookie;
/// expiry, queues, uid, inode.
fn tcp_socket(message: &[u8]) -> Option<TcpSocket> {
    const LENGTH: usize = 72;
    const INET_DIAG_SKV6ONLY: u16 = 11;
    // Which timer the next number is of: the retransmission's.
    const RETRANSMIT: u8 = 1;
    let port = |at: usize| Some(u16::from_be_bytes(*message.get(at..)?.first_chunk()?));
    let ip = |at: usize| -> Option<IpAddr> {
        let bytes = message.get(at..)?;
        match i32::from(*message.first()?) {
            libc::AF_INET => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
            libc::AF_INET6 => Some(Ipv6Addr::from(*bytes.first_chunk::<16>()?).into()),
            _ => None,
        }
    };
    Some(TcpSocket {
        state: *message.get(1)?,
        local: SocketAddr::new(ip(8)?, port(4)?),
        remote: SocketAddr::new(ip(24)?, port(6)?),
        receive_queue: number_at(message, 56)?,
        send_queue: number_at(message, 60)?,
        inode: number_at(message, 68)?,
        interface: number_at(message, 40)?,
        v6_only: attributes(message, LENGTH)
            .any(|(kind, value)| kind == INET_DIAG_SKV6ONLY && value.first() == Some(&1)),
        drops: attributes(message, LENGTH)
            .find(|(kind, _)| *kind == INET_DIAG_SKMEMINFO)
            .and_then(|(_, value)| number_at(value, DROPS))
            .unwrap_or(0),
        retransmits: match (message.get(2)?, message.get(3)?) {
            (&RETRANSMIT, &retransmits) => retransmits,
            _ => 0,
        },
    })
}

/// A listening unix socket.
#[derive(Debug, Clone)]
pub(super) struct UnixListener {
    pub inode: u32,
    /// As it was given to `bind()`: relative to the binder's directory and root; an abstract name
    /// starts with NUL.
    pub name: Vec<u8>,
    /// The socket file's inode number (its lower 32 bits) and device (the kernel's encoding).
    pub file: Option<(u32, u32)>,
    pub queue: u32,
    pub limit: u32,
}

/// All listening unix sockets, at most `limit`.
///
/// # Errors
/// The kernel has no `unix_diag`, or refused.
pub(super) fn unix_listeners(
    netns: &Netns,
    limit: usize,
) -> io::Result<(Vec<UnixListener>, Extent)> {
    const SHOW_NAME_VFS_RQLEN: u32 = 0x01 | 0x02 | 0x10;
    let mut payload = [0; 24];
    payload[0] = libc::AF_UNIX as u8;
    payload[4..8].copy_from_slice(&LISTENING.to_ne_bytes());
    payload[12..16].copy_from_slice(&SHOW_NAME_VFS_RQLEN.to_ne_bytes());
    payload[16..24].fill(0xff);
    let mut listeners = Vec::new();
    let extent = request(
        netns,
        libc::NETLINK_SOCK_DIAG,
        SOCK_DIAG_BY_FAMILY,
        libc::NLM_F_DUMP,
        &payload,
        limit,
        |_, message| listeners.extend(unix_listener(message)),
    )?;
    Ok((listeners, extent))
}

/// `struct unix_diag_msg` and its attributes.
fn unix_listener(message: &[u8]) -> Option<UnixListener> {
    const LENGTH: usize = 16;
    let mut listener = UnixListener {
        inode: number_at(message, 4)?,
        name: Vec::new(),
        file: None,
        queue: 0,
        limit: 0,
    };
    for (kind, value) in attributes(message, LENGTH) {
        match kind {
            0 => listener.name = value.to_vec(),
            1 => listener.file = number_at(value, 0).zip(number_at(value, 4)),
            4 => {
                listener.queue = number_at(value, 0)?;
                listener.limit = number_at(value, 4)?;
            }
            _ => {}
        }
    }
    Some(listener)
}

/// See [`super::read_answer`].
pub(super) fn read(message: &[u8]) {
    let _ = (tcp_socket(message), unix_listener(message));
}
