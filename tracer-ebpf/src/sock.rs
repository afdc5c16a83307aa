//! Members of `struct sock` and its kin.

use tracer_ebpf::abi::Endpoint;

use crate::{
    constants::{OFFSETS, offset},
    read::{self, kernel, kernel_into},
};

/// `AF_UNIX`
pub const AF_UNIX: u16 = 1;
/// `sk_protocol` of a unix socket.
pub const UNIX: u16 = 0;
/// `IPPROTO_TCP`
pub const TCP: u16 = 6;
/// `IPPROTO_UDP`
pub const UDP: u16 = 17;
/// `AF_INET`
pub const AF_INET: u16 = 2;
/// `AF_INET6`
pub const AF_INET6: u16 = 10;

/// `TCP_ESTABLISHED` … as in include/net/tcp_states.h.
pub mod state {
    pub const ESTABLISHED: i32 = 1;
    pub const SYN_SENT: i32 = 2;
    pub const FIN_WAIT1: i32 = 4;
    pub const CLOSE: i32 = 7;
    pub const CLOSE_WAIT: i32 = 8;
    pub const LAST_ACK: i32 = 9;
}

/// Whether it is TCP (`inet_sock_set_state` fires for SCTP and DCCP too, and newer kernels show
/// MPTCP as 262).
#[inline(always)]
pub fn is_tcp(sk: u64) -> bool {
    protocol(sk) == Some(TCP)
}

/// The protocol; unix sockets have none.
#[inline(always)]
pub fn protocol(sk: u64) -> Option<u16> {
    Some(kernel::<u16>(sk, &OFFSETS.protocol)? & 0xff)
}

/// Address family.
#[inline(always)]
pub fn family(sk: u64) -> u16 {
    kernel(sk, &OFFSETS.family).unwrap_or(0)
}

/// The number of its inode, which no other socket has while numbers last; 0 unknown.
#[inline(always)]
pub fn inode(sk: u64) -> u64 {
    kernel::<u64>(sk, &OFFSETS.sk_socket)
        .and_then(|socket| kernel(socket, &OFFSETS.socket_inode))
        .unwrap_or(0)
}

/// `SO_PEERCRED` of a unix socket, host pid: who called `listen()`, or for the listener's side
/// `connect()`; 0 unknown.
#[inline(always)]
pub fn peer_pid(sk: u64) -> u32 {
    kernel::<u64>(sk, &OFFSETS.peer_pid)
        .and_then(|pid| kernel(pid, &OFFSETS.pid_numbers))
        .unwrap_or(0)
}

/// The IPv4-mapped form of an address in network order.
#[inline(always)]
pub fn mapped(address: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = address;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// The peer's end.
#[inline(always)]
pub fn remote(sk: u64) -> Endpoint {
    let mut end = Endpoint::NONE;
    address(sk, &OFFSETS.daddr, &OFFSETS.v6_daddr, &mut end.address);
    end.port = u16::from_be(kernel(sk, &OFFSETS.dport).unwrap_or(0));
    end
}

/// The last byte of the peer's IPv4 address; of IPv6 alone it says nothing.
#[inline(always)]
pub fn remote_last_byte(sk: u64) -> u8 {
    let address: [u8; 4] = kernel(sk, &OFFSETS.daddr).unwrap_or([0; 4]);
    address[3]
}

/// The local address. The port is `inet_sport`: `skc_num` is zeroed before the last state change.
#[inline(always)]
pub fn local(sk: u64) -> Endpoint {
    let mut end = Endpoint::NONE;
    address(
        sk,
        &OFFSETS.rcv_saddr,
        &OFFSETS.v6_rcv_saddr,
        &mut end.address,
    );
    end.port = local_port(sk);
    end
}

/// The local port.
#[inline(always)]
pub fn local_port(sk: u64) -> u16 {
    u16::from_be(kernel(sk, &OFFSETS.sport).unwrap_or(0))
}

/// Read in place: by value, each of the sixteen bytes takes a slot of the stack.
#[inline(always)]
fn address(sk: u64, v4: &'static u16, v6: &'static u16, into: &mut [u8; 16]) {
    let (member, bytes) = match family(sk) {
        AF_INET => {
            into[10] = 0xff;
            into[11] = 0xff;
            (offset(v4), &mut into[12..])
        }
        AF_INET6 => (offset(v6), &mut into[..]),
        _ => return,
    };
    if let Some(member) = member {
        let _ = kernel_into(sk.wrapping_add(member as u64), bytes);
    }
}

/// TCP state.
#[inline(always)]
pub fn tcp_state(sk: u64) -> i32 {
    i32::from(kernel::<u8>(sk, &OFFSETS.state).unwrap_or(0))
}

/// The pending error: `sk_err`, else the soft one that an ICMP error inside `connect()` leaves.
#[inline(always)]
pub fn error(sk: u64) -> u32 {
    match kernel::<i32>(sk, &OFFSETS.err) {
        Some(error) if error > 0 => error as u32,
        _ => kernel::<i32>(sk, &OFFSETS.err_soft)
            .map_or(0, |error| if error > 0 { error as u32 } else { 0 }),
    }
}

/// Network namespace (inode number).
#[inline(always)]
pub fn netns(sk: u64) -> u32 {
    netns_at(sk, &OFFSETS.net)
}

/// The same, of what has this member; 0: unknown.
#[inline(always)]
pub fn netns_at(base: u64, member: &'static u16) -> u32 {
    kernel::<u64>(base, member)
        .and_then(|net| read::kernel(net, &OFFSETS.netns_inum))
        .unwrap_or(0)
}
