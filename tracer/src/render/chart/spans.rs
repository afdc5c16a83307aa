//! From spans of time to pixels.

use super::plot::Plot;

/// The width of a span, in nanoseconds, with which `first` to `last` takes at most so many.
pub(super) fn width(first: u64, last: u64, columns: u64) -> u64 {
    (last - first) / columns
}

/// `first` to `last` with all spans that begin at `begins` in whole; at least a second, so that a
/// moment has a place.
pub(super) fn around(
    first: u64,
    last: u64,
    begins: impl Iterator<Item = u64>,
    width: u64,
) -> (u64, u64) {
    let (first, last) = begins.fold((first, last), |(first, last), begin| {
        (first.min(begin), last.max(begin.saturating_add(width)))
    });
    match 1_000_000_000u64.checked_sub(last - first) {
        Some(missing) => (
            first.saturating_sub(missing / 2),
            last.saturating_add(missing / 2),
        ),
        None => (first, last),
    }
}

/// The left and the right edge of a span: at least two pixels, with a gap where there is room for
/// one.
pub(super) fn pixels(plot: &Plot, begin: u64, width: u64) -> (i32, i32) {
    let (left, right) = (
        plot.across(begin as f64),
        plot.across(begin.saturating_add(width) as f64),
    );
    let gap = i32::from(right - left >= 5);
    (left, (right - gap).max(left + 2))
}
