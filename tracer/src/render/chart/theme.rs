//! Colours by meaning. Categories are Okabe and Ito's, which people who see fewer colours tell
//! apart; scales differ in brightness, too.
//!
//! A drawing has the colours of light paper. A page that may be dark maps each to its counterpart
//! in CSS, by value.

use std::fmt::Write as _;

/// What a colour stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ink {
    /// The background.
    Paper,
    /// Titles, values.
    Text,
    /// Labels, notes.
    Faint,
    /// Lines to read along.
    Grid,
    /// The edges of a plot.
    Axis,
    /// The n-th category; beyond the last it is [`Ink::Rest`].
    Category(usize),
    /// All others.
    Rest,
    /// Step 0 (little) to [`STEPS`] − 1 (much).
    Step(usize),
}

/// Categories that have a colour of their own.
pub(crate) const CATEGORIES: usize = 6;
/// Steps of the scale.
pub(crate) const STEPS: usize = 7;

type Pair = (u32, u32);

const PAPER: Pair = (0xff_ffff, 0x0d_1117);
const TEXT: Pair = (0x1f_2328, 0xe6_edf3);
const FAINT: Pair = (0x59_636e, 0x9d_a7b1);
const GRID: Pair = (0xe1_e4e8, 0x2a_3139);
const AXIS: Pair = (0x8c_959f, 0x6e_7681);
const REST: Pair = (0x9a_9a9a, 0x8b_8b8c);
/// Vermilion, blue, orange, green, sky, purple.
const CATEGORY: [Pair; CATEGORIES] = [
    (0xd5_5e00, 0xf0_7d2a),
    (0x00_72b2, 0x3a_97d4),
    (0xe6_9f00, 0xf0_b429),
    (0x00_9e73, 0x1f_b98b),
    (0x56_b4e9, 0x9a_d6f7),
    (0xcc_79a7, 0xdb_94ba),
];
const STEP: [Pair; STEPS] = [
    (0xd6_e6f4, 0x1f_4a7d),
    (0xb5_d3ea, 0x25_5c9b),
    (0x8d_bfe0, 0x2f_70b8),
    (0x63_a6d3, 0x42_88cc),
    (0x3d_88c2, 0x66_9fdb),
    (0x1e_66a8, 0x98_c5ed),
    (0x08_3f7d, 0xde_ecf9),
];

impl Ink {
    fn pair(self) -> Pair {
        match self {
            Self::Paper => PAPER,
            Self::Text => TEXT,
            Self::Faint => FAINT,
            Self::Grid => GRID,
            Self::Axis => AXIS,
            Self::Category(n) => CATEGORY.get(n).copied().unwrap_or(REST),
            Self::Rest => REST,
            Self::Step(n) => STEP[n.min(STEPS - 1)],
        }
    }

    /// Red, green and blue on light paper.
    #[must_use]
    pub(crate) fn rgb(self) -> (u8, u8, u8) {
        let [_, red, green, blue] = self.pair().0.to_be_bytes();
        (red, green, blue)
    }
}

/// CSS that shows the drawings within `scope` on dark paper.
#[must_use]
pub(crate) fn dark_css(scope: &str) -> String {
    let single = [PAPER, TEXT, FAINT, GRID, AXIS, REST];
    let mut css = String::new();
    for (light, dark) in single.iter().chain(&CATEGORY).chain(&STEP) {
        // Writing to a String never fails.
        let _ = write!(
            css,
            "{scope} [fill=\"#{light:06X}\"]{{fill:#{dark:06X}}}{scope} [stroke=\"#{light:06X}\"]{{stroke:#{dark:06X}}}"
        );
    }
    css
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn luminance(color: u32) -> f64 {
        let channel = |byte: u8| {
            let c = f64::from(byte) / 255.0;
            if c <= 0.040_45 {
                c / 12.92
            } else {
                ((c + 0.055) / 1.055).powf(2.4)
            }
        };
        let [_, r, g, b] = color.to_be_bytes();
        0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b)
    }

    fn contrast(a: u32, b: u32) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn each_colour_is_known_by_its_value() {
        let single = [PAPER, TEXT, FAINT, GRID, AXIS, REST];
        let all: Vec<u32> = single
            .iter()
            .chain(&CATEGORY)
            .chain(&STEP)
            .map(|pair| pair.0)
            .collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    }

    /// WCAG: 4.5 for text; what is drawn is large, and has its legend.
    #[test]
    fn text_and_marks_stand_out_on_both_papers() {
        for paper in [|pair: Pair| pair.0, |pair: Pair| pair.1] {
            for text in [TEXT, FAINT] {
                assert!(contrast(paper(text), paper(PAPER)) >= 4.5, "{text:x?}");
            }
            for mark in CATEGORY.iter().chain([&REST]) {
                assert!(contrast(paper(*mark), paper(PAPER)) >= 2.0, "{mark:x?}");
            }
        }
    }

    #[test]
    fn the_scale_grows_away_from_the_paper() {
        for pair in STEP.windows(2) {
            assert!(luminance(pair[0].0) > luminance(pair[1].0));
            assert!(luminance(pair[0].1) < luminance(pair[1].1));
        }
    }
}
