//! nginx's resolver on its UDP sockets (src/core/ngx_resolver.c).

use super::{Endpoint, Header};

/// Tag of [`Dns`].
pub const DNS: u16 = 10;
/// nginx asked.
pub const ASKED: u8 = 1;
/// The server answered.
pub const ANSWERED: u8 = 2;
/// Sending or receiving failed.
pub const FAILED: u8 = 3;

/// Bytes of the question that are kept.
pub const QUESTION_LEN: usize = 64;

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
    /// `ASKED`, `ANSWERED` or `FAILED`.
    pub step: u8,
    /// Of the answer.
    pub rcode: u8,
    /// Answer records.
    pub answers: u16,
    /// Bytes of `question` that count.
    pub question_len: u32,
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
        step: 0,
        rcode: 0,
        answers: 0,
        question_len: 0,
        question: [0; QUESTION_LEN],
    };
}
