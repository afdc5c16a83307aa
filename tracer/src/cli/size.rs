//! Sizes as users write them: a number and K, M or G.

/// Returns bytes, at least `least`.
///
/// # Errors
/// The text is no size, or too small; says what a size looks like.
pub(super) fn at_least(least: u64, text: &str) -> Result<u64, String> {
    let words = || {
        format!(
            "a number and K, M or G, at least {}K, as in 500K, 100M, 2G",
            least >> 10
        )
    };
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor: u64 = match &text[digits.len()..] {
        "" => 1,
        "K" | "k" => 1 << 10,
        "M" | "m" => 1 << 20,
        "G" | "g" => 1 << 30,
        _ => return Err(words()),
    };
    let number = digits.parse::<u64>().ok();
    number
        .and_then(|number| number.checked_mul(factor))
        .filter(|&bytes| bytes >= least)
        .ok_or_else(words)
}
