//! One netlink request and its answers (`net/netlink/af_netlink.c`), bounded in messages and time.
//!
//! Hand-written: tracer needs one request shape and a walk over attributes, no more. Whoever is
//! root in a container may send to each netlink socket in its network namespace. So the socket is
//! connected to the kernel, which then refuses what others send, and what came from elsewhere or
//! answers another request is passed over.

use std::{
    io::{self, IoSliceMut},
    net::IpAddr,
    os::fd::OwnedFd,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendFlags,
        netlink::SocketAddrNetlink,
        recvmsg,
        sockopt::{Timeout, set_socket_timeout},
    },
};

use crate::process::Netns;

const HEADER: usize = 16;
/// The kernel fills at most half of this an answer to a dump.
const BUFFER: usize = 64 * 1024;
/// A whole dump may take this long, and the wait for one answer.
const PATIENCE: Duration = Duration::from_millis(200);

/// How much of an answer was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of it.
    Whole,
    /// It was cut at the bound of messages or of time, or what was listed changed meanwhile.
    Cut,
}

/// Sends one request in a network namespace and hands each answer's type and payload to `each`, at
/// most `limit` of them.
///
/// # Errors
/// The socket, or the errno the kernel answered (`ENOENT` from `sock_diag`: its module is absent);
/// an answer that is malformed.
pub(super) fn request(
    netns: &Netns,
    protocol: i32,
    kind: u16,
    flags: i32,
    payload: &[u8],
    limit: usize,
    mut each: impl FnMut(u16, &[u8]),
) -> io::Result<Extent> {
    let deadline = Instant::now() + PATIENCE;
    let socket = Socket::open(netns, protocol)?;
    socket.connect()?;
    let mut answers = Answers {
        sequence: socket.send(kind, flags, payload)?,
        port: socket.port()?,
        left: limit,
        has_changed: false,
    };
    let mut buffer = vec![0; BUFFER];
    while Instant::now() <= deadline {
        let Some(datagram) = socket.receive(&mut buffer)? else {
            break;
        };
        if let Some(extent) = answers.take(datagram, &mut each)? {
            if extent == Extent::Whole {
                netns.keep(protocol, socket.0);
            }
            return Ok(extent);
        }
    }
    Ok(Extent::Cut)
}

/// The answers to one request, as its socket receives them.
#[derive(Debug)]
pub(super) struct Answers {
    /// The request's number.
    pub(super) sequence: u32,
    /// Its socket's.
    pub(super) port: u32,
    /// How many more to hand over.
    pub(super) left: usize,
    /// The kernel said that what it lists changed meanwhile.
    pub(super) has_changed: bool,
}

impl Answers {
    /// Passes on what a datagram of the kernel holds. Returns how complete the answer is, once it
    /// has ended.
    pub(super) fn take(
        &mut self,
        datagram: &[u8],
        mut each: impl FnMut(u16, &[u8]),
    ) -> io::Result<Option<Extent>> {
        let mut rest = datagram;
        while !rest.is_empty() {
            let message = Message::first(&mut rest).ok_or(io::ErrorKind::InvalidData)?;
            if (message.sequence, message.port) != (self.sequence, self.port) {
                continue;
            }
            self.has_changed |= i32::from(message.flags) & libc::NLM_F_DUMP_INTR != 0;
            match i32::from(message.kind) {
                // Either carries an errno, of late also the end of a list.
                kind @ (libc::NLMSG_DONE | libc::NLMSG_ERROR) => {
                    let code = number_at(message.payload, 0).map(|code| code as i32);
                    return match code {
                        Some(code) if code < 0 => {
                            Err(io::Error::from_raw_os_error(code.saturating_neg()))
                        }
                        None if kind == libc::NLMSG_ERROR => Err(io::ErrorKind::InvalidData.into()),
                        _ => Ok(Some(self.extent())),
                    };
                }
                libc::NLMSG_NOOP => {}
                _ if self.left == 0 => return Ok(Some(Extent::Cut)),
                _ => {
                    self.left -= 1;
                    each(message.kind, message.payload);
                    if i32::from(message.flags) & libc::NLM_F_MULTI == 0 {
                        return Ok(Some(self.extent()));
                    }
                }
            }
        }
        Ok(None)
    }

    fn extent(&self) -> Extent {
        match self.has_changed {
            true => Extent::Cut,
            false => Extent::Whole,
        }
    }
}

/// The attributes of a message from `offset` on: type (without flag bits) and value.
pub(super) fn attributes(message: &[u8], offset: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = message.get(offset..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(short_at(rest, 0)?);
        let kind = short_at(rest, 2)? & 0x3fff;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// An address's family and bytes, as netlink takes them.
pub(super) fn family_and_bytes(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (libc::AF_INET as u8, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6 as u8, v6.octets().to_vec()),
    }
}

/// One attribute of a request, of a multiple of four bytes.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + value.len());
    bytes.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes
}

