//! Texts that nginx logs and the kernel side could not read in their moment: the page was not in
//! memory yet.
//!
//! They are read as their record is taken, on the event loop, since what comes after may rest on
//! them. Whoever owns a process can stall its memory's reader, so that is waited for but a moment,
//! and but so often.

use std::collections::VecDeque;

use tracer_ebpf::abi::FORMAT_LEN;

use crate::{
    event::{LogCall, Time},
    process::foreign,
};

/// After so many stalls within so long (nanoseconds) nothing is read for a while: 160 ms of the
/// event loop's minute.
const STALLS: usize = 8;
const WITHIN: u64 = 60_000_000_000;

/// Reads them.
#[derive(Debug, Default)]
pub(super) struct Unread {
    stalls: VecDeque<Time>,
}

impl Unread {
    /// Completes a log call. What cannot be read stays unknown.
    pub(super) fn complete(&mut self, call: &mut LogCall, now: Time) {
        let Some(unread) = call.unread.take() else {
            return;
        };
        self.stalls.retain(|at| now.since(*at) < WITHIN);
        if self.stalls.len() >= STALLS {
            return;
        }
        match foreign::text_at(call.worker, unread.address, FORMAT_LEN) {
            Ok(format) => call.read(format, unread),
            Err(error) if error.raw_os_error() == Some(libc::ETIMEDOUT) => {
                self.stalls.push_back(now);
            }
            Err(_) => {}
        }
    }
}
