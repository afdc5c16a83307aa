//! Where an `ngx_peer_connection_t` leads, and where from.

use aya_ebpf::helpers::bpf_probe_read_user_buf;
use tracer_ebpf::abi::{SOCKADDR_LEN, Worker};

use super::{
    layout::{self, PC_NAME, PC_SOCKADDR, PC_SOCKLEN},
    members,
};
use crate::read;

/// Copies `*pc->name`, which is the upstream block's where the balancer had no peer; returns its
/// length.
#[inline(always)]
pub fn name(peer: u64, into: &mut [u8; SOCKADDR_LEN]) -> Option<u32> {
    let name = read::user::<u64>(peer.wrapping_add(PC_NAME))?;
    let [len, text] = read::user::<[u64; 2]>(name)?;
    copy(text, into)?;
    Some(len as u32)
}

/// Copies `pc->sockaddr`, gives its length.
#[inline(always)]
pub fn of_peer(peer: u64, into: &mut [u8; SOCKADDR_LEN]) -> Option<u32> {
    const _: () = assert!(PC_SOCKLEN - PC_SOCKADDR == 8);
    let [address, len] = read::user::<[u64; 2]>(peer.wrapping_add(PC_SOCKADDR))?;
    copy(address, into)?;
    Some(len as u32)
}

/// Copies a sockaddr of nginx's.
#[inline(always)]
pub fn copy(address: u64, into: &mut [u8; SOCKADDR_LEN]) -> Option<()> {
    // A sockaddr has room for its family only: a full sockaddr_un may cross into the next object,
    // which the length then hides. SAFETY: the helper checks the address itself.
    unsafe { bpf_probe_read_user_buf(address as *const u8, into) }.ok()
}

/// `pc->local->sockaddr`, if it looks like one.
#[inline(always)]
pub fn source(worker: &Worker, peer: u64) -> Option<[u8; 32]> {
    let members = members::known(worker);
    if members.peer_log == 0 {
        return None;
    }
    let local: u64 = read::user(peer.wrapping_add(layout::local(members)))?;
    let [address, len] = read::user::<[u64; 2]>(local)?;
    let len = len as u32;
    if len != 16 && len != 28 {
        return None;
    }
    read::user(address)
}
