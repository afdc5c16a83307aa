//! TCP over IP as it stands in an skb without a socket, and whose flow it is.

use tracer_ebpf::abi::{Endpoint, Flow, FlowKey};

use crate::{
    maps::{FLOWS, OFFSETS, UPSTREAMS},
    read::{kernel, kernel_at},
    sock::mapped,
};

/// `TCPHDR_SYN`
pub const SYN: u8 = 0x02;
/// `TCPHDR_ACK`
pub const ACK: u8 = 0x10;

/// A TCP packet of a flow of nginx's to an upstream.
pub struct Packet {
    pub key: FlowKey,
    pub flags: u8,
    /// On its way to nginx.
    pub from_upstream: bool,
}

/// The packet in `skb`, if it is TCP and goes to or comes from an upstream that a worker tried.
#[inline(always)]
pub fn of_upstream(skb: u64) -> Option<Packet> {
    let head: u64 = kernel(skb, &OFFSETS.skb_head)?;
    let offset: u16 = kernel(skb, &OFFSETS.network_header)?;
    let ip = head.wrapping_add(u64::from(offset));
    let version: u8 = kernel_at(ip)?;
    let (source, destination, tcp) = match version >> 4 {
        4 => {
            let protocol: u8 = kernel_at(ip.wrapping_add(9))?;
            if protocol != 6 {
                return None;
            }
            let source: [u8; 4] = kernel_at(ip.wrapping_add(12))?;
            let destination: [u8; 4] = kernel_at(ip.wrapping_add(16))?;
            (
                mapped(source),
                mapped(destination),
                ip.wrapping_add(u64::from(version & 15) * 4),
            )
        }
        6 => {
            let next: u8 = kernel_at(ip.wrapping_add(6))?;
            if next != 6 {
                return None;
            }
            let source: [u8; 16] = kernel_at(ip.wrapping_add(8))?;
            let destination: [u8; 16] = kernel_at(ip.wrapping_add(24))?;
            (source, destination, ip.wrapping_add(40))
        }
        _ => return None,
    };
    let ports: [[u8; 2]; 2] = kernel_at(tcp)?;
    let flags: u8 = kernel_at(tcp.wrapping_add(13))?;
    let source = Endpoint {
        address: source,
        port: u16::from_be_bytes(ports[0]),
    };
    let destination = Endpoint {
        address: destination,
        port: u16::from_be_bytes(ports[1]),
    };
    if UPSTREAMS.get_ptr(&destination).is_some() {
        let key = FlowKey {
            local: source,
            remote: destination,
        };
        return Some(Packet {
            key,
            flags,
            from_upstream: false,
        });
    }
    if UPSTREAMS.get_ptr(&source).is_some() {
        let key = FlowKey {
            local: destination,
            remote: source,
        };
        return Some(Packet {
            key,
            flags,
            from_upstream: true,
        });
    }
    None
}

/// The flow's record, made if there is none yet.
#[inline(always)]
pub fn flow(key: &FlowKey) -> Option<&'static mut Flow> {
    if let Some(flow) = FLOWS.get_ptr_mut(key) {
        // SAFETY: the entry lives as long as the program runs.
        return Some(unsafe { &mut *flow });
    }
    let _ = FLOWS.insert(key, &Flow::default(), 0);
    // SAFETY: as above.
    FLOWS.get_ptr_mut(key).map(|flow| unsafe { &mut *flow })
}
