//! How long the steps of a connection took.

use crate::event::{Connection, Time};

/// The steps that were seen from begin to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timings {
    /// From `connect()` to the end of the handshake: when it began, and how long it took
    /// (nanoseconds).
    pub(crate) connect: Option<(Time, u64)>,
    /// From `connect()`, or from the reuse of a kept-alive connection, to the first byte of the
    /// response to its last request: when that came, and how long it took (nanoseconds).
    pub(crate) first_byte: Option<(Time, u64)>,
}

impl Timings {
    /// Those of a connection.
    pub(crate) fn of(c: &Connection) -> Self {
        // 0: it was opened before tracing began.
        let began = Some(c.start).filter(|start| start.0 != 0);
        let first = c.reused_at.or(began).zip(c.first_byte);
        Self {
            connect: began
                .zip(c.established)
                .map(|(start, established)| (start, established.since(start))),
            first_byte: first.map(|(from, first)| (first, first.since(from))),
        }
    }
}
