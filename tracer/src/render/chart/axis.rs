//! From values to pixels, and the values that label them.

use jiff::{Timestamp, tz::TimeZone};

const SECOND: u64 = 1_000_000_000;

/// One direction of a plot: linear or logarithmic, with its marks.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    least: f64,
    most: f64,
    logarithmic: bool,
    /// Values and their names, in order.
    pub(super) marks: Vec<(f64, String)>,
}

impl Axis {
    /// Counts from 0 to at least `most`, at most `marks` + 1 of them written.
    pub(super) fn counts(most: u64, marks: i32) -> Self {
        let step = nice_step(most.max(1), marks.max(1) as u64);
        let top = most.max(1).div_ceil(step).saturating_mul(step);
        Self {
            least: 0.0,
            most: top as f64,
            logarithmic: false,
            marks: (0..=top / step)
                .map(|n| n.saturating_mul(step) as f64)
                .map(|value| (value, number(value as u64)))
                .collect(),
        }
    }

    /// Shares of a whole, from 0 to 1.
    pub(super) fn shares() -> Self {
        Self {
            least: 0.0,
            most: 1.0,
            logarithmic: false,
            marks: [0, 25, 50, 75, 100]
                .map(|percent| (f64::from(percent) / 100.0, format!("{percent} %")))
                .into(),
        }
    }

    /// The same without marks.
    pub(super) fn unmarked(self) -> Self {
        Self {
            marks: Vec::new(),
            ..self
        }
    }

    /// Durations in nanoseconds, logarithmic, between round values; where the decades are few, also
    /// 2 and 5 of each.
    pub(super) fn durations(least: u64, most: u64) -> Self {
        let round: Vec<u64> = (0..20)
            .flat_map(|decade| [1, 2, 5].map(|n| 10u64.saturating_pow(decade).saturating_mul(n)))
            .collect();
        let last = round
            .iter()
            .position(|value| *value >= most.max(2))
            .unwrap_or(round.len() - 1);
        let first = round[..last]
            .iter()
            .rposition(|value| *value <= least)
            .unwrap_or(0);
        let all = last - first <= 7;
        let marks = round[first..=last]
            .iter()
            .filter(|value| all || is_decade(**value));
        Self {
            least: round[first] as f64,
            most: round[last] as f64,
            logarithmic: true,
            marks: marks
                .map(|value| (*value as f64, duration(*value)))
                .collect(),
        }
    }

    /// Times from `first` to `last` (Unix nanoseconds), at most `marks` of them written.
    pub(super) fn time(first: u64, last: u64, marks: i32, zone: &TimeZone) -> Self {
        let length = (last - first).max(1);
        let step = TIME_STEPS
            .iter()
            .copied()
            .find(|step| length / step < marks.max(1) as u64);
        let step = step.unwrap_or_else(|| nice_step(length / DAY, marks.max(1) as u64) * DAY);
        // Whole hours and days are those of the zone.
        let offset = i128::from(zone.to_offset(timestamp(first)).seconds()) * i128::from(SECOND);
        let aligned =
            (i128::from(first) + offset).div_euclid(step.into()) * i128::from(step) - offset;
        let marks = (0..)
            .map(|n| aligned + n * i128::from(step))
            .skip_while(|time| *time < i128::from(first))
            .take_while(|time| *time <= i128::from(last))
            .filter_map(|time| u64::try_from(time).ok())
            .map(|time| (time as f64, clock(time, step, zone)))
            .collect();
        Self {
            least: first as f64,
            most: (first + length) as f64,
            logarithmic: false,
            marks,
        }
    }

    /// Where a value is between `from` and `to`; what is beyond the ends is at them.
    pub(super) fn place(&self, value: f64, from: i32, to: i32) -> i32 {
        let scale = |value: f64| {
            if self.logarithmic {
                value.max(1.0).ln()
            } else {
                value
            }
        };
        let share = (scale(value) - scale(self.least)) / (scale(self.most) - scale(self.least));
        from + (share.clamp(0.0, 1.0) * f64::from(to - from)).round() as i32
    }
}

const DAY: u64 = 86_400 * SECOND;
const TIME_STEPS: [u64; 25] = [
    SECOND / 1000,
    SECOND / 500,
    SECOND / 200,
    SECOND / 100,
    SECOND / 50,
    SECOND / 20,
    SECOND / 10,
    SECOND / 5,
    SECOND / 2,
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    30 * SECOND,
    60 * SECOND,
    120 * SECOND,
    300 * SECOND,
    600 * SECOND,
    1800 * SECOND,
    3600 * SECOND,
    2 * 3600 * SECOND,
    6 * 3600 * SECOND,
    12 * 3600 * SECOND,
    DAY,
    2 * DAY,
];

fn timestamp(unix: u64) -> Timestamp {
    Timestamp::from_nanosecond(unix.into()).unwrap_or(Timestamp::MAX)
}

