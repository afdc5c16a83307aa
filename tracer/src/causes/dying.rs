//! How a process ended, in words: by which signal and from whom, or with which code.

use super::{programs, wording};
use crate::event::{Death, Signal, Time};

/// The signal that ended it.
pub(super) fn killed_by(death: &Death) -> Option<u8> {
    u8::try_from(death.code & 0x7f)
        .ok()
        .filter(|number| *number != 0)
}

/// `was killed by SIGKILL from systemd (pid 1)`, `exited with code 1`.
pub(super) fn how(death: &Death) -> String {
    let last = death.signal.as_ref();
    match killed_by(death) {
        Some(number) => {
            let name = signal_name(number);
            let from = last
                .filter(|signal| signal.number == number)
                .map(|signal| sender(signal, death.pid))
                .unwrap_or_default();
            let core = if death.code & 0x80 != 0 {
                " (core dumped)"
            } else {
                ""
            };
            let by = if death.oom { "the OOM killer, by " } else { "" };
            format!("was killed by {by}{name}{from}{core}")
        }
        None => {
            let code = death.code >> 8 & 0xff;
            let asked = last
                .filter(|signal| {
                    matches!(signal.number, 1 | 2 | 3 | 6 | 10 | 12 | 14 | 15)
                        && signal.is_of_late(death.at)
                })
                .map(|signal| format!(", {}", after(signal, death.at, death.pid)))
                .unwrap_or_default();
            format!("exited with code {code}{asked}")
        }
    }
}

/// `5.00 ms after SIGTERM from systemd (pid 1)`.
pub(super) fn after(signal: &Signal, now: Time, receiver: u32) -> String {
    format!(
        "{} after {}{}",
        wording::duration(now.since(signal.at)),
        signal_name(signal.number),
        sender(signal, receiver)
    )
}

/// Who sent a signal, and what had made them.
fn sender(signal: &Signal, receiver: u32) -> String {
    match signal.code {
        1.. if signal.number == 9 => " from the kernel".to_owned(),
        1.. => ", a fault of its own".to_owned(),
        _ if signal.sender == receiver && signal.number == 6 => {
            ", which it sent itself (abort())".to_owned()
        }
        _ if signal.sender == receiver => ", which it sent itself".to_owned(),
        _ => {
            let order = order(signal).map(|order| {
                format!(
                    ", which had received {} from {} (pid {}) {} before",
                    signal_name(order.number),
                    order.sender_name,
                    order.sender,
                    wording::duration(signal.at.since(order.at))
                )
            });
            format!(
                " from {} (pid {}){}",
                signal.sender_name,
                signal.sender,
                order.unwrap_or_default()
            )
        }
    }
}

/// A master that ends its workers this long (nanoseconds) after a signal to itself does so for
/// that.
const ORDER: u64 = 35_000_000_000;

/// The signal that the sender itself had received: to stop, or to reload.
pub(super) fn order(signal: &Signal) -> Option<&Signal> {
    let before = signal.before.as_deref()?;
    let is_order = programs::is_order(&signal.sender_name, before.number)
        && before.code <= 0
        && before.sender != signal.sender
        && before.at <= signal.at
        && signal.at.since(before.at) <= ORDER;
    is_order.then_some(before)
}

pub(super) fn signal_name(number: u8) -> String {
    let known = match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        31 => "SIGSYS",
        other => return format!("signal {other}"),
    };
    known.to_owned()
}
