//! Several small plots on one sheet.

use super::{
    Size,
    drawing::{Point, Rect},
    sheet::Sheet,
};

/// Pixels between two.
const GAP: i32 = 14;

/// How many there are at most.
pub(super) fn most(size: Size) -> usize {
    match size {
        Size::Wide => 6,
        Size::Small => 3,
    }
}

/// Rooms for so many, and where one line for all goes below them.
pub(super) fn split(sheet: &Sheet, count: usize) -> (Vec<Rect>, Point) {
    let columns = match sheet.size {
        Size::Wide => count.clamp(1, 3),
        Size::Small => 1,
    };
    let (rows, letters) = (count.div_ceil(columns).max(1), sheet.size.letters());
    let body = Rect {
        top: sheet.body.top + 4,
        bottom: sheet.body.bottom - letters - 4,
        ..sheet.body
    };
    let share = |length: i32, parts: usize, i: usize| (length + GAP) * i as i32 / parts as i32;
    let rooms = (0..count)
        .map(|i| {
            let (row, column) = (i / columns, i % columns);
            Rect {
                left: body.left + share(body.width(), columns, column),
                top: body.top + share(body.height(), rows, row),
                right: body.left + share(body.width(), columns, column + 1) - GAP,
                bottom: body.top + share(body.height(), rows, row + 1) - GAP,
            }
        })
        .collect();
    (
        rooms,
        (
            (body.left + body.right) / 2,
            sheet.body.bottom - letters / 2,
        ),
    )
}

/// Marks of time that have room in a plot.
pub(super) fn time_marks(room: &Rect) -> i32 {
    room.width() / 90
}
