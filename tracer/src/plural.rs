//! Numbers with their nouns and verbs: `1 worker was`, `3 processes were`.

use std::borrow::Cow;

/// Returns the number with its noun, which is given in the singular.
pub(crate) fn count(number: impl TryInto<u64>, one: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    format!("{number} {}", noun(number, one))
}

/// Returns the noun alone, as the number wants it.
pub(crate) fn noun(number: u64, one: &str) -> Cow<'_, str> {
    let is_hissing = || ["s", "x", "ch", "sh"].iter().any(|end| one.ends_with(end));
    match one.strip_suffix('y') {
        _ if number == 1 => Cow::Borrowed(one),
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => Cow::Owned(format!("{stem}ies")),
        _ if is_hissing() => Cow::Owned(format!("{one}es")),
        _ => Cow::Owned(format!("{one}s")),
    }
}

/// Returns the verb that goes with the number.
pub(crate) fn is(number: u64) -> &'static str {
    if number == 1 { "is" } else { "are" }
}

/// Returns the past tense of [`is`].
pub(crate) fn was(number: impl TryInto<u64>) -> &'static str {
    match number.try_into() {
        Ok(1) => "was",
        _ => "were",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noun_agrees_with_its_number() {
        assert_eq!(count(1_u32, "worker"), "1 worker");
        assert_eq!(count(0_usize, "worker"), "0 workers");
        assert_eq!(count(2_u64, "process"), "2 processes");
        assert_eq!(count(3_u8, "copy"), "3 copies");
        assert_eq!(count(3_u8, "day"), "3 days");
        assert_eq!(count(1_u8, "connection attempt"), "1 connection attempt");
        assert_eq!(
            (is(1), was(1_u64), was(0_usize), is(2)),
            ("is", "was", "were", "are")
        );
    }
}
