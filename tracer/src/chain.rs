//! Errors in one line.

use std::error::Error;

/// Returns an error with its causes, each once: some already name theirs. Of the verifier's listing
/// only what it objects to.
pub(crate) fn text(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    let mut objection = None;
    while let Some(error) = next {
        let said = error.to_string();
        let (said, listing) = said.split_once(". Verifier output:").unwrap_or((&said, ""));
        objection = objection.or_else(|| last_word(listing));
        if text.is_empty() {
            text.push_str(said);
        } else if !text.contains(said) {
            text.push_str(": ");
            text.push_str(said);
        }
        next = error.source();
    }
    if let Some(objection) = objection {
        text.push_str("; the verifier says: ");
        text.push_str(&objection);
    }
    text
}

/// The last line of the verifier's listing that is none of its statistics.
fn last_word(listing: &str) -> Option<String> {
    let is_count = |line: &&str| {
        ["processed ", "verification time", "stack depth"]
            .iter()
            .any(|count| line.starts_with(count))
    };
    let mut lines = listing.lines().rev().map(str::trim);
    let line = lines.find(|line| !line.is_empty() && !is_count(line))?;
    Some(line.chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use std::io;

    use thiserror::Error;

    use super::*;

    #[derive(Debug, Error)]
    #[error("loading failed: {0}. Verifier output: 0: (b7)\nunknown func\nprocessed 1 insns\n")]
    struct Doubled(#[source] io::Error);

    #[test]
    fn each_cause_is_named_once() {
        let error = io::Error::from_raw_os_error(1);
        assert_eq!(
            text(&Doubled(error)),
            "loading failed: Operation not permitted (os error 1); the verifier says: unknown func"
        );
        let error = anyhow::Error::from(io::Error::from_raw_os_error(2)).context("reading x");
        assert_eq!(
            text(error.as_ref()),
            "reading x: No such file or directory (os error 2)"
        );
    }
}
