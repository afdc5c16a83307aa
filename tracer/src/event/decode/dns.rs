//! A step of nginx's resolver.

use bytes::Buf;
use tracer_ebpf::abi::{ANSWERED, FAILED, IS_TRUNCATED, QUESTION_LEN};

use super::{
    Head,
    field::{endpoint, lossy},
};
use crate::event::{Dns, DnsStep};

pub(super) fn dns(header: &Head, mut buf: &[u8]) -> Dns {
    let server = endpoint(&mut buf);
    let id = buf.get_u16_ne();
    let errno = buf.get_u32_ne();
    let len = buf.get_u32_ne() as usize;
    let flags = buf.get_u16_ne();
    let answers = buf.get_u16_ne();
    let step = buf.get_u8();
    let over_tcp = buf.get_u8() != 0;
    buf.advance(2);
    let name = question(&buf[..QUESTION_LEN.min(len)]);
    let step = match step {
        ANSWERED if flags & IS_TRUNCATED != 0 => DnsStep::Truncated,
        ANSWERED => DnsStep::Answered {
            rcode: (flags & 15) as u8,
            answers,
        },
        FAILED => DnsStep::Failed { errno },
        _ => DnsStep::Asked,
    };
    Dns {
        at: header.at,
        worker: header.pid,
        server,
        over_tcp,
        step,
        id,
        name,
    }
}

/// A name in wire format (RFC 1035 section 3.1), as far as it was kept.
fn question(mut bytes: &[u8]) -> String {
    let mut labels = Vec::new();
    while let Some((&len, rest)) = bytes.split_first() {
        if len == 0 || len > 63 {
            break;
        }
        let len = usize::from(len).min(rest.len());
        labels.push(lossy(&rest[..len]));
        bytes = &rest[len..];
    }
    labels.join(".")
}
