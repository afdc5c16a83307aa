//! Who does not answer on the link: asked of the neighbour table (net/core/neighbour.c), which also tells while ARP or neighbour
//! discovery still tries.

use std::{io, net::IpAddr};

use super::netlink::{attribute, family_and_bytes, request};
use crate::process::Netns;

const RTM_GETNEIGH: u16 = 30;
// include/uapi/linux/neighbour.h
const NDA_DST: u16 = 1;
const NUD_INCOMPLETE: u16 = 0x01;
const NUD_FAILED: u16 = 0x20;
/// struct ndmsg, and its members.
const NEIGHBOR: usize = 12;
const INTERFACE: usize = 4;
const STATE: usize = 8;

/// Was `address` asked for on that interface of a network namespace, and has not answered? Since
/// 5.0; nobody asked for it: `false`.
///
/// # Errors
/// The netlink socket.
pub(super) fn is_silent(netns: &Netns, address: IpAddr, interface: u32) -> io::Result<bool> {
    let (family, bytes) = family_and_bytes(address);
    let mut payload = vec![0; NEIGHBOR];
    payload[0] = family;
    payload[INTERFACE..STATE].copy_from_slice(&interface.to_ne_bytes());
    payload.extend_from_slice(&attribute(NDA_DST, &bytes));
    let mut state = 0;
    let answer = request(
        netns,
        libc::NETLINK_ROUTE,
        RTM_GETNEIGH,
        0,
        &payload,
        1,
        |_, message| {
            let bytes = message.get(STATE..).and_then(|rest| rest.first_chunk());
            state = bytes.copied().map_or(0, u16::from_ne_bytes);
        },
    );
    match answer {
        Ok(_) => Ok(state & (NUD_INCOMPLETE | NUD_FAILED) != 0),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}
