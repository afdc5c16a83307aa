//! Errors in one line.

use std::error::Error;

/// Returns an error with its causes, each once: some already name theirs. Without the verifier's
/// listing.
pub(crate) fn text(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let said = error.to_string();
        let said = said.split(". Verifier output:").next().unwrap_or_default();
        if text.is_empty() {
            text.push_str(said);
        } else if !text.contains(said) {
            text.push_str(": ");
            text.push_str(said);
        }
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use thiserror::Error;

    use super::*;

    #[derive(Debug, Error)]
    #[error("loading failed: {0}. Verifier output: unknown func")]
    struct Doubled(#[source] io::Error);

    #[test]
    fn each_cause_is_named_once() {
        let error = io::Error::from_raw_os_error(1);
        assert_eq!(
            text(&Doubled(error)),
            "loading failed: Operation not permitted (os error 1)"
        );
        let error = anyhow::Error::from(io::Error::from_raw_os_error(2)).context("reading x");
        assert_eq!(
            text(error.as_ref()),
            "reading x: No such file or directory (os error 2)"
        );
    }
}