/// The native-endian `u32` at a byte offset.
pub(super) fn number_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn short_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Takes the first message off `bytes`; `None` if there is none, or its length is impossible.
    fn first(bytes: &mut &'a [u8]) -> Option<Self> {
        let length = usize::try_from(number_at(bytes, 0)?).ok()?;
        let message = Self {
            kind: short_at(bytes, 4)?,
            flags: short_at(bytes, 6)?,
            sequence: number_at(bytes, 8)?,
            port: number_at(bytes, 12)?,
            payload: bytes.get(HEADER..length)?,
        };
        *bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

struct Socket(OwnedFd);

impl Socket {
    fn open(netns: &Netns, protocol: i32) -> io::Result<Self> {
        let socket = netns.netlink(protocol)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self(socket))
    }

    /// From now on it takes only what the kernel sends.
    fn connect(&self) -> io::Result<()> {
        Ok(rustix::net::connect(&self.0, &address(0))?)
    }

    /// The number that it is known by in its namespace.
    fn port(&self) -> io::Result<u32> {
        let own = SocketAddrNetlink::try_from(rustix::net::getsockname(&self.0)?)?;
        Ok(own.pid())
    }

    /// Sends a request to the kernel and gives its number.
    fn send(&self, kind: u16, flags: i32, payload: &[u8]) -> io::Result<u32> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let sequence = NEXT.fetch_add(1, Ordering::Relaxed);
        let flags = (libc::NLM_F_REQUEST | flags) as u16;
        let message = message(kind, flags, sequence, 0, payload);
        // A netlink socket without another peer sends to the kernel.
        rustix::net::send(&self.0, &message, SendFlags::empty())?;
        Ok(sequence)
    }

    /// The next datagram, empty if it is not the kernel's; `None` if none came in time.
    fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        let mut control = RecvAncillaryBuffer::default();
        let mut place = [IoSliceMut::new(buffer)];
        let read = match recvmsg(&self.0, &mut place, &mut control, RecvFlags::empty()) {
            Ok(read) => read,
            Err(Errno::INTR) => return Ok(Some(&[])),
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let sender = read.address.map(SocketAddrNetlink::try_from);
        if !matches!(sender, Some(Ok(sender)) if sender.pid() == 0) {
            return Ok(Some(&[]));
        }
        if read.flags.contains(ReturnFlags::TRUNC) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let read = read.bytes;
        Ok(Some(&buffer[..read]))
    }
}

/// Of the socket with that number; 0 is the kernel.
fn address(port: u32) -> SocketAddrNetlink {
    SocketAddrNetlink::new(port, 0)
}

