//! How the connections to each upstream went, the worst upstreams first.

use super::{
    Chart, Size,
    axis::{Axis, number},
    drawing::{Anchor, Drawing, Rect},
    font,
    plot::{Names, Plot},
    sheet::Sheet,
    theme::Ink,
};
use crate::{
    render::clean,
    series::{Outcome, Outcomes, Series},
};

/// From the left to the right of a bar.
const PARTS: [(Outcome, Ink, &str); 5] = [
    (
        Outcome::NotConnected,
        Ink::Category(0),
        "connection refused or failed",
    ),
    (Outcome::NoReply, Ink::Category(2), "no reply to the SYN"),
    (
        Outcome::BrokenOff,
        Ink::Category(5),
        "ended before an answer",
    ),
    (Outcome::Unanswered, Ink::Category(4), "no answer in time"),
    (Outcome::Answered, Ink::Category(3), "answered"),
];

pub(super) fn draw(series: &Series, size: Size) -> Drawing {
    let total = series.upstreams.total();
    let note = format!(
        "share of attempts, worst upstreams first; {} in all, {} failed",
        number(total.attempts()),
        number(total.failed())
    );
    let mut sheet = Sheet::new(size, Chart::Outcomes.title(), &note);
    let rows = rows(series, size);
    if rows.is_empty() {
        return sheet.empty("no connection to an upstream in this capture");
    }
    let seen = PARTS
        .iter()
        .filter(|(outcome, _, _)| total.of(*outcome) > 0);
    sheet.legend(
        "",
        &seen
            .map(|(_, ink, name)| (*ink, (*name).to_owned()))
            .collect::<Vec<_>>(),
    );

    let letters = size.letters();
    let (most, least) = match size {
        Size::Wide => (260, 150),
        Size::Small => (120, 90),
    };
    let names: Vec<String> = rows
        .iter()
        .map(|(name, _)| font::fitted(name, letters, most))
        .collect();
    let said: Vec<String> = rows
        .iter()
        .map(|(_, outcomes)| said(outcomes, size))
        .collect();
    let longest = |texts: &[String]| {
        texts
            .iter()
            .map(|text| font::width(text, letters, false))
            .max()
            .unwrap_or(0)
    };
    let room = Rect {
        left: sheet.body.left + longest(&names).max(least.min(most)) + 8,
        right: sheet.body.right - longest(&said) - 2,
        ..sheet.body
    };
    let plot = Plot::new(
        &mut sheet.drawing,
        room,
        Axis::shares(),
        Axis::shares().unmarked(),
        &Names {
            x: "",
            y: "",
            letters,
        },
    );
    let height = plot.inner.height() / rows.len() as i32;
    let thick = (height * 3 / 5).clamp(4, 22);
    for (i, (_, outcomes)) in rows.iter().enumerate() {
        let middle = plot.inner.top + height * i as i32 + height / 2;
        sheet.drawing.text(
            (room.left, middle),
            Anchor::Right,
            letters,
            Ink::Text,
            &names[i],
        );
        let at = (plot.inner.right + 8, middle);
        sheet
            .drawing
            .text(at, Anchor::Left, letters, Ink::Faint, &said[i]);
        bar(
            &mut sheet.drawing,
            &plot,
            middle - thick / 2,
            thick,
            outcomes,
        );
    }
    sheet.drawing
}

/// Every part that there is shows, however small.
fn bar(drawing: &mut Drawing, plot: &Plot, top: i32, thick: i32, outcomes: &Outcomes) {
    let (mut left, mut below) = (plot.inner.left, 0);
    for (outcome, ink, _) in PARTS {
        let count = outcomes.attempts_of(outcome);
        below += count;
        if count > 0 {
            let end = plot.across(below as f64 / outcomes.attempts() as f64);
            let right = end.max(left + 3).min(plot.inner.right);
            drawing.rectangle(
                Rect {
                    left,
                    top,
                    right,
                    bottom: top + thick,
                },
                ink,
            );
            left = right;
        }
    }
}

fn rows(series: &Series, size: Size) -> Vec<(String, Outcomes)> {
    let most = match size {
        Size::Wide => 14,
        Size::Small => 9,
    };
    let ranking = series
        .upstreams
        .ranked(most - 1, |one| one.outcomes.total() > 0);
    let mut rows: Vec<(String, Outcomes)> = ranking
        .first
        .iter()
        .map(|(upstream, one)| (clean::text(&upstream.to_string()), one.outcomes))
        .collect();
    if ranking.others.outcomes.total() > 0 {
        rows.push((ranking.others_name(number), ranking.others.outcomes));
    }
    rows
}

fn said(outcomes: &Outcomes, size: Size) -> String {
    let (failed, total) = (number(outcomes.failed()), number(outcomes.attempts()));
    match size {
        Size::Wide => format!("{failed} of {total} failed"),
        Size::Small => format!("{failed}/{total}"),
    }
}
