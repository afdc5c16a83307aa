//! Failed requests over time, stacked by cause.

use jiff::tz::TimeZone;

use super::{
    Size,
    axis::{Axis, day, duration, number},
    drawing::{Drawing, Rect},
    plot::{Names, Plot},
    sheet::Sheet,
    spans,
    theme::{CATEGORIES, Ink},
};
use crate::series::Series;

pub(super) fn draw(series: &Series, size: Size, zone: &TimeZone) -> Drawing {
    let mut total = crate::series::CauseCounts::default();
    for (_, counts) in series.failures.iter() {
        crate::series::Merge::merge(&mut total, counts.clone());
    }
    let masked = match total.masked() {
        0 => String::new(),
        masked => format!(
            ", {} of them hidden from the client by a retry",
            number(masked)
        ),
    };
    let note = match total.total() {
        1 => format!("1 failed request{masked}"),
        all => format!("{} failed requests{masked}", number(all)),
    };
    let mut sheet = Sheet::new(size, super::Chart::Failures.title(), &note);
    let Some((first, last)) = series.span.filter(|_| total.total() > 0) else {
        return sheet.empty("no failed request in this capture");
    };
    let ranked = total.ranked();
    // With one more cause than colours, the last colour is the others'.
    let own = if ranked.len() > CATEGORIES {
        CATEGORIES - 1
    } else {
        ranked.len()
    };
    let mut legend: Vec<(Ink, String)> = ranked[..own]
        .iter()
        .enumerate()
        .map(|(i, (cause, count, _))| (Ink::Category(i), format!("{cause} ({})", number(*count))))
        .collect();
    if own < ranked.len() {
        let count = ranked[own..].iter().map(|(_, count, _)| count).sum();
        legend.push((
            Ink::Rest,
            format!("{} other causes ({})", ranked.len() - own, number(count)),
        ));
    }
    sheet.legend("", &legend);

    let failures = series
        .failures
        .at_least(spans::width(first, last, size.columns()));
    let width = failures.width();
    let (first, last) = spans::around(first, last, failures.iter().map(|(at, _)| at), width);
    let most = failures
        .iter()
        .map(|(_, counts)| counts.total())
        .max()
        .unwrap_or(0);
    let plot = Plot::new(
        &mut sheet.drawing,
        sheet.body,
        Axis::time(first, last, size.time_marks(), zone),
        Axis::counts(most, size.marks()),
        &Names {
            x: &day(first, last, zone),
            y: &format!("failed requests per {}", duration(width)),
            letters: size.letters(),
        },
    );
    for (at, counts) in failures.iter() {
        let (left, right) = spans::pixels(&plot, at, width);
        let mut below = 0;
        let parts = ranked[..own]
            .iter()
            .enumerate()
            .map(|(i, (cause, _, _))| (Ink::Category(i), counts.of(cause)));
        let rest = ranked[own..]
            .iter()
            .map(|(cause, _, _)| counts.of(cause))
            .sum();
        for (ink, count) in parts.chain([(Ink::Rest, rest)]) {
            let (bottom, top) = (plot.down(below as f64), plot.down((below + count) as f64));
            below += count;
            sheet.drawing.rectangle(
                Rect {
                    left,
                    top,
                    right,
                    bottom,
                },
                ink,
            );
        }
    }
    sheet.drawing
}