/// A time as exactly as the step between marks needs.
fn clock(unix: u64, step: u64, zone: &TimeZone) -> String {
    let format = match step {
        0..SECOND => "%H:%M:%S.%3f",
        SECOND..60_000_000_000 => "%H:%M:%S",
        60_000_000_000..DAY => "%H:%M",
        _ => "%b %d",
    };
    timestamp(unix)
        .to_zoned(zone.clone())
        .strftime(format)
        .to_string()
}

/// `2026-11-21, UTC`: what the marks leave out.
pub(super) fn day(first: u64, last: u64, zone: &TimeZone) -> String {
    let day = |unix| {
        timestamp(unix)
            .to_zoned(zone.clone())
            .strftime("%Y-%m-%d")
            .to_string()
    };
    let (first, last, name) = (
        day(first),
        day(last),
        timestamp(first)
            .to_zoned(zone.clone())
            .strftime("%Z")
            .to_string(),
    );
    if first == last {
        format!("{first}, {name}")
    } else {
        format!("{first} to {last}, {name}")
    }
}

/// 1, 2 or 5 times a power of ten, so that `most` takes at most `marks` steps.
fn nice_step(most: u64, marks: u64) -> u64 {
    let mut decade = 1u64;
    loop {
        for factor in [1, 2, 5] {
            let step = decade.saturating_mul(factor);
            if most.div_ceil(step) <= marks || step == u64::MAX {
                return step;
            }
        }
        decade = decade.saturating_mul(10);
    }
}

fn is_decade(value: u64) -> bool {
    value > 0 && 10u64.pow(value.ilog10()) == value
}

/// `1,234,567`.
pub(crate) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `50 µs`, `1.5 s`, `2 min` of nanoseconds.
pub(crate) fn duration(nanoseconds: u64) -> String {
    let units = [
        (86_400 * SECOND, "d"),
        (3600 * SECOND, "h"),
        (60 * SECOND, "min"),
        (SECOND, "s"),
        (1_000_000, "ms"),
        (1000, "µs"),
        (1, "ns"),
    ];
    // Decades of seconds stay seconds: 100 s, not 1.7 min.
    let decade = (SECOND..=10_000 * SECOND).contains(&nanoseconds) && is_decade(nanoseconds);
    let unit = units
        .iter()
        .find(|(size, name)| nanoseconds >= *size && !(decade && matches!(*name, "h" | "min")));
    let (size, name) = unit.copied().unwrap_or((1, "ns"));
    let value = nanoseconds as f64 / size as f64;
    let text = if value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    };
    format!("{} {name}", text.strip_suffix(".0").unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(axis: &Axis) -> Vec<&str> {
        axis.marks.iter().map(|(_, name)| name.as_str()).collect()
    }

    #[test]
    fn counts_begin_at_nothing_and_hold_the_most() {
        assert_eq!(names(&Axis::counts(0, 5)), ["0", "1"]);
        assert_eq!(names(&Axis::counts(7, 4)), ["0", "2", "4", "6", "8"]);
        assert_eq!(
            names(&Axis::counts(12_345, 3)),
            ["0", "5,000", "10,000", "15,000"]
        );
        assert!(Axis::counts(u64::MAX, 5).marks.len() <= 7);
    }

    #[test]
    fn durations_end_at_round_values() {
        assert_eq!(
            names(&Axis::durations(12_000, 40_000)),
            ["10 µs", "20 µs", "50 µs"]
        );
        let wide = Axis::durations(30_000, 3_000_000_000);
        assert_eq!(names(&wide), ["100 µs", "1 ms", "10 ms", "100 ms", "1 s"]);
        assert_eq!(Axis::durations(10_000, 10 * SECOND).place(1e6, 0, 600), 200);
        assert!(!Axis::durations(0, 0).marks.is_empty());
        assert!(!Axis::durations(u64::MAX, u64::MAX).marks.is_empty());
    }

    #[test]
    fn times_are_round_in_their_zone() {
        let first = 1_795_169_723_412_345_678; // 2026-11-20T10:15:23.412Z
        let minutes = Axis::time(first, first + 600 * SECOND, 6, &TimeZone::UTC);
        assert_eq!(
            names(&minutes),
            ["10:16", "10:18", "10:20", "10:22", "10:24"]
        );
        let zone = TimeZone::fixed(jiff::tz::offset(5));
        let hours = Axis::time(first, first + DAY, 5, &zone);
        assert_eq!(names(&hours), ["18:00", "00:00", "06:00", "12:00"]);
        assert_eq!(
            day(first, first + DAY, &TimeZone::UTC),
            "2026-11-20 to 2026-11-21, UTC"
        );
        assert!(Axis::time(0, u64::MAX, 6, &TimeZone::UTC).marks.len() <= 7);
    }

    #[test]
    fn durations_are_short_to_read() {
        let said = [
            1,
            1500,
            10_000,
            1_500_000_000,
            90 * SECOND,
            100 * SECOND,
            7200 * SECOND,
        ]
        .map(duration);
        assert_eq!(
            said,
            [
                "1 ns", "1.5 µs", "10 µs", "1.5 s", "1.5 min", "100 s", "2 h"
            ]
        );
    }
}
