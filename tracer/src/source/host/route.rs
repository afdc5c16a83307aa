//! Where packets to an address of this network namespace go. Asked of the routing table, which also
//! knows addresses that no interface lists (a `local` route, all of 127/8).

use std::{io, net::IpAddr};

use super::netlink::{attribute, attributes, family_and_bytes, number_at, request};
use crate::process::Netns;

const RTM_GETROUTE: u16 = 26;
const RTN_LOCAL: u8 = 2;
// rtattr types, include/uapi/linux/rtnetlink.h.
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RTA_VIA: u16 = 18;
/// struct rtmsg
const ROUTE: usize = 12;

/// Where a packet goes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Way {
    /// It stays on this host.
    pub(super) is_local: bool,
    /// Who takes it on the link, and the interface's index.
    pub(super) next_hop: Option<(IpAddr, u32)>,
    /// The address that it leaves from.
    pub(super) source: Option<IpAddr>,
    /// The error that the table gives instead of a route.
    pub(super) error: Option<u32>,
}

/// The way of a packet to `address` in a network namespace. No route at all: nowhere.
///
/// # Errors
/// The netlink socket.
pub(super) fn way(netns: &Netns, address: IpAddr) -> io::Result<Way> {
    let (family, bytes) = family_and_bytes(address);
    // struct rtmsg: family, destination length in bits, then zeros; RTA_DST.
    let mut payload = vec![0; ROUTE];
    payload[0] = family;
    payload[1] = (bytes.len() * 8) as u8;
    payload.extend_from_slice(&attribute(RTA_DST, &bytes));
    let mut way = Way::default();
    let answer = request(
        netns,
        libc::NETLINK_ROUTE,
        RTM_GETROUTE,
        0,
        &payload,
        1,
        |_, message| way = decoded(address, message),
    );
    match answer {
        Ok(_) => Ok(way),
        Err(error) => match error.raw_os_error() {
            Some(
                errno @ (libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL),
            ) => Ok(Way {
                error: Some(errno.unsigned_abs()),
                ..Way::default()
            }),
            _ => Err(error),
        },
    }
}

fn decoded(address: IpAddr, message: &[u8]) -> Way {
    let (mut gateway, mut interface, mut source) = (address, None, None);
    for (kind, value) in attributes(message, ROUTE) {
        match kind {
            RTA_OIF => interface = number_at(value, 0),
            RTA_PREFSRC => source = ip(value),
            RTA_GATEWAY => gateway = ip(value).unwrap_or(gateway),
            // A family before the address.
            RTA_VIA => gateway = value.get(2..).and_then(ip).unwrap_or(gateway),
            _ => {}
        }
    }
    let is_local = message.get(7) == Some(&RTN_LOCAL);
    Way {
        is_local,
        next_hop: interface
            .filter(|_| !is_local)
            .map(|interface| (gateway, interface)),
        source,
        error: None,
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// See [`super::read_answer`].
pub(super) fn read(message: &[u8]) {
    let _ = decoded(std::net::Ipv4Addr::LOCALHOST.into(), message);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_the_loopback_net_is_local_and_a_documentation_address_is_not() {
        let own = Netns::own().unwrap();
        let local = way(&own, "127.9.8.7".parse().unwrap()).unwrap();
        assert!(local.is_local);
        assert_eq!(local.next_hop, None);
        assert!(!way(&own, "192.0.2.1".parse().unwrap()).unwrap().is_local);
    }
}
