//! What every chart has: a title, a line that says what is shown, a legend, and the room that is
//! left for the plot.

use super::{
    Size,
    drawing::{Anchor, Drawing, Rect},
    font,
    theme::Ink,
};

/// A sheet with its heading, and the rest of it.
pub(super) struct Sheet {
    pub(super) drawing: Drawing,
    pub(super) body: Rect,
    pub(super) size: Size,
}

const SWATCH: i32 = 11;

impl Sheet {
    pub(super) fn new(size: Size, title: &str, note: &str) -> Self {
        let (width, height) = size.pixels();
        let edge = size.edge();
        let mut sheet = Self {
            drawing: Drawing {
                width,
                height,
                shapes: Vec::new(),
                is_empty: false,
            },
            body: Rect {
                left: edge,
                top: edge,
                right: width - edge,
                bottom: height - edge,
            },
            size,
        };
        let (large, small) = (size.title(), size.letters());
        sheet
            .drawing
            .bold((edge, edge + large / 2), Anchor::Left, large, title);
        sheet.body.top += large + 6;
        for line in wrapped(note, small, sheet.body.width()) {
            let at = (edge, sheet.body.top + small / 2);
            sheet
                .drawing
                .text(at, Anchor::Left, small, Ink::Faint, line);
            sheet.body.top += small + 4;
        }
        sheet.body.top += 4;
        sheet
    }

    /// What the swatches count, if anything, then swatches with their names, in as many rows as
    /// they take.
    pub(super) fn legend(&mut self, counted: &str, entries: &[(Ink, String)]) {
        let (letters, edge) = (self.size.letters(), self.body.left);
        let (mut x, mut y) = (edge, self.body.top + letters / 2);
        if !counted.is_empty() {
            self.drawing
                .text((x, y), Anchor::Left, letters, Ink::Faint, counted);
            x += font::width(counted, letters, false) + 10;
        }
        for (ink, name) in entries {
            let name = font::fitted(name, letters, self.body.width() - SWATCH - 6);
            let length = SWATCH + 5 + font::width(&name, letters, false);
            if x > edge && x + length > self.body.right {
                (x, y) = (edge, y + letters + 5);
            }
            let swatch = Rect {
                left: x,
                top: y - SWATCH / 2,
                right: x + SWATCH,
                bottom: y - SWATCH / 2 + SWATCH,
            };
            self.drawing.rectangle(swatch, *ink);
            self.drawing
                .text((x + SWATCH + 5, y), Anchor::Left, letters, Ink::Text, name);
            x += length + 14;
        }
        self.body.top = y + letters / 2 + 8;
    }

    /// A plot with nothing in it, and why.
    pub(super) fn empty(mut self, why: &str) -> Drawing {
        self.drawing.is_empty = true;
        let Rect {
            left,
            top,
            right,
            bottom,
        } = self.body;
        let frame = vec![
            (left, top),
            (right, top),
            (right, bottom),
            (left, bottom),
            (left, top),
        ];
        self.drawing.line(frame, Ink::Grid, 1);
        let letters = self.size.letters() + 1;
        let lines = wrapped(why, letters, right - left - 24);
        let mut y = (top + bottom - (lines.len() as i32 - 1) * (letters + 5)) / 2;
        for line in lines {
            self.drawing.text(
                ((left + right) / 2, y),
                Anchor::Middle,
                letters,
                Ink::Faint,
                line,
            );
            y += letters + 5;
        }
        self.drawing
    }
}

/// Lines no longer than so many pixels.
fn wrapped(text: &str, size: i32, room: i32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if font::width(&format!("{line} {word}"), size, false) <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
