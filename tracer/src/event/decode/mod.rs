//! Kernel records from bytes, by checked tag and length: the one place where they are read.
//!
//! Field by field in the order of `tracer_ebpf::abi`, never transmuted: a short or unknown record
//! is an error value, counted by the caller.

mod attempt;
mod connection;
mod death;
mod dns;
mod field;
mod head;
mod names;
mod request;

use bytes::Buf;
use thiserror::Error;
use tracer_ebpf::abi::{
    self, ANSWER, CONNECTION, DEATH, DNS, FAILURE, FIRST_BYTE, LAYOUT, LOG_CALL, Members,
    PEER_CLOSED, PROCESS, ProgramKey, REPLY, RETRANSMIT, RETRY,
};

pub use self::names::KernelNames;
use crate::event::{Event, Life, LifeKind, RequestId, Retry, Time};

/// Why a record could not be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// The record is shorter than its kind.
    #[error("a record of tag {tag} has {len} bytes only")]
    Short {
        /// Its tag.
        tag: u16,
        /// Its length.
        len: usize,
    },
    /// A kind this version does not know.
    #[error("unknown record tag {0}")]
    Unknown(u16),
}

/// Bytes of [`tracer_ebpf::abi::Header`].
const HEADER: usize = 16;

/// One record as it came from the ring buffer, but for those of `life`.
///
/// # Errors
/// It is short, or of an unknown kind.
pub fn record(bytes: &[u8], names: &KernelNames) -> Result<Event, DecodeError> {
    if bytes.len() < HEADER {
        return Err(DecodeError::Short {
            tag: 0,
            len: bytes.len(),
        });
    }
    let mut buf = bytes;
    let header = Head {
        tag: buf.get_u16_ne(),
        len: buf.get_u16_ne(),
        pid: buf.get_u32_ne(),
        at: Time(buf.get_u64_ne()),
    };
    let body = match header.tag {
        FAILURE => size_of::<abi::Failure>(),
        CONNECTION => size_of::<abi::Connection>(),
        RETRANSMIT => size_of::<abi::Retransmit>(),
        FIRST_BYTE => size_of::<abi::FirstByte>(),
        ANSWER => size_of::<abi::Answer>(),
        LOG_CALL => size_of::<abi::LogCall>(),
        PEER_CLOSED => size_of::<abi::PeerClosed>(),
        DEATH => size_of::<abi::Death>(),
        DNS => size_of::<abi::Dns>(),
        RETRY => size_of::<abi::Retry>(),
        REPLY => size_of::<abi::Reply>(),
        unknown => return Err(DecodeError::Unknown(unknown)),
    };
    if bytes.len() < body || usize::from(header.len) < body {
        return Err(DecodeError::Short {
            tag: header.tag,
            len: bytes.len().min(header.len.into()),
        });
    }
    Ok(match header.tag {
        FAILURE => Event::Failure(attempt::failure(&header, buf)),
        CONNECTION => Event::Connection(Box::new(connection::connection(&header, buf, names))),
        RETRANSMIT => Event::Retransmit(attempt::retransmit(&header, buf)),
        FIRST_BYTE => Event::FirstByte(Box::new(attempt::first_byte(&header, buf))),
        ANSWER => Event::Answer(request::answer(&header, buf)),
        LOG_CALL => Event::LogCall(request::log_call(&header, buf)),
        PEER_CLOSED => Event::PeerClosed(Box::new(death::peer_closed(&header, buf, names))),
        DEATH => Event::Death(Box::new(death::end(&header, buf, names).0)),
        DNS => Event::Dns(dns::dns(&header, buf)),
        REPLY => Event::Reply(request::reply(&header, buf)),
        RETRY => Event::Retry(Retry {
            at: header.at,
            worker: header.pid,
            request: RequestId(buf.get_u64_ne()),
        }),
        unknown => return Err(DecodeError::Unknown(unknown)),
    })
}

struct Head {
    tag: u16,
    len: u16,
    pid: u32,
    at: Time,
}

/// Reads what happened to a process; `None`: the record is another one, see [`record`].
#[must_use]
pub(crate) fn life(bytes: &[u8]) -> Option<Life> {
    let mut buf = bytes;
    let (tag, len) = (buf.try_get_u16_ne().ok()?, buf.try_get_u16_ne().ok()?);
    let whole = match tag {
        PROCESS => size_of::<abi::Process>(),
        LAYOUT => size_of::<abi::LayoutShown>(),
        _ => return None,
    };
    if bytes.len() < whole || usize::from(len) < whole {
        return None;
    }
    let pid = buf.get_u32_ne();
    let at = Time(buf.get_u64_ne());
    if tag == LAYOUT {
        let mut members = || {
            let mut next = || buf.get_u16_ne();
            Members {
                peer_log: next(),
                log_data: next(),
                upstream: next(),
                state: next(),
            }
        };
        let kind = LifeKind::Layout {
            expected: members(),
            shown: members(),
        };
        return Some(Life { pid, at, kind });
    }
    let (kind, value) = (buf.get_u32_ne(), buf.get_u32_ne());
    let program = ProgramKey {
        inode: buf.get_u64_ne(),
        device: buf.get_u32_ne(),
        padding: 0,
    };
    let kind = match kind {
        abi::FORKED => LifeKind::Forked { parent: value },
        abi::EXECUTED => LifeKind::Executed {
            program,
            is_followed: value == abi::FOLLOWED,
            was_followed: value == abi::WAS_FOLLOWED,
        },
        abi::EXITED => LifeKind::Exited { code: value },
        abi::YOUNG_FORKED => LifeKind::YoungForked { parent: value },
        abi::REFUSED => LifeKind::Refused { parent: value },
        _ => return None,
    };
    Some(Life { pid, at, kind })
}
