//! Notices, a line each.

use std::io::{self, Write};

use super::text::{Ink, Style};
use crate::{
    event::{
        Clock, Time,
        notice::{Notice, Strain},
    },
    plural::{count, was},
};

/// Nanoseconds.
const HOUR: u64 = 3_600_000_000_000;

/// Writes one.
///
/// # Errors
/// Those of the writer.
pub(crate) fn notice(
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
        sentence(notice, |time| style.time(clock, time))
    )
}

/// What it says; `when` shows a time.
pub(crate) fn sentence(notice: &Notice, when: impl Fn(Time) -> String) -> String {
    let pid = notice.pid;
    match notice.strain {
        Strain::ListenQueue { address, .. } if notice.is_over => {
            format!("nginx's listen queue on {address} (master {pid}) no longer drops clients")
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
                        "the limit is net.core.somaxconn; listen() asked for at least that (listen … backlog={limit})"
                    )
                }
                Some(most) => format!(
                    "the limit is listen's (listen … backlog={limit}); net.core.somaxconn is {most}"
                ),
                None => "the limit is the smaller of listen … backlog= and net.core.somaxconn"
                    .to_owned(),
            };
            format!(
                "nginx's listen queue on {address} (master {pid}) overflows: {queue} of {limit} in use, {} dropped; \
                 the workers do not accept fast enough; {why}",
                count(dropped, "connection attempt")
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
        Strain::OwnDescriptors { open, limit } if notice.is_over => {
            format!("tracer (pid {pid}) holds {open} descriptors of {limit}")
        }
        Strain::OwnDescriptors { open, limit } => format!(
            "tracer (pid {pid}) is near its own descriptor limit: {open} of {limit}; more nginx may not be traced; \
             raise LimitNOFILE (ulimit -Hn)"
        ),
        Strain::Unwatched { nanos } => {
            let since = Time(notice.at.0.saturating_sub(nanos));
            let hours = match nanos / HOUR {
                0 => String::new(),
                hours => format!(", {hours} h later,"),
            };
            format!(
                "tracer (pid {pid}) ended without its summary; failures between {} and {}{hours} were not seen",
                when(since),
                when(notice.at)
            )
        }
        Strain::LogSkipped { bytes } if notice.is_over => {
            let skipped = count(bytes, "byte");
            format!(
                "error logs are read in full again; {skipped} {} skipped",
                was(bytes)
            )
        }
        Strain::LogSkipped { bytes } => format!(
            "error logs grow faster than they are read, {} skipped: verdicts may lack host and request line",
            count(bytes, "byte")
        ),
        Strain::LogStalled => format!(
            "reads of an error log of worker {pid} stall: verdicts may lack host and request line"
        ),
    }
}

/// Says that kernel records are being lost.
///
/// # Errors
/// Those of the writer.
pub(crate) fn lost(
    out: &mut impl Write,
    at: Time,
    events: u64,
    clock: &Clock,
    style: &Style,
) -> io::Result<()> {
    writeln!(
        out,
        "{}  {}  {}",
        style.time(clock, at),
        style.ink(Ink::Hidden, "notice"),
        lost_sentence(events)
    )
}

pub(super) fn lost_sentence(events: u64) -> String {
    format!(
        "{} lost since the last poll: failures may be missing, evidence is weaker",
        count(events, "kernel record")
    )
}

/// Says that nobody reads stdout.
///
/// # Errors
/// Those of the writer.
pub(crate) fn unread(
    out: &mut impl Write,
    at: Time,
    clock: &Clock,
    style: &Style,
) -> io::Result<()> {
    writeln!(
        out,
        "{}  {}  stdout is read too slowly: verdicts are counted, not written, until it is read again",
        style.time(clock, at),
        style.ink(Ink::Hidden, "notice"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn unwatched(nanos: u64) -> String {
        let notice = Notice {
            at: Time(200_000 * SECOND),
            pid: 812,
            strain: Strain::Unwatched { nanos },
            is_over: false,
        };
        sentence(&notice, |time| format!("{} s", time.0 / SECOND))
    }

    #[test]
    fn what_was_not_watched_is_reported_with_its_times() {
        assert_eq!(
            unwatched(3 * SECOND),
            "tracer (pid 812) ended without its summary; failures between 199997 s and 200000 s were not seen"
        );
        assert!(unwatched(30 * HOUR).contains("and 200000 s, 30 h later, were not seen"));
    }
}
