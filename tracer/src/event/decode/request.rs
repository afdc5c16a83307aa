//! What nginx does about a request, and what its client asks and gets.

use std::net::SocketAddr;

use bytes::Buf;
use tracer_ebpf::abi::{
    FORMAT_LEN, HEAD_LEN, HOST_LEN, LOG_CALL_NUMBER, LOG_CALL_STREAM, NAME_COMPUTED, NAME_LEN,
    TAIL_LEN, TEXT_LEN, WATCHED,
};

use super::{
    Head,
    field::{endpoint, lossy, request, until_nul},
    head::Pieces,
};
use crate::event::{
    Answer, ClientRequest, Format, LogCall, Reply, RequestHead, RequestNames, Unread,
};

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
        server_port: client.server_port,
        connection: client.connection,
        head: client.head,
        names: client.names,
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
    pub(super) server_port: Option<u16>,
    pub(super) head: Option<RequestHead>,
    pub(super) names: Option<Box<RequestNames>>,
}

pub(super) fn client(mut buf: &[u8]) -> Client {
    let request = buf.get_u64_ne();
    let connection = buf.get_u64_ne();
    let address = endpoint(&mut buf);
    let server_port = buf.get_u16_ne();
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
    let mut buf = &buf[HOST_LEN..];
    let names = RequestNames {
        server: name(&mut buf),
        block: name(&mut buf),
        id: name(&mut buf),
        traceparent: name(&mut buf).filter(|text| is_traceparent(text)),
    };
    Client {
        request: (request != 0).then_some(ClientRequest {
            address: request,
            connection,
        }),
        connection: (connection != 0).then_some(connection),
        address: (address.port() != 0).then_some(address),
        server_port: (server_port != 0).then_some(server_port),
        head: pieces.request(),
        names: (names != RequestNames::default()).then(|| Box::new(names)),
    }
}

/// A whole name in printable ASCII, with what is no ASCII in UTF-8; else it is none.
fn name(buf: &mut &[u8]) -> Option<String> {
    let len = buf.get_u64_ne();
    let (text, rest) = buf.split_at(NAME_LEN);
    *buf = rest;
    let is_computed = len & NAME_COMPUTED != 0;
    let text = text.get(..(len & !NAME_COMPUTED) as usize)?;
    let text = std::str::from_utf8(text).ok()?;
    let is_whole = !text.is_empty() && !text.contains(char::is_control);
    // `$request_id` is 16 random bytes.
    let is_id = || text.len() == 32 && text.bytes().all(is_hex);
    (is_whole && (!is_computed || is_id())).then(|| text.to_owned())
}

/// `VERSION-TRACE-PARENT-FLAGS` as <https://www.w3.org/TR/trace-context/> has it.
fn is_traceparent(text: &str) -> bool {
    let mut parts = text.split('-');
    // None of them is all of one digit: no version, trace or parent.
    let is = |part: Option<&str>, len, none| {
        part.is_some_and(|part| {
            part.len() == len && part.bytes().all(is_hex) && part.chars().any(|digit| digit != none)
        })
    };
    is(parts.next(), 2, 'f')
        && is(parts.next(), 32, '0')
        && is(parts.next(), 16, '0')
        && is(parts.next(), 2, '-')
        && parts.next().is_none()
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
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

#[cfg(test)]
mod tests {
    use super::*;

    fn named(len: u64, text: &str) -> Option<String> {
        let mut bytes = len.to_ne_bytes().to_vec();
        bytes.extend_from_slice(text.as_bytes());
        bytes.resize(8 + NAME_LEN, 0);
        name(&mut bytes.as_slice())
    }

    #[test]
    fn a_name_is_whole_or_none() {
        let of = |text: &str| named(text.len() as u64, text);
        assert_eq!(of("shop.test").as_deref(), Some("shop.test"));
        assert_eq!(
            of(&"x".repeat(NAME_LEN)).map(|name| name.len()),
            Some(NAME_LEN)
        );
        assert_eq!(named(NAME_LEN as u64 + 1, &"x".repeat(NAME_LEN)), None);
        assert_eq!(named(u64::MAX, "x"), None);
        for text in ["", "a\0", "a\x1b[2J"] {
            assert_eq!(of(text), None, "{text:?}");
        }
        // What nginx computed has 32 digits.
        assert_eq!(
            named(NAME_COMPUTED | 32, &"5f".repeat(16)),
            Some("5f".repeat(16))
        );
        assert_eq!(named(NAME_COMPUTED | 32, &"5g".repeat(16)), None);
        assert_eq!(named(NAME_COMPUTED | 9, "shop.test"), None);
    }

    #[test]
    fn a_traceparent_is_taken_to_the_letter() {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(is_traceparent(trace));
        for wrong in [
            "",
            "00",
            &trace.to_uppercase(),
            &trace.replacen("00", "ff", 1),
            &format!("{trace}-x"),
            &trace[..54],
            &trace.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &trace.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &trace.replace('-', "_"),
        ] {
            assert!(!is_traceparent(wrong), "{wrong}");
        }
    }
}
