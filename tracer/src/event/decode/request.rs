//! What nginx does about a request, and what its client asks and gets.

use std::net::SocketAddr;

use bytes::Buf;
use tracer_ebpf::abi::{
    FORMAT_LEN, HEAD_LEN, HOST_LEN, LOG_CALL_NUMBER, LOG_CALL_STREAM, TAIL_LEN, TEXT_LEN, WATCHED,
};

use super::{
    Head,
    field::{endpoint, lossy, request, until_nul},
    head::Pieces,
};
use crate::event::{Answer, ClientRequest, Format, LogCall, Reply, RequestHead, Unread};

pub(super) fn answer(header: &Head, mut buf: &[u8]) -> Answer {
    let request = request(buf.get_u64_ne());
    let status = buf.get_u16_ne();
    let reply = buf.get_u16_ne();
    let is_returned = buf.get_u16_ne() != 0;
    buf.advance(2);
    let client = client(buf);
    Answer {
        at: header.at,
        worker: header.pid,
        status,
        request,
        client: client.address,
        connection: client.connection,
        head: client.head,
        client_status: (reply > WATCHED).then_some(reply),
        watched: client.request.filter(|_| reply == WATCHED),
        is_returned,
    }
}

pub(super) fn reply(header: &Head, mut buf: &[u8]) -> Reply {
    let address = buf.get_u64_ne();
    let connection = buf.get_u64_ne();
    let request = request(buf.get_u64_ne());
    let status = buf.get_u16_ne();
    let is_earlier = buf.get_u16_ne() != 0;
    Reply {
        at: header.at,
        worker: header.pid,
        client_request: ClientRequest {
            address,
            connection,
        },
        request,
        status: (status != 0).then_some(status),
        is_earlier,
    }
}

/// An `abi::Client`: whose request it is and what it asks.
pub(super) struct Client {
    pub(super) request: Option<ClientRequest>,
    /// nginx's number of its connection.
    pub(super) connection: Option<u64>,
    pub(super) address: Option<SocketAddr>,
    pub(super) head: Option<RequestHead>,
}

pub(super) fn client(mut buf: &[u8]) -> Client {
    let request = buf.get_u64_ne();
    let connection = buf.get_u64_ne();
    let address = endpoint(&mut buf);
    buf.advance(2);
    let parsed = buf.get_u32_ne() as usize;
    let line_end = buf.get_u32_ne() as usize;
    let host_len = buf.get_u32_ne() as usize;
    let (head, buf) = buf.split_at(HEAD_LEN);
    let (tail, buf) = buf.split_at(TAIL_LEN);
    let pieces = Pieces {
        head,
        parsed,
        line_end,
        tail,
        host: (&buf[..HOST_LEN], host_len),
    };
    Client {
        request: (request != 0).then_some(ClientRequest {
            address: request,
            connection,
        }),
        connection: (connection != 0).then_some(connection),
        address: (address.port() != 0).then_some(address),
        head: pieces.request(),
    }
}

pub(super) fn log_call(header: &Head, mut buf: &[u8]) -> LogCall {
    let request = request(buf.get_u64_ne());
    let connection = buf.get_u64_ne();
    let errno = buf.get_u32_ne();
    let level = buf.get_u32_ne();
    let format = until_nul(&buf[..FORMAT_LEN]);
    buf.advance(FORMAT_LEN);
    let format_at = buf.get_u64_ne();
    let text_len = buf.get_u32_ne() as usize;
    let state = buf.get_u32_ne();
    let text = (text_len != 0).then(|| lossy(&buf[..TEXT_LEN.min(text_len)]));
    let string = (text_len == 0 && buf[0] != 0).then(|| until_nul(&buf[..TEXT_LEN]));
    let mut call = LogCall {
        at: header.at,
        worker: header.pid,
        level: (level & 0xff) as u8,
        errno,
        connection,
        request,
        stream: level & LOG_CALL_STREAM != 0,
        format: Format::default(),
        text: None,
        number: None,
        resolved: None,
        unread: None,
    };
    let unread = Unread {
        address: format_at,
        text,
        string,
        state,
        is_number: level & LOG_CALL_NUMBER != 0,
    };
    if format.is_empty() {
        call.unread = Some(unread);
    } else {
        call.read(format, unread);
    }
    call
}
