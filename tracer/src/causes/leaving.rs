//! A process that closed its end of the connection on its way out: it caught a signal, or exited
//! just after.

use super::{
    ending::{Ending, ending},
    scene::Scene,
};
use crate::{
    correlate::EXITS_WITHIN,
    event::{Connection, Death, Signal, Upstream},
};

/// Signals that some programs take for a stop: SIGHUP, USR1, USR2, ALRM. An exit has to follow.
const PERHAPS: [u8; 4] = [1, 10, 12, 14];
/// Signals that hardly a program survives: SIGABRT, TERM. Others serve for dumps, too.
const ALWAYS: [u8; 2] = [6, 15];
/// How long (nanoseconds) before the close they were sent at most, where the exit was not seen.
const UNSEEN: u64 = 30_000_000_000;
/// A close is reported this much (nanoseconds) after what it makes visible to nginx.
const CLOSE_DELAY: u64 = 5_000_000;

/// See the module.
#[derive(Clone, Copy)]
pub(super) struct Leaving<'a> {
    pub(super) pid: u32,
    pub(super) name: &'a str,
    /// 0 unknown.
    pub(super) parent: u32,
    pub(super) unit: Option<&'a str>,
    /// What had been sent to it before it closed.
    pub(super) signal: Option<&'a Signal>,
    /// Its end, where that was seen.
    pub(super) death: Option<&'a Death>,
}

impl<'a> Scene<'a> {
    /// The process that ended the attempt's connection, if it was leaving.
    pub(super) fn leaving(&self) -> Option<Leaving<'a>> {
        let c = self.connection()?;
        self.left_by(c, &ending(c)?)
    }

    fn left_by(&self, c: &'a Connection, ending: &Ending) -> Option<Leaving<'a>> {
        let attempt = self.attempt?;
        let seen = ending.reset_after.unwrap_or(ending.at).plus(CLOSE_DELAY);
        let (pid, name, parent, signal, closed) = match &c.remote {
            Upstream::Inet(_) => {
                let closed = attempt.peer_closed.as_deref()?;
                if closed.death.is_some() || closed.at > seen {
                    return None;
                }
                let signal = closed.signal.as_ref();
                (closed.pid, &closed.name, closed.parent, signal, closed.at)
            }
            Upstream::Unix(_) => {
                let holder = c.holder.as_ref()?;
                (
                    holder.pid,
                    &holder.name,
                    0,
                    holder.signal.as_ref(),
                    ending.at,
                )
            }
        };
        let death = attempt
            .deaths
            .iter()
            .find(|death| death.pid == pid && death.at >= closed);
        let signal = signal.filter(|signal| {
            signal.is_of_late(closed)
                && if death.is_some() {
                    signal.asks_to_stop() || PERHAPS.contains(&signal.number)
                } else {
                    ALWAYS.contains(&signal.number) && closed.since(signal.at) <= UNSEEN
                }
        });
        let failed = death.is_some_and(|death| {
            death.code & 0x7f == 0 && death.code != 0 && death.at.since(closed) <= EXITS_WITHIN
        });
        (signal.is_some() || failed).then_some(Leaving {
            pid,
            name,
            parent: death.map_or(parent, |death| death.parent),
            unit: death.and_then(|death| death.unit.as_deref()),
            signal,
            death,
        })
    }
}
