//! A moment, as people write it on a command line.

use anyhow::{Context as _, Result};
use jiff::{
    Timestamp,
    civil::{DateTime, Time},
    tz::TimeZone,
};

/// A moment, still without its zone or day where those were not said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// With its zone.
    Exact(Timestamp),
    /// A day and a time.
    Local(DateTime),
    /// A time of the day.
    Time(Time),
}

/// Reads one.
pub(super) fn parse(text: &str) -> Result<Moment, String> {
    let exact = text.parse().map(Moment::Exact);
    let local = || text.parse().map(Moment::Local);
    let time = || text.parse().map(Moment::Time);
    exact.or_else(|_| time()).or_else(|_| local()).map_err(|_| {
        "a time as in 10:15, 10:15:23, 2026-11-20T10:15, 2026-11-20T10:15:23Z".to_owned()
    })
}

impl Moment {
    /// Unix time in nanoseconds; a time alone is one of the day of `day`, itself such a time.
    pub(super) fn unix_nanos(self, day: u64, zone: &TimeZone) -> Result<u64> {
        let zoned = |local: DateTime| local.to_zoned(zone.clone()).context("the time given");
        let timestamp = match self {
            Self::Exact(timestamp) => timestamp,
            Self::Local(local) => zoned(local)?.timestamp(),
            Self::Time(time) => {
                let day = Timestamp::from_nanosecond(day.into())?.to_zoned(zone.clone());
                zoned(day.date().to_datetime(time))?.timestamp()
            }
        };
        Ok(u64::try_from(timestamp.as_nanosecond()).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_as_people_write_it() {
        let day = 1_795_170_000_000_000_000;
        let nanos = |text: &str| {
            parse(text)
                .unwrap()
                .unix_nanos(day, &TimeZone::UTC)
                .unwrap()
        };
        let wanted = nanos("2026-11-20T10:15:00Z");
        assert_eq!(nanos("10:15"), wanted);
        assert_eq!(nanos("10:15:00"), wanted);
        assert_eq!(nanos("2026-11-20T10:15"), wanted);
        assert_eq!(nanos("2026-11-20 10:15"), wanted);
        assert_eq!(nanos("2026-11-20T11:15:00+01:00"), wanted);
        assert!(parse("yesterday").is_err());
    }
}
