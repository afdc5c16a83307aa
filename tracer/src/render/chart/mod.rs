//! Charts of a capture. Pure: series in, a drawing out; [`svg()`] and [`png()`] make a file's bytes
//! of it.
//!
//! Each chart comes in two sizes, for a screen and for a phone. A capture without what a chart
//! shows gives a chart that says so.

mod axis;
mod drawing;
mod failures;
mod font;
mod heat;
mod outcomes;
mod paint;
mod panels;
mod percentiles;
mod plot;
mod queues;
mod sheet;
mod spans;
#[cfg(test)]
mod tests;
pub(crate) mod theme;

use jiff::tz::TimeZone;

pub(super) use self::axis::{duration, number};
pub(crate) use self::{
    drawing::Drawing,
    paint::{PaintError, png, svg},
};
use crate::series::{Depth, Series};

/// The charts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chart {
    /// Failed requests over time, by cause.
    Failures,
    /// How connections went, by upstream.
    Outcomes,
    /// Time to connect.
    Connect,
    /// Time to connect, by upstream.
    ConnectByUpstream,
    /// Time to the first byte.
    FirstByte,
    /// Time to the first byte, by upstream.
    FirstByteByUpstream,
    /// Accept queues.
    AcceptQueue,
    /// Idle ages at reuse.
    KeepAlive,
}

impl Chart {
    /// All, in the order in which one reads them.
    pub(crate) const ALL: [Self; 8] = [
        Self::Failures,
        Self::Outcomes,
        Self::Connect,
        Self::ConnectByUpstream,
        Self::FirstByte,
        Self::FirstByteByUpstream,
        Self::AcceptQueue,
        Self::KeepAlive,
    ];

    /// The name of its file.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::Outcomes => "outcomes",
            Self::Connect => "connect",
            Self::ConnectByUpstream => "connect-by-upstream",
            Self::FirstByte => "first-byte",
            Self::FirstByteByUpstream => "first-byte-by-upstream",
            Self::AcceptQueue => "accept-queue",
            Self::KeepAlive => "keep-alive",
        }
    }

    /// Its title.
    #[must_use]
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Failures => "Failed requests by cause",
            Self::Outcomes => "How connections went, by upstream",
            Self::Connect => "Time to connect",
            Self::ConnectByUpstream => "Time to connect, by upstream",
            Self::FirstByte => "Time to first byte",
            Self::FirstByteByUpstream => "Time to first byte, by upstream",
            Self::AcceptQueue => "Accept queues against their limits",
            Self::KeepAlive => "Idle age of kept-alive connections at reuse",
        }
    }

    /// Draws it; times are those of `zone`.
    #[must_use]
    pub(crate) fn draw(self, series: &Series, size: Size, zone: &TimeZone) -> Drawing {
        match self {
            Self::Failures => failures::draw(series, size, zone),
            Self::Outcomes => outcomes::draw(series, size),
            Self::Connect => heat::draw(
                &heat::Heat {
                    title: self.title(),
                    note: "from connect() to the end of the TCP handshake, all upstreams",
                    empty: "no connection was made in this capture",
                    axis: "time to connect",
                    counted: "connections per cell:",
                    durations: &series.connect,
                    races: &[],
                },
                series.span,
                size,
                zone,
            ),
            Self::FirstByte => heat::draw(
                &heat::Heat {
                    title: self.title(),
                    note: "from connect(), or the reuse of a kept-alive connection, to the response's first byte; the last request of each connection",
                    empty: "no response began in this capture",
                    axis: "time to first byte",
                    counted: "responses per cell:",
                    durations: &series.first_byte,
                    races: &[],
                },
                series.span,
                size,
                zone,
            ),
            Self::ConnectByUpstream => percentiles::draw(
                &percentiles::Percentiles {
                    title: self.title(),
                    note: "from connect() to the end of the TCP handshake; upstreams with most failures first",
                    empty: "no connection was made in this capture",
                    of: |one| &one.connect,
                },
                series,
                size,
                zone,
            ),
            Self::FirstByteByUpstream => percentiles::draw(
                &percentiles::Percentiles {
                    title: self.title(),
                    note: "from connect(), or the reuse, to the response's first byte; upstreams with most failures first",
                    empty: "no response began in this capture",
                    of: |one| &one.first_byte,
                },
                series,
                size,
                zone,
            ),
            Self::AcceptQueue => queues::draw(series, size, zone),
            Self::KeepAlive => heat::draw(
                &heat::Heat {
                    title: self.title(),
                    note: &races(series),
                    empty: "no kept-alive connection was used again in this capture",
                    axis: "idle for",
                    counted: "reuses per cell:",
                    durations: &series.reuse.ages,
                    races: &series.reuse.races,
                },
                series.span,
                size,
                zone,
            ),
        }
    }
}

fn races(series: &Series) -> String {
    let (raced, marked) = (series.reuse.raced, series.reuse.races.len() as u64);
    let counted = "how long it had been idle at the last reuse of each connection";
    match raced {
        0 => format!("{counted}; no race with the backend's close"),
        _ if raced == marked => format!("{counted}; {} met the backend's close", number(raced)),
        _ => format!(
            "{counted}; {} met the backend's close, {} of them marked",
            number(raced),
            number(marked)
        ),
    }
}

/// How large a drawing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// For a screen or a page.
    Wide,
    /// For a phone.
    Small,
}

impl Size {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Wide, Self::Small];

    fn pixels(self) -> (i32, i32) {
        match self {
            Self::Wide => (1000, 440),
            Self::Small => (400, 420),
        }
    }

    fn edge(self) -> i32 {
        match self {
            Self::Wide => 14,
            Self::Small => 8,
        }
    }

    fn title(self) -> i32 {
        match self {
            Self::Wide => 16,
            Self::Small => 14,
        }
    }

    fn letters(self) -> i32 {
        match self {
            Self::Wide => 12,
            Self::Small => 11,
        }
    }

    /// Spans of time side by side.
    fn columns(self) -> u64 {
        match self {
            Self::Wide => 240,
            Self::Small => 100,
        }
    }

    /// Counts that label an axis.
    fn marks(self) -> i32 {
        match self {
            Self::Wide => 6,
            Self::Small => 5,
        }
    }

    /// Times written below an axis.
    fn time_marks(self) -> i32 {
        match self {
            Self::Wide => 9,
            Self::Small => 4,
        }
    }
}
