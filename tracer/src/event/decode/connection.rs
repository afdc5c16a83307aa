//! A connection that has ended, and where a unix one led.

use bytes::Buf;
use tracer_ebpf::abi::{
    ACCEPTED, COMM_LEN, DROP_SLOTS, FLAG_BROKE_OFF, FLAG_MEASURED, FLAG_OPEN, FLAG_RST_IN_SYN_SENT,
    FLAG_TLS_DATA, FLAG_UNIX, FLAG_WHOLE, NO_LENGTH, QUEUED, SOCKADDR_LEN,
};

use super::{
    Head,
    field::{endpoint, request, routes, sockaddr, some, until_nul},
    names::KernelNames,
};
use crate::event::{Body, Connection, Drop, Holder, RstSent, Time, Upstream};

pub(super) fn connection(header: &Head, mut buf: &[u8], names: &KernelNames) -> Connection {
    let socket = buf.get_u64_ne();
    buf.advance(size_of::<u64>()); // the peer object
    let start = Time(buf.get_u64_ne());
    let established = some(buf.get_u64_ne());
    let first_byte = some(buf.get_u64_ne());
    let fin_received = some(buf.get_u64_ne());
    let rst_received = some(buf.get_u64_ne());
    let error_at = Time(buf.get_u64_ne());
    let last_retransmit = some(buf.get_u64_ne());
    let reused_at = some(buf.get_u64_ne());
    let bytes_received = buf.get_u64_ne();
    let bytes_sent = buf.get_u64_ne();
    let request = request(buf.get_u64_ne());
    buf.advance(2 * size_of::<u64>()); // nginx's connection and its turn are the kernel side's own
    let error = buf.get_u32_ne();
    let netns = buf.get_u32_ne();
    let last_sent = some(buf.get_u64_ne());
    let last_received = some(buf.get_u64_ne());
    let end_read = some(buf.get_u64_ne());
    let transfer_error_at = Time(buf.get_u64_ne());
    let idle = buf.get_u64_ne();
    let transfer_error = buf.get_u32_ne();
    let listener_pid = buf.get_u32_ne();
    let first_sent = buf.get_u8();
    let first_received = buf.get_u8();
    let pending = buf.get_u16_ne();
    let alert = buf.get_u16_ne();
    let asked = buf.get_u16_ne();
    let announced = buf.get_u64_ne();
    // Where a unix connection leads is the kernel side's own.
    buf.advance(3 * size_of::<u64>());
    let response = buf.get_u32_ne();
    let read = buf.get_u32_ne();
    let reuses = buf.get_u32_ne();
    let flags = buf.get_u16_ne();
    let syn_retransmits = u32::from(buf.get_u16_ne());
    let routes = routes(&mut buf);
    let status = buf.get_u16_ne();
    let state = buf.get_u8();
    buf.advance(1);
    let local = endpoint(&mut buf);
    let remote = endpoint(&mut buf);
    let rst_at = some(buf.get_u64_ne());
    let icmp_at = some(buf.get_u64_ne());
    let rst_reason = buf.get_u32_ne();
    let icmp_kind = buf.get_u8();
    let icmp_code = buf.get_u8();
    let translated = endpoint(&mut buf);
    let drops: Vec<Drop> = (0..DROP_SLOTS)
        .filter_map(|_| drop_slot(&mut buf, names))
        .collect();
    let (queue, queue_limit) = (buf.get_u32_ne(), buf.get_u32_ne());
    let translated = (translated.port() != 0).then_some(translated);
    // Known by nginx's end alone it may be of an earlier connection from there.
    let is_stale = translated.is_some()
        && [rst_at, icmp_at, drops.first().map(|drop| drop.at)]
            .into_iter()
            .flatten()
            .all(|at| at < start);
    let (rst_at, icmp_at, drops, queue, translated) = match is_stale {
        true => (None, None, Vec::new(), 0, None),
        false => (rst_at, icmp_at, drops, queue, translated),
    };
    let unix = unix_end(header, buf);
    Connection {
        socket,
        worker: header.pid,
        request,
        start,
        closed: header.at,
        local: (local.port() != 0).then_some(local),
        remote: if flags & FLAG_UNIX == 0 {
            Upstream::Inet(remote)
        } else {
            unix.remote
        },
        accepted: unix.accepted,
        holder: unix.holder,
        netns,
        established,
        first_byte,
        status: (status != 0).then_some(status),
        fin_received,
        rst_received,
        rst_in_syn_sent: flags & FLAG_RST_IN_SYN_SENT != 0,
        error: (error != 0).then_some((error, error_at)),
        state,
        syn_retransmits,
        last_retransmit,
        bytes_received,
        bytes_sent,
        // Without the hook that sees reads, or of a connection from before tracing, that is not
        // known.
        unread: if start.0 != 0 && read != 0 && read != u32::MAX {
            bytes_received.saturating_sub(read.into())
        } else {
            0
        },
        asked: if reuses != 0 && first_byte.is_none() && asked != u16::MAX {
            asked.into()
        } else {
            0
        },
        last_sent,
        last_received,
        end_read,
        transfer_error: (transfer_error != 0).then_some((transfer_error, transfer_error_at)),
        first_sent: (first_sent != 0).then_some(first_sent),
        first_received: (first_received != 0).then_some(first_received),
        tls_alert: (alert != 0).then_some((alert & 0xff) as u8),
        tls_data: flags & FLAG_TLS_DATA != 0,
        broke_off: flags & FLAG_BROKE_OFF != 0,
        whole: flags & FLAG_WHOLE != 0,
        body: (flags & FLAG_MEASURED != 0 && response != u32::MAX).then(|| Body {
            read: u64::from(response).saturating_sub(pending.into()),
            length: (announced != NO_LENGTH).then_some(announced),
        }),
        listener_pid: (listener_pid != 0).then_some(listener_pid),
        open: flags & FLAG_OPEN != 0,
        reuses,
        idle: (reuses != 0 && idle != 0).then_some(idle),
        reused_at,
        rst_sent: rst_at.map(|at| RstSent {
            at,
            reason: names.reset(rst_reason),
        }),
        drops,
        icmp_sent: icmp_at.map(|at| (icmp_kind, icmp_code, at)),
        full_queue: (queue != 0).then_some((queue, queue_limit)),
        translated,
        routes,
    }
}

