//! The upstream's end: who closed it, and how that process ended.

use bytes::Buf;
use tracer_ebpf::abi::{COMM_LEN, COMPONENT_LEN, COMPONENTS};

use super::{
    Head,
    field::{endpoint, some, until_nul},
    names::KernelNames,
};
use crate::event::{Death, MemoryLimit, PeerClosed, Signal};

pub(super) fn peer_closed(header: &Head, mut buf: &[u8], names: &KernelNames) -> PeerClosed {
    let local = endpoint(&mut buf);
    let remote = endpoint(&mut buf);
    let rst_reason = buf.get_u32_ne();
    let flags = buf.get_u32_ne();
    let reset = flags & 1 != 0;
    let netns = buf.get_u32_ne();
    let unread = buf.get_u32_ne();
    buf.advance(4);
    let end = end(header, buf, names);
    PeerClosed {
        at: header.at,
        local,
        remote,
        netns,
        translated: flags & 2 != 0,
        unread: unread.into(),
        pid: header.pid,
        name: end.0.name.clone(),
        parent: end.0.parent,
        reset: reset.then(|| {
            names
                .reset(rst_reason)
                .unwrap_or_else(|| PeerClosed::NO_REASON.to_owned())
        }),
        signal: end.0.signal.clone().filter(|_| !end.1),
        death: end.1.then_some(end.0),
    }
}

/// A signal, and what its sender had received before.
pub(super) fn signal(buf: &mut &[u8]) -> Option<Signal> {
    let (signal, before) = (sent(buf), sent(buf));
    signal.map(|signal| Signal {
        before: before.map(Box::new),
        ..signal
    })
}

fn sent(buf: &mut &[u8]) -> Option<Signal> {
    let at = some(buf.get_u64_ne());
    let code = buf.get_i32_ne();
    let sender = buf.get_u32_ne();
    let number = u8::try_from(buf.get_u32_ne()).unwrap_or(0);
    buf.advance(4);
    let sender_name = until_nul(&buf[..COMM_LEN]);
    buf.advance(COMM_LEN);
    at.map(|at| Signal {
        number,
        code,
        sender,
        sender_name,
        at,
        before: None,
    })
}

/// How a process ended, and whether it was ending at all.
pub(super) fn end(header: &Head, mut buf: &[u8], names: &KernelNames) -> (Death, bool) {
    let code = buf.get_u32_ne();
    let parent = buf.get_u32_ne();
    let oom = buf.get_u32_ne() != 0;
    let dying = buf.get_u32_ne() != 0;
    let name = until_nul(&buf[..COMM_LEN]);
    buf.advance(COMM_LEN);
    let signal = signal(&mut buf);
    let pages = buf.get_u64_ne();
    let used = buf.get_u64_ne();
    let limited = until_nul(&buf[..COMPONENT_LEN]);
    buf.advance(COMPONENT_LEN);
    let mut components: Vec<String> = buf[..COMPONENTS * COMPONENT_LEN]
        .chunks(COMPONENT_LEN)
        .map(until_nul)
        .filter(|component| !component.is_empty())
        .collect();
    components.reverse();
    let death = Death {
        at: header.at,
        pid: header.pid,
        parent,
        name,
        unit: None,
        cgroup: format!("/{}", components.join("/")),
        code,
        signal,
        oom,
        limit: (pages != 0).then(|| MemoryLimit {
            cgroup: limited,
            bytes: pages.saturating_mul(names.page_size),
            used: used.saturating_mul(names.page_size),
        }),
    };
    (death, dying)
}
