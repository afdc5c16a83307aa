//! Is an address this network namespace's own? Asked of the routing table, which also knows addresses that no
//! interface lists (a `local` route, all of 127/8).

use std::{io, net::IpAddr};

use super::netlink::request;

const RTM_GETROUTE: u16 = 26;
const RTN_LOCAL: u8 = 2;
const RTA_DST: u16 = 1;

/// Would a packet to `address` stay on this host? In the network namespace of the calling thread.
///
/// # Errors
/// The netlink socket. No route at all is a plain `false`.
pub(super) fn is_local(address: IpAddr) -> io::Result<bool> {
    let (family, bytes) = match address {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    };
    // struct rtmsg: family, destination length in bits, then zeros; RTA_DST.
    let mut payload = vec![0; 12];
    payload[0] = family as u8;
    payload[1] = (bytes.len() * 8) as u8;
    payload.extend_from_slice(&(4 + bytes.len() as u16).to_ne_bytes());
    payload.extend_from_slice(&RTA_DST.to_ne_bytes());
    payload.extend_from_slice(&bytes);
    let mut kind = None;
    let answer = request(
        libc::NETLINK_ROUTE,
        RTM_GETROUTE,
        0,
        &payload,
        1,
        |_, message| {
            kind = message.get(7).copied();
        },
    );
    match answer {
        Ok(_) => Ok(kind == Some(RTN_LOCAL)),
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL)
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn all_of_the_loopback_net_is_local_and_a_documentation_address_is_not() {
        assert!(is_local("127.9.8.7".parse().unwrap()).unwrap());
        assert!(!is_local("192.0.2.1".parse().unwrap()).unwrap());
    }
}
