//! A link whose far end is this program: what it answers arrives late, as from a real wire.
//!
//! On loopback and veth a refusal is delivered inside connect(); here it comes after connect() has
//! returned. Every host of the far network does to a SYN what its [`Host`] says.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::netns::Netns;

/// The router that sends the ICMP errors of [`Host::Unreachable`].
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);
/// How late every answer is.
pub const DELAY: Duration = Duration::from_millis(5);

/// What a far host does to a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// Answers with a RST.
    Refusing,
    /// The router answers with ICMP destination unreachable and this code.
    Unreachable(u8),
    /// The host itself answers with ICMP destination unreachable and this code.
    Rejecting(u8),
    /// Nobody answers.
    Silent,
    /// Takes the connection, and is never heard of again.
    Lost,
}

/// The link; its thread ends with it.
#[derive(Debug)]
pub struct Tun {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Tun {
    /// Makes the link in `netns`, 10.77.0.1/24 at our end; `hosts[i]` is at [`address`]`(i)`.
    pub fn new(netns: &Netns, hosts: &[Host]) -> Result<Self> {
        let device = netns.enter(|| open("tun"))?;
        netns.ip("addr add 10.77.0.1/24 dev tun")?;
        netns.ip("link set tun up")?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            let hosts = hosts.to_vec();
            move || serve(device, &hosts, &stop)
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Tun {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The address of the host at `index` of the list given to [`Tun::new`].
pub fn address(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, index + 2)
}

/// Makes a device of this name in the caller's namespace.
pub(crate) fn open(name: &str) -> Result<File> {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .context("cannot open /dev/net/tun")?;
    // struct ifreq: the name, then the flags.
    let mut request = [0u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as u16;
    request[16..18].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: TUNSETIFF reads and writes one struct ifreq, which is 40 bytes.
    if unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, request.as_mut_ptr()) } != 0 {
        return Err(std::io::Error::last_os_error()).context("cannot make a TUN link");
    }
    Ok(device)
}

/// The longest wait for a packet: then it is seen whether to stop.
const LONGEST: Duration = Duration::from_millis(20);

/// Waits until one of these devices has a packet, at most this long.
pub(crate) fn await_packet(devices: &[&File], limit: Duration) {
    let mut polled: Vec<PollFd<'_>> = devices
        .iter()
        .map(|device| PollFd::new(*device, PollFlags::IN))
        .collect();
    let limit = Timespec::try_from(limit).unwrap_or_default();
    let _ = poll(&mut polled, Some(&limit));
}

fn serve(mut device: File, hosts: &[Host], stop: &AtomicBool) {
    let mut late: std::collections::VecDeque<(Instant, Vec<u8>)> = Default::default();
    let mut packet = [0u8; 2048];
    while !stop.load(Ordering::Relaxed) {
        while late.front().is_some_and(|(due, _)| *due <= Instant::now()) {
            if let Some((_, answer)) = late.pop_front() {
                // A full or vanished link loses packets, as wires do.
                drop(device.write(&answer));
            }
        }
        let pause = late.front().map_or(LONGEST, |(due, _)| {
            let left = due.saturating_duration_since(Instant::now());
            (left + Duration::from_millis(1)).min(LONGEST)
        });
        await_packet(&[&device], pause);
        while let Ok(length) = device.read(&mut packet) {
            if let Some(answer) = answer(&packet[..length], hosts) {
                late.push_back((Instant::now() + DELAY, answer));
            }
        }
    }
}

/// The packet that answers `packet`, if it is a SYN to one of `hosts` that answers at all.
fn answer(packet: &[u8], hosts: &[Host]) -> Option<Vec<u8>> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let tcp = packet.get(header..header + 20)?;
    if packet[0] >> 4 != 4 || packet[9] != 6 || tcp[13] & 0x12 != 0x02 {
        return None;
    }
    let source = Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15]);
    let target = Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19]);
    let index = usize::from(packet[19]).checked_sub(2)?;
    match *hosts.get(index)? {
        Host::Refusing => Some(segment(tcp, target, source, RST)),
        Host::Lost => Some(segment(tcp, target, source, SYN)),
        Host::Unreachable(code) => Some(unreachable(code, packet, header, ROUTER, source)),
        Host::Rejecting(code) => Some(unreachable(code, packet, header, target, source)),
        Host::Silent => None,
    }
}

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// A segment with this flag that acknowledges the SYN.
fn segment(syn: &[u8], from: Ipv4Addr, to: Ipv4Addr, flag: u8) -> Vec<u8> {
    let sequence = u32::from_be_bytes([syn[4], syn[5], syn[6], syn[7]]);
    let mut tcp = vec![0u8; 20];
    tcp[0..2].copy_from_slice(&syn[2..4]);
    tcp[2..4].copy_from_slice(&syn[0..2]);
    tcp[8..12].copy_from_slice(&sequence.wrapping_add(1).to_be_bytes());
    tcp[12] = 5 << 4;
    tcp[13] = flag | ACK;
    // A window.
    tcp[14] = 0x40;
    let mut pseudo = [from.octets(), to.octets()].concat();
    pseudo.extend([0, 6, 0, 20]);
    pseudo.extend(&tcp);
    let sum = checksum(&pseudo);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    ip(6, from, to, &tcp)
}

/// ICMP destination unreachable, quoting the packet's header and eight bytes.
fn unreachable(code: u8, packet: &[u8], header: usize, from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let mut icmp = vec![3, code, 0, 0, 0, 0, 0, 0];
    icmp.extend(&packet[..header + 8]);
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    ip(1, from, to, &icmp)
}

fn ip(protocol: u8, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet.extend(from.octets());
    packet.extend(to.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
