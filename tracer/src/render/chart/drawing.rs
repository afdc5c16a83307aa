//! A drawing: shapes on a sheet, in the order in which they are laid. Charts make it,
//! [`super::paint`] gives it to a backend, tests look at it.

use super::theme::Ink;

/// A place on the sheet: pixels from the left and from the top.
pub(crate) type Point = (i32, i32);

/// Where a text's place is on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchor {
    /// Its left end, at half its height.
    Left,
    /// Its middle.
    Middle,
    /// Its right end, at half its height.
    Right,
}

/// Something on the sheet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A filled rectangle.
    Rectangle(Rect, Ink),
    /// Straight lines from point to point, so many pixels wide.
    Line(Vec<Point>, Ink, u32),
    /// A filled circle.
    Dot(Point, u32, Ink),
    /// One line of text.
    Text(Label),
}

/// One line of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    /// Letters only: nothing that a terminal or a parser obeys.
    pub text: String,
    /// Where.
    pub at: Point,
    /// Which part of the text is there.
    pub anchor: Anchor,
    /// Pixels.
    pub size: i32,
    /// In bold letters.
    pub bold: bool,
    /// Its colour.
    pub ink: Ink,
    /// It reads from below to above.
    pub upright: bool,
}

/// Part of the sheet; the right and the bottom edge are outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rect {
    /// Pixels from the left.
    pub left: i32,
    /// Pixels from the top.
    pub top: i32,
    /// See `left`.
    pub right: i32,
    /// See `top`.
    pub bottom: i32,
}

impl Rect {
    /// Pixels across.
    #[must_use]
    pub(crate) fn width(&self) -> i32 {
        self.right - self.left
    }

    /// Pixels down.
    #[must_use]
    pub(crate) fn height(&self) -> i32 {
        self.bottom - self.top
    }
}

/// Shapes on a sheet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Drawing {
    /// Pixels across.
    pub width: i32,
    /// Pixels down.
    pub height: i32,
    /// The lowest first.
    pub shapes: Vec<Shape>,
    /// There was nothing to show, which it says.
    pub is_empty: bool,
}

impl Drawing {
    pub(super) fn rectangle(&mut self, rect: Rect, ink: Ink) {
        if rect.width() > 0 && rect.height() > 0 {
            self.shapes.push(Shape::Rectangle(rect, ink));
        }
    }

    pub(super) fn line(&mut self, points: Vec<Point>, ink: Ink, width: u32) {
        self.shapes.push(Shape::Line(points, ink, width));
    }

    pub(super) fn dot(&mut self, at: Point, radius: u32, ink: Ink) {
        self.shapes.push(Shape::Dot(at, radius, ink));
    }

    pub(super) fn text(
        &mut self,
        at: Point,
        anchor: Anchor,
        size: i32,
        ink: Ink,
        text: impl Into<String>,
    ) {
        self.label(at, anchor, size, ink, text.into(), false, false);
    }

    pub(super) fn bold(&mut self, at: Point, anchor: Anchor, size: i32, text: impl Into<String>) {
        self.label(at, anchor, size, Ink::Text, text.into(), true, false);
    }

    pub(super) fn upright(&mut self, at: Point, size: i32, ink: Ink, text: impl Into<String>) {
        self.label(at, Anchor::Middle, size, ink, text.into(), false, true);
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "each of the above gives some of them a name"
    )]
    fn label(
        &mut self,
        at: Point,
        anchor: Anchor,
        size: i32,
        ink: Ink,
        text: String,
        bold: bool,
        upright: bool,
    ) {
        self.shapes.push(Shape::Text(Label {
            text,
            at,
            anchor,
            size,
            bold,
            ink,
            upright,
        }));
    }
}
