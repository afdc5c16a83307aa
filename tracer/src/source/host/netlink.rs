//! One netlink request and its answers (`net/netlink/af_netlink.c`), bounded in messages and time.
//!
//! Hand-written: tracer needs one request shape and a walk over attributes, no more.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use crate::process::Netns;

const HEADER: usize = 16;
/// The kernel fills at most this much an answer to a dump.
const BUFFER: usize = 64 * 1024;
/// A whole dump may take this long.
const PATIENCE: Duration = Duration::from_millis(200);

/// How much of an answer was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of it.
    Whole,
    /// It was cut at the bound of messages or of time.
    Cut,
}

/// Sends one request in a network namespace and hands each answer's type and payload to `each`,
/// at most `limit` of them.
///
/// # Errors
/// The socket, or the errno the kernel answered (`ENOENT` from `sock_diag`: its module is absent).
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
    let socket = open(netns, protocol)?;
    send(&socket, kind, flags, payload)?;
    let mut buffer = vec![0; BUFFER];
    let mut left = limit;
    loop {
        // SAFETY: the buffer is writable for the length given.
        let read = unsafe {
            libc::recv(
                socket.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                0,
            )
        };
        let Ok(read) = usize::try_from(read) else {
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => continue,
                io::ErrorKind::WouldBlock => return Ok(Extent::Cut),
                _ => return Err(error),
            }
        };
        let mut rest = &buffer[..read];
        while let Some(message) = Message::first(&mut rest) {
            match i32::from(message.kind) {
                libc::NLMSG_DONE => return Ok(Extent::Whole),
                libc::NLMSG_ERROR => {
                    return match number_at(message.payload, 0).map(|code| code as i32) {
                        Some(0) => Ok(Extent::Whole),
                        Some(code) => Err(io::Error::from_raw_os_error(-code)),
                        None => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                    };
                }
                libc::NLMSG_NOOP => {}
                _ if left == 0 => return Ok(Extent::Cut),
                _ => {
                    left -= 1;
                    each(message.kind, message.payload);
                    if i32::from(message.flags) & libc::NLM_F_MULTI == 0 {
                        return Ok(Extent::Whole);
                    }
                }
            }
        }
        if Instant::now() > deadline {
            return Ok(Extent::Cut);
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
    payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Takes the first message off `bytes`; `None` at the end, or if its length is impossible.
    fn first(bytes: &mut &'a [u8]) -> Option<Self> {
        let length = usize::try_from(number_at(bytes, 0)?).ok()?;
        let message = Self {
            kind: short_at(bytes, 4)?,
            flags: short_at(bytes, 6)?,
            payload: bytes.get(HEADER..length)?,
        };
        *bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

fn open(netns: &Netns, protocol: i32) -> io::Result<OwnedFd> {
    let socket = netns.netlink(protocol)?;
    let patience = libc::timeval {
        tv_sec: 0,
        tv_usec: PATIENCE.subsec_micros().into(),
    };
    // SAFETY: the pointer and length describe `patience`, which outlives the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            (&raw const patience).cast(),
            size_of::<libc::timeval>() as libc::socklen_t,
        )
    };
    if set < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

fn send(socket: &OwnedFd, kind: u16, flags: i32, payload: &[u8]) -> io::Result<()> {
    let length = HEADER + payload.len();
    let mut message = Vec::with_capacity(length);
    message.extend_from_slice(&(length as u32).to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
    message.extend_from_slice(&1_u32.to_ne_bytes());
    message.extend_from_slice(&0_u32.to_ne_bytes());
    message.extend_from_slice(payload);
    // SAFETY: the message is readable for its length; an unconnected netlink socket sends to the kernel.
    let sent = unsafe { libc::send(socket.as_raw_fd(), message.as_ptr().cast(), length, 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
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
}
