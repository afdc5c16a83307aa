//! ICMP errors that this host receives about its own TCP packets, read from raw sockets.
//!
//! One pair of sockets (ICMP, ICMPv6) for each network namespace of followed workers; the kernel
//! filters them to the errors that refuse a connection, so that a ping flood does not wake us. A
//! pair keeps its namespace alive, so it is closed with the namespace's last worker. Where a
//! namespace cannot be listened to, [`IcmpListener::deaf`] says why. An error that the host makes
//! itself and answers to itself within the stack (a local REJECT) is seen as well.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::{AsRawFd as _, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{RecvFlags, recvfrom, sockopt::set_socket_recv_buffer_size},
};

use crate::{
    event::{Icmp, Time},
    process::Netns,
};

/// Namespaces listened to at a time.
const NAMESPACES: usize = 1024;
/// One call reads at most this many errors of a socket; the rest waits, or is dropped by the
/// kernel.
const READS: usize = 64;
const RECEIVE_BUFFER: usize = 64 * 1024;
/// How often (nanoseconds) it is checked that namespaces still have workers, as the record of an
/// exit may be lost, and that those that could not be listened to still cannot.
const SWEEP: u64 = 5_000_000_000;
/// `ICMP_FILTER` and `ICMPV6_FILTER` (`linux/icmp.h`, `linux/icmpv6.h`).
const FILTER: i32 = 1;
const UNREACHABLE_V4: u8 = 3;
const TIME_EXCEEDED_V4: u8 = 11;
const UNREACHABLE_V6: u8 = 1;
const TIME_EXCEEDED_V6: u8 = 3;

/// Listens for ICMP errors in the namespaces of followed workers.
#[derive(Debug, Default)]
pub(crate) struct IcmpListener {
    namespaces: BTreeMap<u32, Namespace>,
    /// Each worker's.
    workers: HashMap<u32, u32>,
    swept: Time,
    /// Why no namespace is listened to.
    left_out: Option<&'static str>,
}

#[derive(Debug)]
struct Namespace {
    workers: HashSet<u32>,
    /// Or why there are none.
    sockets: Result<Vec<Socket>, String>,
}

#[derive(Debug)]
struct Socket {
    v6: bool,
    fd: OwnedFd,
}

impl IcmpListener {
    /// Listens to none.
    #[must_use]
    pub(crate) fn left_out(why: &'static str) -> Self {
        Self {
            left_out: Some(why),
            ..Self::default()
        }
    }

    /// Listens in this worker's namespace until its last worker is forgotten. Where IPv6 is off, to
    /// ICMP alone.
    pub(crate) fn follow(&mut self, worker: u32) {
        if self.left_out.is_some() {
            return;
        }
        // A worker that has ended has no namespace to listen to.
        let Ok(netns) = Netns::of(worker) else {
            return;
        };
        if self.workers.get(&worker) == Some(&netns.id()) {
            return;
        }
        self.forget(worker);
        self.workers.insert(worker, netns.id());
        let room = self.open() < NAMESPACES;
        let namespace = self
            .namespaces
            .entry(netns.id())
            .or_insert_with(|| Namespace {
                workers: HashSet::new(),
                sockets: listen(&netns, room),
            });
        namespace.workers.insert(worker);
    }

    /// The worker ended; with the last one of its namespace its sockets are closed, so that the
    /// namespace can end.
    pub(crate) fn forget(&mut self, worker: u32) {
        let Some(id) = self.workers.remove(&worker) else {
            return;
        };
        if let Some(namespace) = self.namespaces.get_mut(&id) {
            namespace.workers.remove(&worker);
            if namespace.workers.is_empty() {
                self.namespaces.remove(&id);
            }
        }
    }

    /// Why ICMP errors cannot be heard in some namespace of a followed worker; `None` if they can
    /// in all.
    #[must_use]
    pub(crate) fn deaf(&self) -> Option<&str> {
        let mut namespaces = self.namespaces.values();
        let deaf = namespaces.find_map(|one| one.sockets.as_ref().err());
        self.left_out.or_else(|| deaf.map(String::as_str))
    }

