//! What several records have: ends, names, times.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use bytes::Buf;

use crate::event::{RequestId, RouteLookup, Time, Upstream};

const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

pub(super) fn request(id: u64) -> Option<RequestId> {
    (id != 0).then_some(RequestId(id))
}

pub(super) fn some(time: u64) -> Option<Time> {
    (time != 0).then_some(Time(time))
}

pub(super) fn routes(buf: &mut &[u8]) -> RouteLookup {
    let lookups = u32::from(buf.get_u16_ne());
    let kind = buf.get_u8();
    let security = u32::from(buf.get_u8());
    RouteLookup {
        lookups,
        error: buf.get_i32_ne(),
        kind,
        security: (security != 0).then_some(security),
        unseen: false,
    }
}

/// Address in network order, port in host order; IPv4-mapped addresses become IPv4.
pub(super) fn endpoint(buf: &mut &[u8]) -> SocketAddr {
    let mut address = [0; 16];
    buf.copy_to_slice(&mut address);
    let port = buf.get_u16_ne();
    SocketAddr::new(canonical(Ipv6Addr::from(address)), port)
}

fn canonical(address: Ipv6Addr) -> IpAddr {
    address
        .to_ipv4_mapped()
        .map_or(IpAddr::V6(address), IpAddr::V4)
}

/// A `struct sockaddr` as nginx holds it.
pub(super) fn sockaddr(mut bytes: &[u8]) -> Option<Upstream> {
    if bytes.len() < 2 {
        return None;
    }
    match bytes.get_u16_ne() {
        AF_INET if bytes.len() >= 6 => {
            let port = bytes.get_u16();
            let address: [u8; 4] = bytes[..4].try_into().ok()?;
            Some(Upstream::Inet(SocketAddr::new(IpAddr::from(address), port)))
        }
        AF_INET6 if bytes.len() >= 26 => {
            let port = bytes.get_u16();
            let flow = bytes.get_u32();
            let address: [u8; 16] = bytes[..16].try_into().ok()?;
            bytes.advance(16);
            let scope = bytes.get_u32_ne();
            Some(Upstream::Inet(SocketAddr::V6(SocketAddrV6::new(
                Ipv6Addr::from(address),
                port,
                flow,
                scope,
            ))))
        }
        AF_UNIX => {
            // An abstract name begins with a NUL.
            let name = bytes.strip_prefix(&[0]);
            let path = name.unwrap_or(bytes);
            let path = path.split(|&byte| byte == 0).next().unwrap_or_default();
            let path = String::from_utf8_lossy(path);
            Some(Upstream::Unix(if name.is_some() {
                format!("@{path}")
            } else {
                path.into_owned()
            }))
        }
        _ => None,
    }
}

pub(super) fn until_nul(bytes: &[u8]) -> String {
    lossy(bytes.split(|&byte| byte == 0).next().unwrap_or_default())
}

pub(in crate::event) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
