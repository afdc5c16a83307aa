//! How a process ended, in words: by which signal and from whom, or with which code.

use super::wording;
use crate::event::{Death, Signal, Time};

/// The signal that ended it.
pub(super) fn killed_by(death: &Death) -> Option<u8> {
    u8::try_from(death.code & 0x7f)
        .ok()
        .filter(|number| *number != 0)
}

/// `was killed by SIGKILL from systemd (pid 1)`, `exited with code 1`.
pub(super) fn how(death: &Death) -> String {
    let sender = |signal: &Signal| match signal.code {
        1.. if signal.number == 9 => " from the kernel".to_owned(),
        1.. => ", a fault of its own".to_owned(),
        _ if signal.sender == death.pid => ", which it sent itself (abort())".to_owned(),
        _ => format!(" from {} (pid {})", signal.sender_name, signal.sender),
    };
    let last = death.signal.as_ref();
    match killed_by(death) {
        Some(number) => {
            let name = signal_name(number);
            let from = last
                .filter(|signal| signal.number == number)
                .map(sender)
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
                    matches!(signal.number, 1 | 2 | 3 | 15) && asked_of_late(death.at, signal.at)
                })
                .map(|signal| {
                    format!(
                        ", {} after {}{}",
                        wording::duration(death.at.since(signal.at)),
                        signal_name(signal.number),
                        sender(signal)
                    )
                })
                .unwrap_or_default();
            format!("exited with code {code}{asked}")
        }
    }
}

/// A signal to stop leads to an exit within the usual grace of service managers.
fn asked_of_late(died: Time, asked: Time) -> bool {
    asked <= died && died.since(asked) <= 90_000_000_000
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
