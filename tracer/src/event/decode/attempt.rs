//! Attempts: failed at once, still knocking, first answered.

use bytes::Buf;
use tracer_ebpf::abi::SOCKADDR_LEN;

use super::{
    Head,
    field::{endpoint, lossy, routes, sockaddr},
    request::client,
};
use crate::event::{Failure, FirstByte, RequestId, Retransmit, Time, Upstream};

pub(super) fn failure(header: &Head, mut buf: &[u8]) -> Failure {
    let start = Time(buf.get_u64_ne());
    let request = RequestId(buf.get_u64_ne());
    let code = buf.get_i32_ne();
    let errno = buf.get_u32_ne();
    let routes = routes(&mut buf);
    let syn_sent = buf.get_u8() != 0;
    let has_address = buf.get_u8() != 0;
    buf.advance(2);
    let address_len = buf.get_u32_ne() as usize;
    let address = &buf[..SOCKADDR_LEN.min(address_len)];
    let source = &buf[SOCKADDR_LEN..SOCKADDR_LEN + 32];
    Failure {
        start,
        at: header.at,
        worker: header.pid,
        request,
        // Where nginx chose no peer, the address is that of an earlier attempt.
        upstream: if has_address && code != Failure::NO_PEER {
            sockaddr(address)
        } else {
            None
        },
        source: match sockaddr(source) {
            Some(Upstream::Inet(address)) => Some(address),
            _ => None,
        },
        block: (code == Failure::NO_PEER && !has_address && address_len > 0)
            .then(|| lossy(address)),
        code,
        errno,
        syn_sent,
        routes,
    }
}

pub(super) fn retransmit(header: &Head, mut buf: &[u8]) -> Retransmit {
    let socket = buf.get_u64_ne();
    let remote = endpoint(&mut buf);
    let count = u32::from(buf.get_u16_ne());
    Retransmit {
        at: header.at,
        worker: header.pid,
        socket,
        remote,
        count,
    }
}

pub(super) fn first_byte(header: &Head, mut buf: &[u8]) -> FirstByte {
    let socket = buf.get_u64_ne();
    let request = RequestId(buf.get_u64_ne());
    let start = Time(buf.get_u64_ne());
    let status = buf.get_u16_ne();
    buf.advance(2);
    let address_len = buf.get_u32_ne() as usize;
    let remote = sockaddr(&buf[..SOCKADDR_LEN.min(address_len)]);
    buf.advance(SOCKADDR_LEN);
    let local = endpoint(&mut buf);
    buf.advance(6);
    let client = client(buf);
    let status = (status != 0).then_some(status);
    FirstByte {
        at: header.at,
        worker: header.pid,
        socket,
        request,
        remote,
        local: (local.port() != 0).then_some(local),
        status,
        start,
        connection: client.connection,
        client: client.address,
        server_port: client.server_port,
        head: client.head,
        names: client.names,
        client_request: client.request,
    }
}
