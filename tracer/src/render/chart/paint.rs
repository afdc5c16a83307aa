//! A drawing as a file: SVG, or PNG at twice the size for dense screens. Both by plotters'
//! backends.

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use thiserror::Error;

use super::{
    drawing::{Anchor, Drawing, Label, Point, Shape},
    font,
    theme::Ink,
};

/// Pixels of a PNG for each of the sheet.
const DENSITY: i32 = 2;

/// A backend failed, for the reason in words. With a buffer in memory none does.
#[derive(Debug, Error)]
#[error("drawing: {0}")]
pub(crate) struct PaintError(String);

/// The drawing as an SVG document.
///
/// # Errors
/// See [`PaintError`].
pub(crate) fn svg(drawing: &Drawing) -> Result<String, PaintError> {
    let mut document = String::new();
    let backend =
        SVGBackend::with_string(&mut document, (drawing.width as u32, drawing.height as u32));
    paint(drawing, backend.into_drawing_area(), 1)?;
    Ok(document)
}

/// The drawing as a PNG file's bytes.
///
/// # Errors
/// See [`PaintError`].
pub(crate) fn png(drawing: &Drawing) -> Result<Vec<u8>, PaintError> {
    let size = (
        (drawing.width * DENSITY) as u32,
        (drawing.height * DENSITY) as u32,
    );
    let mut pixels = vec![0; size.0 as usize * size.1 as usize * 3];
    let backend = BitMapBackend::with_buffer(&mut pixels, size);
    paint(drawing, backend.into_drawing_area(), DENSITY)?;
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, size.0, size.1);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::High);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&pixels).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(file)
}

fn failed(error: impl std::fmt::Display) -> PaintError {
    PaintError(error.to_string())
}

type Area<DB> = DrawingArea<DB, plotters::coord::Shift>;

fn paint<DB: DrawingBackend>(
    drawing: &Drawing,
    area: Area<DB>,
    density: i32,
) -> Result<(), PaintError> {
    area.fill(&color(Ink::Paper)).map_err(failed)?;
    let scaled = |point: &Point| (point.0 * density, point.1 * density);
    for shape in &drawing.shapes {
        match shape {
            Shape::Rectangle(rect, ink) => {
                let corners = [
                    scaled(&(rect.left, rect.top)),
                    scaled(&(rect.right, rect.bottom)),
                ];
                // The bitmap's right and bottom edges are inside, the SVG's are not.
                let inner = density - 1;
                let corners = [corners[0], (corners[1].0 - inner, corners[1].1 - inner)];
                area.draw(&Rectangle::new(corners, color(*ink).filled()))
            }
            Shape::Line(points, ink, width) => {
                let style = color(*ink).stroke_width(width * density as u32);
                let points: Vec<Point> = points.iter().map(scaled).collect();
                area.draw(&PathElement::new(points, style))
            }
            Shape::Dot(at, radius, ink) => area.draw(&Circle::new(
                scaled(at),
                *radius as i32 * density,
                color(*ink).filled(),
            )),
            Shape::Text(label) => {
                area.draw_text(&label.text, &style(label, density), scaled(&label.at))
            }
        }
        .map_err(failed)?;
    }
    area.present().map_err(failed)
}

fn color(ink: Ink) -> RGBColor {
    let (red, green, blue) = ink.rgb();
    RGBColor(red, green, blue)
}

fn style(label: &Label, density: i32) -> TextStyle<'static> {
    let horizontal = match label.anchor {
        Anchor::Left => HPos::Left,
        Anchor::Middle => HPos::Center,
        Anchor::Right => HPos::Right,
    };
    let font = font::font(label.size * density, label.bold);
    let font = if label.upright {
        font.transform(FontTransform::Rotate270)
    } else {
        font
    };
    let mut style = TextStyle::from(font).pos(Pos::new(horizontal, VPos::Center));
    style.color = color(label.ink).to_backend_color();
    style
}
