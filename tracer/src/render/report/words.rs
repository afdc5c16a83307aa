//! Times and counts in the report's words.

use jiff::{Timestamp, Zoned, tz::TimeZone};

use crate::{
    event::{Clock, Time},
    plural,
    render::chart::{duration, number},
};

/// Formats times of one time zone.
#[derive(Debug, Clone)]
pub(super) struct Words {
    pub(super) clock: Clock,
    pub(super) zone: TimeZone,
}

impl Words {
    /// `10:15:23.412`.
    pub(super) fn time(&self, time: Time) -> String {
        self.moment(self.unix(time))
    }

    /// The same of Unix nanoseconds.
    pub(super) fn moment(&self, unix: u64) -> String {
        self.zoned(unix).strftime("%H:%M:%S.%3f").to_string()
    }

    /// `10:15:23`.
    pub(super) fn second(&self, unix: u64) -> String {
        self.zoned(unix).strftime("%H:%M:%S").to_string()
    }

    /// `2026-11-20 10:15:23 UTC`.
    pub(super) fn full(&self, unix: u64) -> String {
        self.zoned(unix)
            .strftime("%Y-%m-%d %H:%M:%S %Z")
            .to_string()
    }

    /// `between 10:15:23 and 10:15:31 UTC on 2026-11-20`.
    pub(super) fn between(&self, first: u64, last: u64) -> String {
        let (from, to) = (self.zoned(first), self.zoned(last));
        if from.date() != to.date() {
            return format!(
                "between {} and {}",
                from.strftime("%Y-%m-%d %H:%M:%S"),
                to.strftime("%Y-%m-%d %H:%M:%S %Z")
            );
        }
        let (begin, end) = (from.strftime("%H:%M:%S"), to.strftime("%H:%M:%S %Z"));
        let when = if self.second(first) == self.second(last) {
            format!("at {end}")
        } else {
            format!("between {begin} and {end}")
        };
        format!("{when} on {}", from.strftime("%Y-%m-%d"))
    }

    /// Unix nanoseconds.
    pub(super) fn unix(&self, time: Time) -> u64 {
        self.clock.unix_nanos(time)
    }

    fn zoned(&self, unix: u64) -> Zoned {
        let timestamp = Timestamp::from_nanosecond(unix.into()).unwrap_or(Timestamp::UNIX_EPOCH);
        timestamp.to_zoned(self.zone.clone())
    }
}

/// `1 request`, `1,234 requests`.
pub(super) fn counted(count: u64, one: &str) -> String {
    format!("{} {}", number(count), plural::noun(count, one))
}

/// `2.1 %`, `< 0.1 %`.
pub(super) fn share(part: u64, whole: u64) -> String {
    let percent = part as f64 * 100.0 / whole.max(1) as f64;
    match part {
        0 => "0 %".to_owned(),
        _ if percent < 0.1 => "&lt; 0.1 %".to_owned(),
        _ if percent < 10.0 => format!("{percent:.1} %"),
        _ => format!("{percent:.0} %"),
    }
}

/// How long, of Unix nanoseconds.
pub(super) fn length(first: u64, last: u64) -> String {
    duration(last.saturating_sub(first).max(1_000_000) / 1_000_000 * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_once() {
        let words = Words {
            clock: Clock { boot: 0, wall: 0 },
            zone: TimeZone::UTC,
        };
        let first = 1_795_169_723_412_345_678;
        let second = 1_000_000_000;
        assert_eq!(
            words.between(first, first + 8 * second),
            "between 10:15:23 and 10:15:31 UTC on 2026-11-20"
        );
        assert_eq!(
            words.between(first, first + 5),
            "at 10:15:23 UTC on 2026-11-20"
        );
        assert_eq!(
            words.between(first, first + 86_400 * second),
            "between 2026-11-20 10:15:23 and 2026-11-21 10:15:23 UTC"
        );
        assert_eq!(
            (share(0, 0), share(1, 5000), share(1, 50), share(3, 4)),
            (
                "0 %".into(),
                "&lt; 0.1 %".into(),
                "2.0 %".into(),
                "75 %".into()
            )
        );
        assert_eq!(counted(1, "request"), "1 request");
        assert_eq!(counted(1234, "request"), "1,234 requests");
    }
}