fn message(kind: u16, flags: u16, sequence: u32, port: u32, payload: &[u8]) -> Vec<u8> {
    let length = HEADER + payload.len();
    let mut message = Vec::with_capacity(length);
    message.extend_from_slice(&(length as u32).to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    message.extend_from_slice(&sequence.to_ne_bytes());
    message.extend_from_slice(&port.to_ne_bytes());
    message.extend_from_slice(payload);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_or_attribute_with_an_impossible_length_ends_the_walk() {
        let mut bytes: &[u8] = &[255, 0, 0, 0, 1, 0, 0, 0];
        assert!(Message::first(&mut bytes).is_none());
        assert_eq!(attributes(&[2, 0, 1, 0], 0).count(), 0);
        assert_eq!(attributes(&[8, 0, 1, 0, 1], 0).count(), 0);
        assert_eq!(
            attributes(&[5, 0, 1, 0, 9, 0, 0, 0, 4, 0, 2, 0], 0).count(),
            2
        );
        assert_eq!(attributes(&[], 9).count(), 0);
    }

    #[test]
    fn the_kernel_s_errno_is_ours() {
        let own = Netns::own().unwrap();
        let error = request(&own, libc::NETLINK_ROUTE, 9999, 0, &[0; 4], 1, |_, _| {}).unwrap_err();
        assert!(error.raw_os_error().is_some());
    }

    const SEQUENCE: u32 = 7;
    const PORT: u32 = 4242;
    const LISTED: u16 = 20;
    const MULTI: u16 = libc::NLM_F_MULTI as u16;
    const CHANGED: u16 = libc::NLM_F_DUMP_INTR as u16;

    /// What is handed over of these datagrams, and what comes of them.
    fn taken(datagrams: &[Vec<u8>]) -> (Vec<Vec<u8>>, io::Result<Option<Extent>>) {
        let mut answers = Answers {
            sequence: SEQUENCE,
            port: PORT,
            left: 9,
            has_changed: false,
        };
        let mut handed = Vec::new();
        for datagram in datagrams {
            let end = answers.take(datagram, |_, payload| handed.push(payload.to_vec()));
            if !matches!(end, Ok(None)) {
                return (handed, end);
            }
        }
        (handed, Ok(None))
    }

    fn listed(sequence: u32, port: u32, payload: u8) -> Vec<u8> {
        message(LISTED, MULTI, sequence, port, &[payload; 4])
    }

    fn done(flags: u16, code: i32) -> Vec<u8> {
        let kind = libc::NLMSG_DONE as u16;
        message(kind, MULTI | flags, SEQUENCE, PORT, &code.to_ne_bytes())
    }

    #[test]
    fn only_answers_to_this_request_of_this_socket_are_handed_over() {
        let others = [
            listed(SEQUENCE + 1, PORT, 1),
            listed(SEQUENCE, PORT + 1, 2),
            listed(SEQUENCE, 0, 3),
        ];
        let own = [listed(SEQUENCE, PORT, 4), done(0, 0)].concat();
        let (handed, end) = taken(&[others.concat(), own]);
        assert_eq!(handed, [vec![4; 4]]);
        assert_eq!(end.unwrap(), Some(Extent::Whole));
        // Nor do others' ends end it.
        let foreign = message(libc::NLMSG_DONE as u16, MULTI, SEQUENCE + 1, PORT, &[0; 4]);
        assert_eq!(taken(&[foreign]).1.unwrap(), None);
    }

    #[test]
    fn a_list_that_changed_meanwhile_is_no_whole_one() {
        for datagrams in [
            vec![listed(SEQUENCE, PORT, 1), done(CHANGED, 0)],
            vec![
                message(LISTED, MULTI | CHANGED, SEQUENCE, PORT, &[1; 4]),
                listed(SEQUENCE, PORT, 2),
                done(0, 0),
            ],
            vec![message(LISTED, CHANGED, SEQUENCE, PORT, &[1; 4])],
        ] {
            assert_eq!(taken(&datagrams).1.unwrap(), Some(Extent::Cut));
        }
    }

    #[test]
    fn a_list_that_ends_with_an_error_is_one() {
        let (handed, end) = taken(&[listed(SEQUENCE, PORT, 1), done(0, -libc::ENOENT)]);
        assert_eq!(handed.len(), 1);
        assert_eq!(end.unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn what_is_malformed_is_an_error() {
        let sound = listed(SEQUENCE, PORT, 1);
        for length in [0_u32, 15, 21, 1 << 20, u32::MAX] {
            let mut other = sound.clone();
            other[..4].copy_from_slice(&length.to_ne_bytes());
            let (handed, end) = taken(&[other]);
            assert!(handed.is_empty());
            assert_eq!(end.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        let cut = sound[..9].to_vec();
        assert!(taken(&[cut]).1.is_err());
        let empty = message(libc::NLMSG_ERROR as u16, 0, SEQUENCE, PORT, &[]);
        assert!(taken(&[empty]).1.is_err());
    }

    /// Sends to the socket with that number, as whoever is root in its namespace may.
    fn forge(port: u32) -> Option<io::Result<()>> {
        let attacker = Socket::open(&Netns::own().unwrap(), libc::NETLINK_ROUTE).unwrap();
        let bytes = listed(SEQUENCE, port, 1);
        match rustix::net::sendto(&attacker.0, &bytes, SendFlags::empty(), &address(port)) {
            Ok(_) => Some(Ok(())),
            Err(Errno::PERM) => {
                println!("SKIPPED: an_answer_of_another_process: needs CAP_NET_ADMIN");
                None
            }
            Err(error) => Some(Err(error.into())),
        }
    }

    #[test]
    fn an_answer_of_another_process_is_refused_by_the_kernel() {
        let socket = Socket::open(&Netns::own().unwrap(), libc::NETLINK_ROUTE).unwrap();
        socket.connect().unwrap();
        let refused = forge(socket.port().unwrap());
        let code = refused.map(|sent| sent.unwrap_err().raw_os_error());
        assert!(matches!(code, None | Some(Some(libc::ECONNREFUSED))));
    }

    #[test]
    fn an_answer_of_another_process_is_passed_over() {
        let socket = Socket::open(&Netns::own().unwrap(), libc::NETLINK_ROUTE).unwrap();
        // It gets its number, but is not connected.
        socket.send(9999, 0, &[0; 4]).unwrap();
        let mut buffer = [0; 4096];
        let own = socket.receive(&mut buffer).unwrap().unwrap();
        assert!(own.len() > HEADER);
        if let Some(sent) = forge(socket.port().unwrap()) {
            sent.unwrap();
            assert_eq!(socket.receive(&mut buffer).unwrap(), Some(&[][..]));
        }
    }

    #[test]
    fn a_cut_datagram_is_an_error_and_silence_is_not_waited_for() {
        let socket = Socket::open(&Netns::own().unwrap(), libc::NETLINK_ROUTE).unwrap();
        socket.connect().unwrap();
        // RTM_GETLINK
        socket.send(18, libc::NLM_F_DUMP, &[0; 16]).unwrap();
        let cut = socket.receive(&mut [0; 64]).unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::InvalidData);
        let quiet = Socket::open(&Netns::own().unwrap(), libc::NETLINK_ROUTE).unwrap();
        quiet.connect().unwrap();
        assert_eq!(quiet.receive(&mut [0; 64]).unwrap(), None);
    }
}
