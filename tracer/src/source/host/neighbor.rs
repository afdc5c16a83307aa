//! Who does not answer on the link, by the neighbour table (net/core/neighbour.c), which also shows
//! that ARP or neighbour discovery is still trying.

use std::{io, net::IpAddr};

use super::{
    link,
    netlink::{attribute, attributes, family_and_bytes, request},
};
use crate::process::Netns;

const RTM_GETNEIGH: u16 = 30;
// include/uapi/linux/neighbour.h
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_INCOMPLETE: u16 = 0x01;
const NUD_FAILED: u16 = 0x20;
/// struct ndmsg, and its members.
const NEIGHBOR: usize = 12;
const INTERFACE: usize = 4;
const STATE: usize = 8;

/// What the neighbour table says of an address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Neighbor {
    /// It was asked for, and has not answered.
    pub(super) is_silent: bool,
    /// Its address on the link, where that is Ethernet's.
    pub(super) link: Option<link::Address>,
}

/// The entry for `address` on that interface of a network namespace. Since 5.0; nobody asked for
/// it: an empty one.
///
/// # Errors
/// The netlink socket.
pub(super) fn entry(netns: &Netns, address: IpAddr, interface: u32) -> io::Result<Neighbor> {
    let (family, bytes) = family_and_bytes(address);
    let mut payload = vec![0; NEIGHBOR];
    payload[0] = family;
    payload[INTERFACE..STATE].copy_from_slice(&interface.to_ne_bytes());
    payload.extend_from_slice(&attribute(NDA_DST, &bytes));
    let mut found = Neighbor::default();
    let answer = request(
        netns,
        libc::NETLINK_ROUTE,
        RTM_GETNEIGH,
        0,
        &payload,
        1,
        |_, message| found = decoded(message),
    );
    match answer {
        Ok(_) => Ok(found),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Neighbor::default()),
        Err(error) => Err(error),
    }
}

fn decoded(message: &[u8]) -> Neighbor {
    let bytes = message.get(STATE..).and_then(|rest| rest.first_chunk());
    let state = bytes.copied().map_or(0, u16::from_ne_bytes);
    let is_silent = state & (NUD_INCOMPLETE | NUD_FAILED) != 0;
    let mut link = attributes(message, NEIGHBOR).filter(|(kind, _)| *kind == NDA_LLADDR);
    Neighbor {
        is_silent,
        link: link
            .next()
            .filter(|_| !is_silent)
            .and_then(|(_, value)| value.try_into().ok()),
    }
}

/// See [`super::read_answer`].
pub(super) fn read(message: &[u8]) {
    let _ = decoded(message);
}
