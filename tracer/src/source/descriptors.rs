//! This process's own descriptors: each namespace, log and probe takes some.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    event::{Notice, Strain, Time},
    source::host::{Change, Gauge},
};

/// How often they are counted (nanoseconds).
const LOOK: u64 = 1_000_000_000;

/// How many there are, of how many there may be.
#[derive(Debug)]
pub(super) struct Descriptors {
    limit: u64,
    gauge: Gauge,
    looked: Time,
}

impl Descriptors {
    /// Raises the limit as far as this process may.
    pub(super) fn raise_limit() -> Self {
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: limit.maximum,
            ..limit
        };
        let is_raised = setrlimit(Resource::Nofile, raised).is_ok();
        let limit = if is_raised { raised } else { limit };
        Self {
            // Without a number there is none.
            limit: limit.current.unwrap_or(u64::MAX),
            gauge: Gauge::default(),
            looked: Time(0),
        }
    }

    /// Counts them now and then; gives what changed.
    pub(super) fn look(&mut self, now: Time) -> Option<Notice> {
        if now.since(self.looked) < LOOK {
            return None;
        }
        self.looked = now;
        let open = open()?;
        let change = self.gauge.share(now, open, self.limit)?;
        Some(Notice {
            at: now,
            pid: std::process::id(),
            strain: Strain::OwnDescriptors {
                open,
                limit: self.limit,
            },
            is_over: change == Change::Ends,
        })
    }
}

/// The folder's size since 6.2; before, it is counted.
fn open() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    match fs::metadata(FOLDER).ok()?.len() {
        0 => Some(fs::read_dir(FOLDER).ok()?.count() as u64),
        count => Some(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_short_is_reported_when_it_begins() {
        let mut descriptors = Descriptors {
            limit: 1,
            gauge: Gauge::default(),
            looked: Time(0),
        };
        let notice = descriptors.look(Time(LOOK)).unwrap();
        assert_eq!(notice.pid, std::process::id());
        assert!(matches!(notice.strain, Strain::OwnDescriptors { open, limit: 1 } if open >= 3));
        assert_eq!(descriptors.look(Time(2 * LOOK)), None);
        descriptors = Descriptors::raise_limit();
        assert_eq!(descriptors.look(Time(3 * LOOK)), None);
    }
}
