//! The letters of the charts: a font within the binary, as a static binary's host may have none.

use std::sync::Once;

use plotters::style::{FontDesc, FontFamily, FontStyle, register_font};

/// The name that viewers of an SVG take their own font by; ours is registered as it, for measuring
/// and for PNG.
pub(super) const FAMILY: FontFamily<'static> = FontFamily::SansSerif;
const REGULAR: &[u8] = include_bytes!("../../../assets/DejaVuSans.ttf");
const BOLD: &[u8] = include_bytes!("../../../assets/DejaVuSans-Bold.ttf");
/// plotters counts a font's size from its highest to its lowest letter.
const LINE_OF_EM: f64 = 1.24;

/// The font of a size in pixels.
pub(super) fn font(size: i32, bold: bool) -> FontDesc<'static> {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        for (style, bytes) in [(FontStyle::Normal, REGULAR), (FontStyle::Bold, BOLD)] {
            // Bytes that are no font would leave all charts without letters; the tests draw them.
            let _ = register_font(FAMILY.as_str(), style, bytes);
        }
    });
    let style = if bold {
        FontStyle::Bold
    } else {
        FontStyle::Normal
    };
    FontDesc::new(FAMILY, f64::from(size) * LINE_OF_EM, style)
}

/// How long a text is, in pixels.
pub(super) fn width(text: &str, size: i32, bold: bool) -> i32 {
    let measured = font(size, bold).box_size(text);
    measured.map_or(0, |(width, _)| i32::try_from(width).unwrap_or(i32::MAX / 4))
}

/// The text, its middle left out if it is longer than so many pixels.
pub(super) fn fitted(text: &str, size: i32, room: i32) -> String {
    if width(text, size, false) <= room {
        return text.to_owned();
    }
    let letters: Vec<char> = text.chars().collect();
    let cut = |keep: usize| {
        let (head, tail) = (keep.div_ceil(2), keep / 2);
        let tail = letters[letters.len() - tail..].iter();
        letters[..head]
            .iter()
            .chain(&['…'])
            .chain(tail)
            .collect::<String>()
    };
    let fits = |keep: &usize| width(&cut(*keep), size, false) <= room;
    let keep = (0..letters.len()).rev().find(fits).unwrap_or(0);
    cut(keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_lose_their_middle() {
        assert_eq!(fitted("10.0.0.1:80", 12, 400), "10.0.0.1:80");
        let short = fitted("unix:/srv/applications/shop/current/run/puma.sock", 12, 120);
        assert!(
            short.starts_with("unix:/") && short.ends_with(".sock") && short.contains('…'),
            "{short}"
        );
        assert!(width(&short, 12, false) <= 120);
        assert_eq!(fitted("anything", 12, 1), "…");
    }

    #[test]
    fn bold_letters_are_wider() {
        assert!(width("Failed requests", 15, true) > width("Failed requests", 15, false));
    }
}