    /// What came in about TCP packets; never blocks, and reads a bounded number of errors a call.
    pub(crate) fn read(&mut self, now: Time) -> Vec<Icmp> {
        if now.since(self.swept) >= SWEEP {
            self.swept = now;
            self.sweep();
        }
        let sockets: Vec<(u32, &Socket)> = self
            .namespaces
            .iter()
            .flat_map(|(&id, one)| one.sockets.iter().flatten().map(move |socket| (id, socket)))
            .collect();
        let mut errors = Vec::new();
        for (netns, socket) in ready(&sockets) {
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
                            netns,
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

    /// Namespaces with sockets.
    fn open(&self) -> usize {
        let namespaces = self.namespaces.values();
        namespaces.filter(|one| one.sockets.is_ok()).count()
    }

    fn sweep(&mut self) {
        let mut gone = Vec::new();
        let mut open = self.open();
        for (&id, namespace) in &mut self.namespaces {
            let at = |worker: &u32| Netns::of(*worker).ok().filter(|now| now.id() == id);
            match namespace.workers.iter().find_map(at) {
                Some(netns) => {
                    if namespace.sockets.is_err() {
                        namespace.sockets = listen(&netns, open < NAMESPACES);
                        open += usize::from(namespace.sockets.is_ok());
                    }
                }
                None => gone.extend(&namespace.workers),
            }
        }
        for worker in gone {
            self.forget(worker);
        }
    }
}

/// The sockets of a namespace, or why ICMP cannot be heard there.
fn listen(netns: &Netns, room: bool) -> Result<Vec<Socket>, String> {
    if !room {
        return Err(format!(
            "{NAMESPACES} network namespaces are listened to already"
        ));
    }
    let fd = open_v4(netns).map_err(|error| format!("raw ICMP socket: {error}"))?;
    let mut sockets = vec![Socket { v6: false, fd }];
    match open_v6(netns) {
        Ok(fd) => sockets.push(Socket { v6: true, fd }),
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
        Err(error) => return Err(format!("raw ICMPv6 socket: {error}")),
    }
    Ok(sockets)
}

/// Those in which something waits: one call for all of them.
fn ready<'a>(sockets: &[(u32, &'a Socket)]) -> Vec<(u32, &'a Socket)> {
    let mut polled: Vec<PollFd<'_>> = sockets
        .iter()
        .map(|(_, socket)| PollFd::new(&socket.fd, PollFlags::IN))
        .collect();
    if poll(&mut polled, Some(&Timespec::default())).is_err() {
        return Vec::new();
    }
    let both = polled.iter().zip(sockets);
    both.filter(|(polled, _)| !polled.revents().is_empty())
        .map(|(_, socket)| *socket)
        .collect()
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
    set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
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
    let (read, _, sender) = recvfrom(&socket.fd, &mut *buffer, RecvFlags::empty())?;
    let sender = sender.and_then(|sender| SocketAddrV6::try_from(sender).ok());
    let sender = sender.map(|sender| *sender.ip());
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
        let mut packet = packet.to_vec();
        let sum = packet
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum::<u32>();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let _ = rustix::net::sendto(socket, &packet, rustix::net::SendFlags::empty(), &to);
    }

    fn sockets(listener: &IcmpListener) -> usize {
        let namespaces = listener.namespaces.values();
        namespaces.flat_map(|one| &one.sockets).map(Vec::len).sum()
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
        listener.follow(netns.thread);
        listener.follow(netns.thread);
        assert!((1..=2).contains(&sockets(&listener)));
        assert_eq!(listener.deaf(), None);
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
        assert!(listener.read(Time(9)).is_empty());
    }

    #[test]
    fn a_namespace_is_left_with_its_last_worker() {
        let name = "a_namespace_is_left_with_its_last_worker";
        let Some(one) = crate::process::netns::in_new_netns(name, || ()) else {
            return;
        };
        let mut listener = IcmpListener::default();
        let own = std::process::id();
        listener.follow(own);
        let ours = sockets(&listener);
        listener.follow(one.thread);
        assert_eq!(sockets(&listener), 2 * ours);
        listener.forget(one.thread);
        assert_eq!(sockets(&listener), ours);
        listener.forget(one.thread);
        listener.forget(own);
        assert_eq!(sockets(&listener), 0);
    }

    #[test]
    fn a_namespace_whose_workers_ended_unseen_is_left_too() {
        let name = "a_namespace_whose_workers_ended_unseen_is_left_too";
        let Some(one) = crate::process::netns::in_new_netns(name, || ()) else {
            return;
        };
        let mut listener = IcmpListener::default();
        listener.follow(one.thread);
        let id = Netns::of(one.thread).unwrap().id();
        let thread = one.thread;
        drop(one);
        while Netns::of(thread).is_ok_and(|now| now.id() == id) {
            std::thread::yield_now();
        }
        listener.read(Time(SWEEP - 1));
        assert!(sockets(&listener) > 0);
        listener.read(Time(SWEEP));
        assert_eq!(sockets(&listener), 0);
    }

    #[test]
    fn where_no_socket_can_be_opened_it_is_said_until_one_can() {
        let own = Netns::own().unwrap();
        let refused = listen(&own, false).unwrap_err();
        let mut listener = IcmpListener::default();
        let worker = std::process::id();
        let namespace = Namespace {
            workers: HashSet::from([worker]),
            sockets: Err(refused),
        };
        listener.workers.insert(worker, own.id());
        listener.namespaces.insert(own.id(), namespace);
        assert!(listener.deaf().unwrap().contains("1024"));
        if crate::process::status(worker).unwrap().uid == 0 {
            listener.read(Time(SWEEP));
            assert_eq!(listener.deaf(), None);
        }
    }
}
