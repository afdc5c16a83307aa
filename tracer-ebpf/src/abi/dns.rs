//! nginx's resolver on its sockets (src/core/ngx_resolver.c).

use super::{Endpoint, Header};

/// Tag of [`Dns`].
pub const DNS: u16 = 10;
/// nginx asked.
pub const ASKED: u8 = 1;
/// The server answered.
pub const ANSWERED: u8 = 2;
/// Sending or receiving failed.
pub const FAILED: u8 = 3;

/// In [`Dns::flags`]: it is an answer.
pub const IS_ANSWER: u16 = 0x8000;
/// In [`Dns::flags`]: it did not fit, and has to be asked for over TCP.
pub const IS_TRUNCATED: u16 = 0x0200;

/// Bytes of the question that are kept.
pub const QUESTION_LEN: usize = 132;

/// A step of the resolver's.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Dns {
    /// Tag [`DNS`].
    pub header: Header,
    /// The server.
    pub server: Endpoint,
    /// Query id.
    pub id: u16,
    /// Positive.
    pub errno: u32,
    /// Bytes of `question` that count.
    pub question_len: u32,
    /// As in the header (RFC 1035 section 4.1.1): the rcode is in the low four bits.
    pub flags: u16,
    /// Answer records.
    pub answers: u16,
    /// `ASKED`, `ANSWERED` or `FAILED`.
    pub step: u8,
    /// 1: over TCP.
    pub tcp: u8,
    /// Zero.
    pub padding: [u8; 2],
    /// The question section's beginning, in wire format.
    pub question: [u8; QUESTION_LEN],
}

impl Dns {
    /// A step of which nothing is known yet.
    pub const UNKNOWN: Self = Self {
        header: Header {
            tag: DNS,
            len: 0,
            pid: 0,
            at: 0,
        },
        server: Endpoint::NONE,
        id: 0,
        errno: 0,
        question_len: 0,
        flags: 0,
        answers: 0,
        step: 0,
        tcp: 0,
        padding: [0; 2],
        question: [0; QUESTION_LEN],
    };
}
