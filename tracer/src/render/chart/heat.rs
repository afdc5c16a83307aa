//! Durations over time: how many fell into each cell of time and (logarithmic) duration.

use jiff::tz::TimeZone;

use super::{
    Size,
    axis::{Axis, day, number},
    drawing::{Drawing, Rect},
    plot::{Names, Plot},
    sheet::Sheet,
    spans,
    theme::{Ink, STEPS},
};
use crate::series::{FINE, Histogram, Race, Timeline};

/// What is shown.
pub(super) struct Heat<'a> {
    pub(super) title: &'a str,
    pub(super) note: &'a str,
    pub(super) empty: &'a str,
    /// The label of the axis of durations.
    pub(super) axis: &'a str,
    /// What a cell counts.
    pub(super) counted: &'a str,
    pub(super) durations: &'a Timeline<Histogram, FINE>,
    /// Single ones to mark, and how many there are of their kind.
    pub(super) races: &'a [Race],
}

/// What a span of time has within one row: from, to (nanoseconds), how many.
type Cell = (u64, u64, u64);

/// Rows of a chart at most; the bins of a histogram (8 an octave) make one or several of them.
const ROWS: u32 = 40;

pub(super) fn draw(
    heat: &Heat<'_>,
    span: Option<(u64, u64)>,
    size: Size,
    zone: &TimeZone,
) -> Drawing {
    let mut sheet = Sheet::new(size, heat.title, heat.note);
    let span = span.filter(|_| !heat.durations.is_empty() || !heat.races.is_empty());
    let Some((first, last)) = span else {
        return sheet.empty(heat.empty);
    };
    let durations = heat
        .durations
        .at_least(spans::width(first, last, size.columns()));
    let width = durations.width();
    let octaves = octaves(&durations, heat.races);
    let part = [8, 4, 2]
        .into_iter()
        .find(|part| octaves * part <= ROWS)
        .unwrap_or(1);
    let cells: Vec<(u64, Vec<Cell>)> = durations
        .iter()
        .map(|(at, histogram)| (at, rows(histogram, part.into())))
        .collect();
    let all = || cells.iter().flat_map(|(_, rows)| rows);
    let most = all().map(|(_, _, count)| *count).max().unwrap_or(1);
    let mut legend: Vec<(Ink, String)> = (0..STEPS).filter_map(|step| key(step, most)).collect();
    if !heat.races.is_empty() {
        legend.push((Ink::Category(0), "keepalive-race".to_owned()));
    }
    sheet.legend(heat.counted, &legend);

    let ages = heat.races.iter().map(|race| race.idle);
    let least = all()
        .map(|(from, _, _)| *from)
        .chain(ages.clone())
        .min()
        .unwrap_or(1);
    let longest = all().map(|(_, to, _)| *to).chain(ages).max().unwrap_or(1);
    let begins = cells.iter().map(|(at, _)| *at);
    let (first, last) = spans::around(first, last, begins, width);
    let plot = Plot::new(
        &mut sheet.drawing,
        sheet.body,
        Axis::time(first, last, size.time_marks(), zone),
        Axis::durations(least, longest),
        &Names {
            x: &day(first, last, zone),
            y: heat.axis,
            letters: size.letters(),
        },
    );
    for (at, rows) in &cells {
        let left = plot.across(*at as f64);
        let right = plot.across(at.saturating_add(width) as f64).max(left + 2);
        for (from, to, count) in rows {
            let (bottom, top) = (plot.down(*from as f64), plot.down(*to as f64));
            let ink = Ink::Step(step(*count, most));
            sheet.drawing.rectangle(
                Rect {
                    left,
                    top: top.min(bottom - 1),
                    right,
                    bottom,
                },
                ink,
            );
        }
    }
    for race in heat.races {
        sheet.drawing.dot(
            plot.at(race.at as f64, race.idle as f64),
            3,
            Ink::Category(0),
        );
    }
    sheet.drawing
}

/// How many octaves all durations span.
fn octaves(durations: &Timeline<Histogram, FINE>, races: &[Race]) -> u32 {
    let ages = races.iter().map(|race| race.idle);
    let least = durations
        .iter()
        .filter_map(|(_, one)| one.least())
        .chain(ages.clone())
        .min();
    let most = durations.iter().map(|(_, one)| one.max()).chain(ages).max();
    let octave = |value: Option<u64>| value.unwrap_or(1).max(1).ilog2();
    octave(most) - octave(least).min(octave(most)) + 1
}

/// From, to, count of each row that is not empty; an octave has so many.
fn rows(histogram: &Histogram, part: u64) -> Vec<Cell> {
    let mut rows: Vec<Cell> = Vec::new();
    for (range, count) in histogram.bins() {
        let (from, to) = row_of(range.start, part);
        match rows.last_mut() {
            Some(row) if row.0 == from => row.2 += count,
            _ => rows.push((from, to, count)),
        }
    }
    rows
}

/// The row that a duration lies in, of so many an octave.
fn row_of(value: u64, part: u64) -> (u64, u64) {
    let value = value.max(8);
    let octave = 1u64 << value.ilog2();
    let width = octave / part;
    let from = octave + (value - octave) / width * width;
    (from, from.saturating_add(width))
}

/// The steps grow by the same factor from 1 to `most`.
fn step(count: u64, most: u64) -> usize {
    let share = (count.max(1) as f64).ln() / (most.max(2) as f64).ln();
    ((share * STEPS as f64) as usize).min(STEPS - 1)
}

/// The counts of a step, `None` where no whole number falls into it.
fn key(of: usize, most: u64) -> Option<(Ink, String)> {
    let bound = |step: usize| (most.max(2) as f64).powf(step as f64 / STEPS as f64);
    // Rounding may be off by one either way: the step itself decides.
    let near = |value: f64| {
        (value as u64).saturating_sub(1).max(1)..=(value as u64).saturating_add(2).min(most)
    };
    let least = near(bound(of)).find(|count| step(*count, most) == of)?;
    let greatest = near(bound(of + 1))
        .rev()
        .find(|count| step(*count, most) == of)?;
    let name = if least == greatest {
        number(least)
    } else {
        format!("{}–{}", number(least), number(greatest))
    };
    Some((Ink::Step(of), name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_count_is_in_the_legend_once(most in 1u64..3_000_000, count in 1u64..3_000_000) {
            let count = count.min(most);
            let name = key(step(count, most), most).expect("its step is in the legend").1;
            let (least, greatest) = name.split_once('–').unwrap_or((&name, &name));
            let value = |text: &str| text.replace(',', "").parse::<u64>().expect("a number");
            prop_assert!((value(least)..=value(greatest)).contains(&count), "{count} of {most} in {name}");
        }

        #[test]
        fn a_duration_lies_in_its_row(value in 8u64..u64::MAX / 4, part in prop::sample::select(vec![1, 2, 4, 8])) {
            let (from, to) = row_of(value, part);
            prop_assert!((from..to).contains(&value));
        }
    }
}
