//! How long kept-alive connections had been idle when nginx used them again, and which of those
//! reuses met a close.

use std::collections::VecDeque;

use super::{FINE, Histogram, Timeline};
use crate::{
    event::{Clock, Connection, Time},
    verdict::Verdict,
};

/// The catalogue's id.
const KEEPALIVE_RACE: &str = "keepalive-race";
/// Races marked one by one; those beyond are counted.
const RACES: usize = 500;
/// Reuses without a response that a verdict may speak of soon.
const RECENT: usize = 4096;

/// A request on a connection that its backend was closing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Race {
    /// When nginx took the connection, Unix nanoseconds.
    pub at: u64,
    /// How long it had been idle, in nanoseconds.
    pub idle: u64,
}

/// Reuses of kept-alive connections.
#[derive(Debug, Default)]
pub struct Reuse {
    /// Idle ages at the last reuse of each connection, by the time of that reuse.
    pub ages: Timeline<Histogram, FINE>,
    /// Races of which the age is known, the first ones.
    pub races: Vec<Race>,
    /// All attempts that lost such a race.
    pub raced: u64,
    /// Worker, time of the reuse, idle age: a verdict comes after its connection.
    recent: VecDeque<(u32, Time, u64)>,
}

impl Reuse {
    pub(super) fn connection(&mut self, c: &Connection, clock: &Clock) {
        let (Some(at), Some(idle)) = (c.reused_at, c.idle) else {
            return;
        };
        // One that is open yet comes again at its end.
        if !c.open {
            self.ages.at(clock.unix_nanos(at)).add(idle);
        }
        if c.first_byte.is_none() {
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back((c.worker, at, idle));
        }
    }

    pub(super) fn verdict(&mut self, verdict: &Verdict, clock: &Clock) {
        for attempt in &verdict.attempts {
            if attempt.cause != Some(KEEPALIVE_RACE) {
                continue;
            }
            self.raced += 1;
            let own = (verdict.worker, attempt.start);
            let known = self
                .recent
                .iter()
                .rev()
                .find(|(worker, at, _)| (*worker, *at) == own);
            if let Some((_, at, idle)) = known.filter(|_| self.races.len() < RACES) {
                self.races.push(Race {
                    at: clock.unix_nanos(*at),
                    idle: *idle,
                });
            }
        }
    }
}
