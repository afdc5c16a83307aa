//! TCP over IP in an skb without a socket, and whose flow it is.

use tracer_ebpf::abi::{Endpoint, Flow, FlowKey};

use crate::{
    constants::OFFSETS,
    maps,
    read::{kernel, kernel_at},
    sock::{self, mapped},
};

/// `IPPROTO_TCP`
const TCP: u8 = 6;
/// `TCPHDR_FIN`
pub const FIN: u8 = 0x01;
/// `TCPHDR_RST`
pub const RST: u8 = 0x04;
/// `TCPHDR_SYN`
pub const SYN: u8 = 0x02;
/// `TCPHDR_ACK`
pub const ACK: u8 = 0x10;

/// A TCP packet of a flow of nginx's to an upstream.
pub struct Packet {
    pub key: FlowKey,
    pub flags: u8,
    /// Its sequence number.
    pub sequence: u32,
    /// On its way to nginx.
    pub from_upstream: bool,
    /// Where it goes, if that is no address that a worker tried: then the flow is known by nginx's
    /// end alone.
    pub translated: Endpoint,
}

impl Packet {
    /// None yet.
    pub const NONE: Self = Self {
        key: FlowKey {
            local: Endpoint::NONE,
            remote: Endpoint::NONE,
            netns: 0,
        },
        flags: 0,
        sequence: 0,
        from_upstream: false,
        translated: Endpoint::NONE,
    };

    /// What happened to its flow; a record is made if there is none yet.
    #[inline(always)]
    pub fn flow(&self) -> Option<&'static mut Flow> {
        let flow = maps::flow(&self.key)?;
        if self.translated.port != 0 {
            flow.translated = self.translated;
        }
        Some(flow)
    }
}

/// Reads the packet in `skb`; `false` unless it is TCP and goes to or comes from an upstream that a
/// worker tried. In place: an option is copied on the stack.
#[inline(always)]
pub fn of_upstream(skb: u64, packet: &mut Packet) -> bool {
    if parse(skb, packet).is_none() {
        return false;
    }
    packet.key.netns = maps::home(&packet.key, netns(skb, packet.from_upstream));
    true
}

/// The same of a packet that this socket has taken, which no longer leads to a device.
#[inline(always)]
pub fn taken_by(sk: u64, skb: u64, packet: &mut Packet) -> bool {
    if parse(skb, packet).is_none() {
        return false;
    }
    packet.key.netns = maps::home(&packet.key, sock::netns(sk));
    true
}

/// In which namespace the packet is, 0 unknown. A socket's packet keeps it on its way out, beyond
/// the namespace, which is just right for nginx's. What answers without a socket is sent by one
/// that serves all namespaces in turn.
#[inline(always)]
fn netns(skb: u64, from_upstream: bool) -> u32 {
    let socket = sock::netns(kernel(skb, &OFFSETS.skb_sk).unwrap_or(0));
    let device = of_device(kernel(skb, &OFFSETS.skb_dev).unwrap_or(0));
    match (from_upstream, socket, device) {
        (_, 0, 0) => {
            // Not sent to a device yet, or taken by TCP: there is its route.
            let route = kernel::<u64>(skb, &OFFSETS.skb_dst).unwrap_or(0) & !1;
            of_device(kernel(route, &OFFSETS.dst_dev).unwrap_or(0))
        }
        (false, 0, _) => device,
        (false, ..) => socket,
        (true, _, 0) => socket,
        (true, ..) => device,
    }
}

#[inline(always)]
fn of_device(device: u64) -> u32 {
    sock::netns_at(device, &OFFSETS.device_net)
}

#[inline(always)]
fn parse(skb: u64, packet: &mut Packet) -> Option<()> {
    let head: u64 = kernel(skb, &OFFSETS.skb_head)?;
    let offset: u16 = kernel(skb, &OFFSETS.network_header)?;
    let ip = head.wrapping_add(u64::from(offset));
    // Behind its bytes an skb's memory goes on for longer than these headers.
    let header: [u8; 40] = kernel_at(ip)?;
    let FlowKey { local, remote, .. } = &mut packet.key;
    let (protocol, length) = match header[0] >> 4 {
        4 => {
            local.address = mapped(*header[12..].first_chunk()?);
            remote.address = mapped(*header[16..].first_chunk()?);
            (header[9], u64::from(header[0] & 15) * 4)
        }
        6 => {
            local.address = *header[8..].first_chunk()?;
            remote.address = *header[24..].first_chunk()?;
            (header[6], 40)
        }
        _ => return None,
    };
    if protocol != TCP {
        return None;
    }
    let tcp: [u8; 14] = kernel_at(ip.wrapping_add(length))?;
    local.port = u16::from_be_bytes([tcp[0], tcp[1]]);
    remote.port = u16::from_be_bytes([tcp[2], tcp[3]]);
    packet.sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
    packet.flags = tcp[13];
    if maps::is_upstream(remote) {
        return Some(());
    }
    if maps::is_upstream(local) {
        core::mem::swap(local, remote);
        packet.from_upstream = true;
        return Some(());
    }
    // Opening a connection from a worker's address to where a translation of an upstream's (DNAT)
    // may have led it.
    let opening = matches!(packet.flags & (SYN | FIN | RST | ACK), SYN | ACK);
    if opening && maps::is_source(&local.address) {
        packet.translated = *remote;
        *remote = Endpoint::NONE;
        return Some(());
    }
    None
}
