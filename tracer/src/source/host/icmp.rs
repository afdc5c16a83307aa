//! ICMP errors that this host receives about its own TCP packets, read from raw sockets.
//!
//! One pair of sockets (ICMP, ICMPv6) a followed network namespace; the kernel filters them to the errors that refuse
//! a connection, so that a ping flood does not wake us. The pair keeps its namespace alive until it is forgotten.
//! An error that the host makes itself and answers to itself within the stack (a local REJECT) is seen as well.

use std::{
    io,
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    event::{Icmp, Time},
    process::Netns,
};

const NAMESPACES: usize = 32;
/// One call reads at most this many errors of a socket; the rest waits, or is dropped by the kernel.
const READS: usize = 64;
const RECEIVE_BUFFER: i32 = 64 * 1024;
/// `ICMP_FILTER` and `ICMPV6_FILTER` (`linux/icmp.h`, `linux/icmpv6.h`).
const FILTER: i32 = 1;
const UNREACHABLE_V4: u8 = 3;
const TIME_EXCEEDED_V4: u8 = 11;
const UNREACHABLE_V6: u8 = 1;
const TIME_EXCEEDED_V6: u8 = 3;

/// Listens for ICMP errors in the namespaces of followed workers.
#[derive(Debug, Default)]
pub struct IcmpListener {
    sockets: Vec<Socket>,
}

#[derive(Debug)]
struct Socket {
    netns: u32,
    v6: bool,
    fd: OwnedFd,
}

impl IcmpListener {
    /// Listens in this process's namespace as well; once for each namespace. Where IPv6 is off, to ICMP alone.
    ///
    /// # Errors
    /// The process is gone, raw sockets are refused (`CAP_NET_RAW`), or 32 namespaces are listened to already.
    pub fn add_netns(&mut self, pid: u32) -> Result<()> {
        let netns = Netns::of(pid).with_context(|| format!("network namespace of {pid}"))?;
        if self.sockets.iter().any(|socket| socket.netns == netns.id()) {
            return Ok(());
        }
        if self.sockets.len() >= NAMESPACES * 2 {
            bail!("{NAMESPACES} network namespaces are listened to already");
        }
        let v4 = open_v4(&netns).context("raw ICMP socket")?;
        let v6 = open_v6(&netns).ok();
        let socket = |v6, fd| Socket {
            netns: netns.id(),
            v6,
            fd,
        };
        self.sockets.push(socket(false, v4));
        self.sockets.extend(v6.map(|fd| socket(true, fd)));
        Ok(())
    }

    /// Leaves a namespace (its inode number), so that it may end.
    pub fn forget_netns(&mut self, netns: u32) {
        self.sockets.retain(|socket| socket.netns != netns);
    }

