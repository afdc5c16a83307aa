//! The part of a sheet between two axes.

use super::{
    axis::Axis,
    drawing::{Anchor, Drawing, Point, Rect},
    font,
    theme::Ink,
};

/// Where values go.
pub(super) struct Plot {
    pub(super) inner: Rect,
    pub(super) x: Axis,
    pub(super) y: Axis,
}

/// The labels of the axes.
pub(super) struct Names<'a> {
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    pub(super) letters: i32,
}

impl Plot {
    /// Draws both axes within `room`, what they say and lines to read along.
    pub(super) fn new(
        drawing: &mut Drawing,
        room: Rect,
        x: Axis,
        y: Axis,
        names: &Names<'_>,
    ) -> Self {
        let letters = names.letters;
        let widest = y
            .marks
            .iter()
            .map(|(_, name)| font::width(name, letters, false))
            .max()
            .unwrap_or(0);
        let title = |name: &str| if name.is_empty() { 0 } else { letters + 6 };
        let inner = Rect {
            left: room.left + title(names.y) + widest + 8,
            top: room.top + letters / 2,
            right: room.right - letters,
            bottom: room.bottom - title(names.x) - letters - 8,
        };
        let plot = Self { inner, x, y };
        plot.marks_of_y(drawing, letters);
        plot.marks_of_x(drawing, letters);
        let axis = vec![
            (inner.left, inner.top),
            (inner.left, inner.bottom),
            (inner.right, inner.bottom),
        ];
        drawing.line(axis, Ink::Axis, 1);
        if !names.y.is_empty() {
            let middle = (inner.top + inner.bottom) / 2;
            let name = font::fitted(names.y, letters, room.bottom - room.top);
            drawing.upright((room.left + letters / 2, middle), letters, Ink::Faint, name);
        }
        if !names.x.is_empty() {
            let at = ((inner.left + inner.right) / 2, room.bottom - letters / 2);
            let name = font::fitted(names.x, letters, room.width());
            drawing.text(at, Anchor::Middle, letters, Ink::Faint, name);
        }
        plot
    }

    /// The pixel of a pair of values.
    pub(super) fn at(&self, x: f64, y: f64) -> Point {
        (self.across(x), self.down(y))
    }

    pub(super) fn across(&self, x: f64) -> i32 {
        self.x.place(x, self.inner.left, self.inner.right)
    }

    pub(super) fn down(&self, y: f64) -> i32 {
        self.y.place(y, self.inner.bottom, self.inner.top)
    }

    fn marks_of_y(&self, drawing: &mut Drawing, letters: i32) {
        let mut free = i32::MAX;
        for (value, name) in &self.y.marks {
            let y = self.down(*value);
            drawing.line(
                vec![(self.inner.left, y), (self.inner.right, y)],
                Ink::Grid,
                1,
            );
            // Marks go upwards: one that has no room above the last is not written.
            if y + letters / 2 < free {
                drawing.text(
                    (self.inner.left - 6, y),
                    Anchor::Right,
                    letters,
                    Ink::Faint,
                    name,
                );
                free = y - letters / 2 - 1;
            }
        }
    }

    fn marks_of_x(&self, drawing: &mut Drawing, letters: i32) {
        let mut free = i32::MIN;
        for (value, name) in &self.x.marks {
            let x = self.across(*value);
            let half = font::width(name, letters, false) / 2;
            drawing.line(
                vec![(x, self.inner.bottom), (x, self.inner.bottom + 4)],
                Ink::Axis,
                1,
            );
            if x - half > free && x + half < drawing.width {
                drawing.text(
                    (x, self.inner.bottom + 7 + letters / 2),
                    Anchor::Middle,
                    letters,
                    Ink::Faint,
                    name,
                );
                free = x + half + 8;
            }
        }
    }
}