fn drop_slot(buf: &mut &[u8], names: &KernelNames) -> Option<Drop> {
    let at = some(buf.get_u64_ne());
    let reason = buf.get_u32_ne();
    let count = u32::from(buf.get_u16_ne());
    let tcp_flags = buf.get_u8();
    let from_upstream = buf.get_u8() != 0;
    at.map(|at| Drop {
        at,
        reason: names.drop(reason),
        tcp_flags,
        from_upstream,
        count,
    })
}

/// Where a unix connection leads: what follows its record.
fn unix_end(header: &Head, mut buf: &[u8]) -> UnixEnd {
    let mut end = UnixEnd {
        remote: Upstream::Unix(String::new()),
        accepted: None,
        holder: None,
    };
    let whole = size_of::<tracer_ebpf::abi::UnixConnection>();
    if usize::from(header.len) < whole || buf.len() < SOCKADDR_LEN + COMM_LEN + 16 + 80 {
        return end;
    }
    let len = buf.get_u32_ne() as usize;
    end.accepted = match buf.get_u32_ne() {
        QUEUED => Some(false),
        ACCEPTED => Some(true),
        _ => None,
    };
    let pid = buf.get_u32_ne();
    let name = until_nul(&buf[..COMM_LEN]);
    buf.advance(COMM_LEN + 4);
    let signal = super::death::signal(&mut buf);
    end.holder = (pid != 0).then_some(Holder { pid, name, signal });
    if let Some(remote) = sockaddr(&buf[..SOCKADDR_LEN.min(len)]) {
        end.remote = remote;
    }
    end
}

/// What a unix connection's record has in addition.
struct UnixEnd {
    remote: Upstream,
    accepted: Option<bool>,
    holder: Option<Holder>,
}
