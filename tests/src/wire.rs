//! A cable between two namespaces that this program carries packet by packet, and can hold up: what
//! passes on a real network between a SYN and the ACK after it happens here when a test says so.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;

use crate::netns::Netns;
use crate::tun;
use crate::wait::{PATIENCE, until};

/// The near end's address.
pub const NEAR: &str = "10.78.0.1";
/// The far end's address.
pub const FAR: &str = "10.78.0.2";

#[derive(Debug, Default)]
struct Gate {
    stop: AtomicBool,
    closed: AtomicBool,
    held: AtomicUsize,
}

/// The cable; its thread ends with it.
#[derive(Debug)]
pub struct Wire {
    gate: Arc<Gate>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Connects the two namespaces, each end with its address in 10.78.0.0/24.
    pub fn new(near: &Netns, far: &Netns) -> Result<Self> {
        let mut ends = Vec::new();
        for (netns, address) in [(near, NEAR), (far, FAR)] {
            ends.push(netns.enter(|| tun::open("wire"))?);
            netns.ip(&format!("addr add {address}/24 dev wire"))?;
            netns.ip("link set wire up")?;
        }
        let gate = Arc::<Gate>::default();
        let thread = std::thread::spawn({
            let gate = Arc::clone(&gate);
            move || carry(&mut ends, &gate)
        });
        Ok(Self {
            gate,
            thread: Some(thread),
        })
    }

    /// From now on TCP packets from the near end that are no SYN wait.
    pub fn hold(&self) {
        self.gate.closed.store(true, Ordering::Relaxed);
    }

    /// Waits until packets of at least so many connections wait.
    pub fn holds(&self, count: usize) -> Result<()> {
        until("connections on the wire", PATIENCE, || {
            Ok((self.gate.held.load(Ordering::Relaxed) >= count).then_some(()))
        })
    }

    /// Lets the packets go that wait, and those to come.
    pub fn release(&self) {
        self.gate.closed.store(false, Ordering::Relaxed);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.gate.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn carry(ends: &mut [File], gate: &Gate) {
    let [near, far] = ends else { return };
    let mut waiting: VecDeque<Vec<u8>> = VecDeque::new();
    let mut packet = [0u8; 65536];
    while !gate.stop.load(Ordering::Relaxed) {
        let closed = gate.closed.load(Ordering::Relaxed);
        if !closed {
            for packet in waiting.drain(..) {
                // A full or vanished end loses packets, as wires do.
                drop(far.write(&packet));
            }
        }
        let ports: BTreeSet<_> = waiting.iter().filter_map(|packet| source(packet)).collect();
        gate.held.store(ports.len(), Ordering::Relaxed);
        tun::await_packet(&[&*near, &*far], Duration::from_millis(2));
        while let Ok(length) = near.read(&mut packet) {
            let packet = &packet[..length];
            if closed && is_past_syn(packet) {
                waiting.push_back(packet.to_vec());
            } else {
                drop(far.write(packet));
            }
        }
        while let Ok(length) = far.read(&mut packet) {
            drop(near.write(&packet[..length]));
        }
    }
}

/// The source port of TCP over IPv4.
fn source(packet: &[u8]) -> Option<[u8; 2]> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    packet.get(header..header + 2)?.try_into().ok()
}

/// Whether it is TCP over IPv4 without the SYN flag.
fn is_past_syn(packet: &[u8]) -> bool {
    let header = packet
        .first()
        .map_or(0, |first| usize::from(first & 0x0f) * 4);
    packet.get(9) == Some(&6)
        && packet
            .get(header + 13)
            .is_some_and(|flags| flags & 0x02 == 0)
}
