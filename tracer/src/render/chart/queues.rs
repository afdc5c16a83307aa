//! Accept queues against their limits.

use jiff::tz::TimeZone;

use super::{
    Chart, Size,
    axis::{Axis, day, number},
    drawing::{Anchor, Drawing, Rect},
    font, panels,
    plot::{Names, Plot},
    sheet::Sheet,
    spans,
    theme::Ink,
};
use crate::{
    render::clean,
    series::{COARSE, Series, Timeline},
};

const FULL: Ink = Ink::Category(0);
const ROOM: Ink = Ink::Category(1);
const LIMIT: Ink = Ink::Text;

pub(super) fn draw(series: &Series, size: Size, zone: &TimeZone) -> Drawing {
    let (ranked, more) = series.queues.ranked(panels::most(size));
    let left_out = match more {
        0 => String::new(),
        more => format!(
            "; {} listeners that were less full are left out",
            number(more as u64)
        ),
    };
    let note = format!(
        "connections waiting for accept(), when a failure made tracer ask; unknown between{left_out}"
    );
    let mut sheet = Sheet::new(size, Chart::AcceptQueue.title(), &note);
    let Some((first, last)) = series.span.filter(|_| !ranked.is_empty()) else {
        return sheet.empty("no listener had to be asked about in this capture");
    };
    sheet.legend(
        "",
        &[
            (FULL, "full".to_owned()),
            (ROOM, "has room".to_owned()),
            (
                LIMIT,
                "limit (the smaller of listen()'s backlog and somaxconn)".to_owned(),
            ),
        ],
    );
    let letters = size.letters();
    let (rooms, bottom) = panels::split(&sheet, ranked.len());
    for ((name, depths), mut room) in ranked.into_iter().zip(rooms) {
        let depths = depths.at_least(spans::width(first, last, COARSE as u64));
        let words = font::fitted(&clean::text(name), letters, room.width());
        sheet.drawing.text(
            (room.left, room.top + letters / 2),
            Anchor::Left,
            letters,
            Ink::Text,
            words,
        );
        room.top += letters + 6;
        let width = depths.width();
        let (first, last) = spans::around(first, last, depths.iter().map(|(at, _)| at), width);
        let most = depths
            .iter()
            .map(|(_, depth)| depth.queue.max(depth.limit))
            .max()
            .unwrap_or(0);
        let plot = Plot::new(
            &mut sheet.drawing,
            room,
            Axis::time(first, last, panels::time_marks(&room), zone),
            Axis::counts(u64::from(most) + 1, size.marks() / 2 + 1),
            &Names {
                x: "",
                y: "",
                letters,
            },
        );
        bars(&mut sheet.drawing, &plot, &depths);
    }
    sheet.drawing.text(
        bottom,
        Anchor::Middle,
        letters,
        Ink::Faint,
        day(first, last, zone),
    );
    sheet.drawing
}

fn bars(drawing: &mut Drawing, plot: &Plot, depths: &Timeline<super::Depth, COARSE>) {
    for (at, depth) in depths.iter().filter(|(_, depth)| depth.asked) {
        let (left, right) = spans::pixels(plot, at, depths.width());
        let ink = if depth.queue > depth.limit {
            FULL
        } else {
            ROOM
        };
        let rect = Rect {
            left,
            top: plot.down(depth.queue.into()),
            right,
            bottom: plot.down(0.0),
        };
        drawing.rectangle(rect, ink);
        let y = plot.down(depth.limit.into());
        drawing.line(vec![(left - 3, y), (right + 3, y)], LIMIT, 2);
    }
}
