//! Notices, a line each.

use std::io::{self, Write};

use super::text::{Ink, Style};
use crate::event::{
    Clock, Time,
    notice::{Notice, Strain},
};

/// Writes one.
///
/// # Errors
/// Those of the writer.
pub fn notice(
    out: &mut impl Write,
    notice: &Notice,
    clock: &Clock,
    style: &Style,
) -> io::Result<()> {
    let over = if notice.is_over { ", over" } else { "" };
    writeln!(
        out,
        "{}  {}  {}",
        style.time(clock, notice.at),
        style.ink(Ink::Hidden, &format!("notice{over}")),
        sentence(notice)
    )
}

/// What it says.
pub(super) fn sentence(notice: &Notice) -> String {
    let pid = notice.pid;
    match notice.strain {
        Strain::ListenQueue { address, .. } if notice.is_over => {
            format!("nginx's listen queue on {address} (master {pid}) drops no clients any more")
        }
        Strain::ListenQueue {
            address,
            queue,
            limit,
            somaxconn,
            dropped,
        } => {
            let why = match somaxconn {
                Some(most) if most <= limit => {
                    format!(
                        "the limit is net.core.somaxconn, listen() asked for as much or more (listen … backlog={limit})"
                    )
                }
                Some(most) => format!(
                    "the limit is what listen() asked for (listen … backlog={limit}), net.core.somaxconn is {most}"
                ),
                None => "the limit is the smaller of listen … backlog= and net.core.somaxconn"
                    .to_owned(),
            };
            format!(
                "clients cannot get in: nginx's listen queue on {address} (master {pid}) overflows, {queue} wait of {limit} allowed, \
                 {dropped} connection attempts dropped; the workers do not accept fast enough; {why}"
            )
        }
        Strain::Descriptors { open, limit } if notice.is_over => {
            format!("worker {pid} holds {open} descriptors of {limit}")
        }
        Strain::Descriptors { open, limit } => format!(
            "worker {pid} is near its descriptor limit: {open} of {limit}; raise worker_rlimit_nofile (and LimitNOFILE)"
        ),
        Strain::Connections { used, limit } if notice.is_over => {
            format!("worker {pid} uses {used} connections of {limit}")
        }
        Strain::Connections { used, limit } => format!(
            "worker {pid} is near its worker_connections: {used} of {limit} in use; raise worker_connections, or worker_processes"
        ),
    }
}

/// Says that kernel records are being lost.
///
/// # Errors
/// Those of the writer.
pub fn lost(
    out: &mut impl Write,
    at: Time,
    events: u64,
    clock: &Clock,
    style: &Style,
) -> io::Result<()> {
    writeln!(
        out,
        "{}  {}  kernel records are being lost, {} at this look: failures may be missing, evidence is weaker",
        style.time(clock, at),
        style.ink(Ink::Hidden, "notice"),
        events
    )
}

/// Says that nobody reads stdout.
///
/// # Errors
/// Those of the writer.
pub fn unread(out: &mut impl Write, at: Time, clock: &Clock, style: &Style) -> io::Result<()> {
    writeln!(
        out,
        "{}  {}  stdout is not read as fast as requests fail: verdicts are counted, not written, until it is",
        style.time(clock, at),
        style.ink(Ink::Hidden, "notice"),
    )
}
