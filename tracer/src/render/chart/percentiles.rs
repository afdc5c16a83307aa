//! Quantiles of a duration over time, a panel for each of the worst upstreams and one for all
//! others.

use jiff::tz::TimeZone;

use super::{
    Size,
    axis::{Axis, day, duration, number},
    drawing::{Anchor, Drawing},
    font, panels,
    plot::{Names, Plot},
    sheet::Sheet,
    spans,
    theme::Ink,
};
use crate::{
    render::clean,
    series::{COARSE, Histogram, Outcomes, Series, Timeline, UpstreamSeries},
};

/// What is shown.
pub(super) struct Percentiles<'a> {
    pub(super) title: &'a str,
    pub(super) note: &'a str,
    pub(super) empty: &'a str,
    /// Which of an upstream's durations.
    pub(super) of: fn(&UpstreamSeries) -> &Timeline<Histogram, COARSE>,
}

/// The longest, then the quantiles, from top to bottom; each with its name, colour and width.
const LINES: [(Option<f64>, &str, Ink, u32); 4] = [
    (None, "max", Ink::Rest, 1),
    (Some(0.99), "p99", Ink::Category(0), 2),
    (Some(0.9), "p90", Ink::Category(2), 2),
    (Some(0.5), "p50", Ink::Category(1), 2),
];

struct Panel {
    name: String,
    outcomes: Outcomes,
    durations: Timeline<Histogram, COARSE>,
}

pub(super) fn draw(
    what: &Percentiles<'_>,
    series: &Series,
    size: Size,
    zone: &TimeZone,
) -> Drawing {
    let mut sheet = Sheet::new(size, what.title, what.note);
    let panels = panels_of(what, series, size);
    let Some((first, last)) = series.span.filter(|_| !panels.is_empty()) else {
        return sheet.empty(what.empty);
    };
    sheet.legend("", &LINES.map(|(_, name, ink, _)| (ink, name.to_owned())));

    let width = panels
        .iter()
        .map(|panel| panel.durations.width())
        .max()
        .unwrap_or(0);
    let width = width.max(spans::width(first, last, COARSE as u64));
    let panels: Vec<Panel> = panels
        .into_iter()
        .map(|panel| Panel {
            durations: panel.durations.at_least(width),
            ..panel
        })
        .collect();
    let all = || panels.iter().flat_map(|panel| panel.durations.iter());
    let least = all().filter_map(|(_, one)| one.least()).min().unwrap_or(1);
    let most = all().map(|(_, one)| one.max()).max().unwrap_or(1);
    let (first, last) = spans::around(first, last, all().map(|(at, _)| at), width);

    let letters = size.letters();
    let below = day(first, last, zone);
    let (rooms, bottom) = panels::split(&sheet, panels.len());
    for (panel, mut room) in panels.iter().zip(rooms) {
        let words = format!("{}  {}", panel.name, said(&panel.outcomes));
        let words = font::fitted(&words, letters, room.width());
        sheet.drawing.text(
            (room.left, room.top + letters / 2),
            Anchor::Left,
            letters,
            Ink::Text,
            words,
        );
        room.top += letters + 6;
        let plot = Plot::new(
            &mut sheet.drawing,
            room,
            Axis::time(first, last, panels::time_marks(&room), zone),
            Axis::durations(least, most),
            &Names {
                x: "",
                y: "",
                letters,
            },
        );
        lines(&mut sheet.drawing, &plot, &panel.durations, width);
    }
    let note = format!("{below}; quantiles of each {}", duration(width));
    sheet
        .drawing
        .text(bottom, Anchor::Middle, letters, Ink::Faint, note);
    sheet.drawing
}

fn lines(drawing: &mut Drawing, plot: &Plot, durations: &Timeline<Histogram, COARSE>, width: u64) {
    for (quantile, _, ink, thickness) in LINES {
        let value = |one: &Histogram| match quantile {
            Some(q) => one.quantile(q),
            None => (one.count() > 0).then(|| one.max()),
        };
        let points: Vec<_> = durations
            .iter()
            .filter_map(|(at, one)| {
                Some(plot.at(at.saturating_add(width / 2) as f64, value(one)? as f64))
            })
            .collect();
        // A span of its own makes no line.
        match points[..] {
            [only] => drawing.dot(only, thickness + 1, ink),
            _ => drawing.line(points, ink, thickness),
        }
    }
}

/// The worst upstreams, then all others as one; only those with durations.
fn panels_of(what: &Percentiles<'_>, series: &Series, size: Size) -> Vec<Panel> {
    let ranking = series
        .upstreams
        .ranked(panels::most(size) - 1, |one| !(what.of)(one).is_empty());
    let mut panels: Vec<Panel> = ranking
        .first
        .iter()
        .map(|(upstream, one)| Panel {
            name: clean::text(&upstream.to_string()),
            outcomes: one.outcomes,
            durations: (what.of)(one).clone(),
        })
        .collect();
    let durations = (what.of)(&ranking.others).clone();
    if !durations.is_empty() {
        panels.push(Panel {
            name: ranking.others_name(number),
            outcomes: ranking.others.outcomes,
            durations,
        });
    }
    panels
}

fn said(outcomes: &Outcomes) -> String {
    format!(
        "{} connections, {} failed",
        number(outcomes.total()),
        number(outcomes.failed())
    )
}