    /// The sockets to poll for reading.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(|socket| socket.fd.as_fd())
    }

    /// What came in about TCP packets; never blocks, and reads a bounded number of errors a call.
    pub fn read(&mut self, now: Time) -> Vec<Icmp> {
        let mut errors = Vec::new();
        for socket in &self.sockets {
            for _ in 0..READS {
                let mut buffer = [0; 2048];
                match receive(socket, &mut buffer) {
                    Ok((packet, sender)) => {
                        let error = match (socket.v6, sender) {
                            (false, _) => parse_v4(packet),
                            (true, Some(sender)) => parse_v6(packet, sender),
                            (true, None) => None,
                        };
                        errors.extend(error.map(|error| Icmp {
                            at: now,
                            netns: socket.netns,
                            ..error
                        }));
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
        }
        errors
    }
}

fn open_v4(netns: &Netns) -> io::Result<OwnedFd> {
    // A set bit blocks its type.
    let blocked: u32 = !(1 << UNREACHABLE_V4 | 1 << TIME_EXCEEDED_V4);
    confined(netns.icmp()?, libc::SOL_RAW, &blocked)
}

fn open_v6(netns: &Netns) -> io::Result<OwnedFd> {
    let mut blocked = [u32::MAX; 8];
    blocked[0] = !(1 << UNREACHABLE_V6 | 1 << TIME_EXCEEDED_V6);
    confined(netns.icmpv6()?, libc::IPPROTO_ICMPV6, &blocked)
}

fn confined<F>(socket: OwnedFd, level: i32, filter: &F) -> io::Result<OwnedFd> {
    set(&socket, level, FILTER, filter)?;
    set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, &RECEIVE_BUFFER)?;
    Ok(socket)
}

fn set<T>(socket: &OwnedFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: pointer and length describe `value`, which outlives the call; both are plain numbers.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if set < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// One packet, and who sent it (for v6, whose packets come without their IP header).
fn receive<'a>(socket: &Socket, buffer: &'a mut [u8]) -> io::Result<(&'a [u8], Option<Ipv6Addr>)> {
    let mut name = MaybeUninit::<libc::sockaddr_in6>::zeroed();
    let mut length = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
    // SAFETY: buffer and name are writable for the lengths given and outlive the call.
    let read = unsafe {
        libc::recvfrom(
            socket.fd.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            0,
            name.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: zeroed at the start, and all bit patterns are valid.
    let name = unsafe { name.assume_init() };
    let sender = (i32::from(name.sin6_family) == libc::AF_INET6)
        .then(|| Ipv6Addr::from(name.sin6_addr.s6_addr));
    Ok((&buffer[..read], sender))
}

/// IP header, ICMP header, IP header of ours, the first eight bytes of our TCP header.
fn parse_v4(packet: &[u8]) -> Option<Icmp> {
    let sender = Ipv4Addr::from(*packet.get(12..)?.first_chunk::<4>()?);
    let icmp = packet.get(header_length(packet)?..)?;
    let ours = icmp.get(8..)?;
    (ours.get(9).copied().map(i32::from) == Some(libc::IPPROTO_TCP)).then_some(())?;
    // Only the first fragment has the ports.
    (u16::from_be_bytes(*ours.get(6..)?.first_chunk()?) & 0x1fff == 0).then_some(())?;
    let address = |at: usize| Some(IpAddr::from(*ours.get(at..)?.first_chunk::<4>()?));
    let tcp = ours.get(header_length(ours)?..)?;
    error(icmp, sender.into(), address(12)?, address(16)?, tcp)
}

/// ICMPv6 header, IPv6 header of ours, TCP. A packet of ours with extension headers is left out.
fn parse_v6(icmp: &[u8], sender: Ipv6Addr) -> Option<Icmp> {
    let ours = icmp.get(8..)?;
    (ours.get(6).copied().map(i32::from) == Some(libc::IPPROTO_TCP)).then_some(())?;
    let address = |at: usize| Some(IpAddr::from(*ours.get(at..)?.first_chunk::<16>()?));
    error(
        icmp,
        sender.into(),
        address(8)?,
        address(24)?,
        ours.get(40..)?,
    )
}

fn header_length(ip: &[u8]) -> Option<usize> {
    let length = usize::from(ip.first()? & 0x0f) * 4;
    (length >= 20).then_some(length)
}

fn error(icmp: &[u8], sender: IpAddr, from: IpAddr, to: IpAddr, tcp: &[u8]) -> Option<Icmp> {
    let port = |at: usize| Some(u16::from_be_bytes(*tcp.get(at..)?.first_chunk()?));
    Some(Icmp {
        at: Time(0),
        netns: 0,
        kind: *icmp.first()?,
        code: *icmp.get(1)?,
        sender,
        source: SocketAddr::new(from, port(0)?),
        destination: SocketAddr::new(to, port(2)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ip` header of 20 bytes with this protocol and these addresses.
    fn header_v4(protocol: u8, from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
        let mut header = vec![0; 20];
        header[0] = 0x45;
        header[9] = protocol;
        header[12..16].copy_from_slice(&from);
        header[16..20].copy_from_slice(&to);
        header
    }

    fn unreachable_v4(protocol: u8) -> Vec<u8> {
        let mut packet = header_v4(1, [10, 0, 0, 254], [10, 0, 0, 1]);
        packet.extend([3, 13, 0, 0, 0, 0, 0, 0]);
        packet.extend(header_v4(protocol, [10, 0, 0, 1], [10, 0, 1, 5]));
        packet.extend([0xc3, 0x50, 0x0b, 0xb8, 0, 0, 0, 1]);
        packet
    }

    #[test]
    fn an_error_names_its_sender_and_the_packet_it_is_about() {
        let error = parse_v4(&unreachable_v4(6)).unwrap();
        assert_eq!((error.kind, error.code), (3, 13));
        assert_eq!(error.sender, IpAddr::from([10, 0, 0, 254]));
        assert_eq!(error.source, SocketAddr::from(([10, 0, 0, 1], 50000)));
        assert_eq!(error.destination, SocketAddr::from(([10, 0, 1, 5], 3000)));
    }

    #[test]
    fn an_ipv6_error_is_read_too() {
        let mut packet = vec![1, 4, 0, 0, 0, 0, 0, 0];
        let mut ours = vec![0; 40];
        (ours[0], ours[6], ours[23], ours[39]) = (0x60, 6, 1, 2);
        packet.extend(ours);
        packet.extend([0xc3, 0x50, 0x0b, 0xb8]);
        let error = parse_v6(&packet, "fe80::1".parse().unwrap()).unwrap();
        assert_eq!((error.kind, error.code, error.source.port()), (1, 4, 50000));
        assert_eq!(error.destination, "[::2]:3000".parse().unwrap());
    }

    #[test]
    fn errors_about_other_protocols_and_cut_packets_are_left_out() {
        assert_eq!(parse_v4(&unreachable_v4(17)), None);
        let whole = unreachable_v4(6);
        for length in 0..52 {
            assert_eq!(parse_v4(&whole[..length]), None, "{length}");
        }
        assert_eq!(parse_v6(&[1, 4], Ipv6Addr::LOCALHOST), None);
    }

    /// Sends `packet` (ICMP and what is in it) to the loopback.
    fn send_v4(socket: &OwnedFd, packet: &[u8]) {
        // SAFETY: the address and the packet outlive the calls.
        unsafe {
            let mut to: libc::sockaddr_in = std::mem::zeroed();
            to.sin_family = libc::AF_INET as u16;
            to.sin_addr.s_addr = u32::from(Ipv4Addr::LOCALHOST).to_be();
            let length = size_of_val(&to) as u32;
            let mut packet = packet.to_vec();
            let sum = packet
                .chunks(2)
                .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
                .sum::<u32>();
            let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
            packet[2..4].copy_from_slice(&sum.to_be_bytes());
            libc::sendto(
                socket.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const to).cast(),
                length,
            );
        }
    }

    #[test]
    fn a_followed_namespace_is_heard_and_a_ping_is_not() {
        let Some(netns) = crate::process::netns::in_new_netns(
            "a_followed_namespace_is_heard_and_a_ping_is_not",
            || (),
        ) else {
            return;
        };
        let mut listener = IcmpListener::default();
        listener.add_netns(netns.thread).unwrap();
        listener.add_netns(netns.thread).unwrap();
        assert!((1..=2).contains(&listener.fds().count()));
        let inside = Netns::of(netns.thread).unwrap();
        let error = unreachable_v4(6);
        let socket = inside.icmp().unwrap();
        send_v4(&socket, &[8, 0, 0, 0, 0, 0, 0, 0]);
        send_v4(&socket, &error[20..]);
        let read = listener.read(Time(9));
        assert_eq!(read.len(), 1);
        assert_eq!(
            (read[0].at, read[0].netns, read[0].code),
            (Time(9), inside.id(), 13)
        );
        assert_eq!(read[0].sender, IpAddr::from([127, 0, 0, 1]));
        listener.forget_netns(inside.id());
        assert_eq!(listener.fds().count(), 0);
    }
}
