//! Network interfaces of a namespace (net/core/rtnetlink.c): what kind one is, and which link
//! addresses there are.

use std::io;

use super::netlink::{attribute, attributes, request};
use crate::process::Netns;

/// An Ethernet address.
pub(super) type Address = [u8; 6];

const RTM_GETLINK: u16 = 18;
/// struct ifinfomsg, and its interface index.
const INTERFACE_INFO: usize = 16;
const INDEX: usize = 4;
// Attributes, include/uapi/linux/if_link.h.
const IFLA_ADDRESS: u16 = 1;
const IFLA_LINKINFO: u16 = 18;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_INFO_KIND: u16 = 1;
/// `RTEXT_FILTER_SKIP_STATS`: they are most of an answer.
const SKIP_STATS: u32 = 8;
/// The most interfaces of one namespace.
const INTERFACES: usize = 4096;
/// Kinds that may lead to another network namespace of this host. A physical interface has none; a
/// tunnel leaves it.
const TO_NEIGHBORS: [&[u8]; 8] = [
    b"veth",
    b"bridge",
    b"macvlan",
    b"macvtap",
    b"ipvlan",
    b"ipvtap",
    b"netkit",
    b"openvswitch",
];

/// May a packet that leaves by this interface reach another network namespace of this host?
///
/// # Errors
/// The netlink socket; there is no such interface.
pub(super) fn leads_to_neighbors(netns: &Netns, interface: u32) -> io::Result<bool> {
    let mut payload = payload();
    payload[INDEX..INDEX + 4].copy_from_slice(&interface.to_ne_bytes());
    let mut leads = false;
    let answer = |_, message: &[u8]| {
        leads = kind(message).is_some_and(|kind| TO_NEIGHBORS.contains(&kind));
    };
    request(
        netns,
        libc::NETLINK_ROUTE,
        RTM_GETLINK,
        0,
        &payload,
        1,
        answer,
    )?;
    Ok(leads)
}

/// The Ethernet addresses of a namespace's interfaces.
///
/// # Errors
/// The netlink socket.
pub(super) fn addresses(netns: &Netns) -> io::Result<Vec<Address>> {
    let mut found = Vec::new();
    request(
        netns,
        libc::NETLINK_ROUTE,
        RTM_GETLINK,
        libc::NLM_F_DUMP,
        &payload(),
        INTERFACES,
        |_, message| found.extend(address(message)),
    )?;
    Ok(found)
}

fn payload() -> Vec<u8> {
    let mut payload = vec![0; INTERFACE_INFO];
    payload.extend_from_slice(&attribute(IFLA_EXT_MASK, &SKIP_STATS.to_ne_bytes()));
    payload
}

/// `None`: a physical interface, or the loopback.
fn kind(message: &[u8]) -> Option<&[u8]> {
    let info = value(message, INTERFACE_INFO, IFLA_LINKINFO)?;
    let kind = value(info, 0, IFLA_INFO_KIND)?;
    Some(kind.strip_suffix(b"\0").unwrap_or(kind))
}

/// An all-zero one is the loopback's.
fn address(message: &[u8]) -> Option<Address> {
    let address: Address = value(message, INTERFACE_INFO, IFLA_ADDRESS)?
        .try_into()
        .ok()?;
    (address != [0; 6]).then_some(address)
}

fn value(message: &[u8], offset: usize, wanted: u16) -> Option<&[u8]> {
    attributes(message, offset)
        .find(|(kind, _)| *kind == wanted)
        .map(|(_, value)| value)
}

/// See [`super::read_answer`].
pub(super) fn read(message: &[u8]) {
    let _ = (kind(message), address(message));
}
