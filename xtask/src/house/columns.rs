//! Comments end within 100 columns: rustfmt wraps code alone.

use super::{Finding, Text};

const COLUMNS: usize = 100;

fn long(source: &Text) -> Vec<Finding> {
    let lines = source.text.lines().zip(1..);
    let long = lines.filter(|(line, _)| has_comment(line) && line.chars().count() > COLUMNS);
    long.map(|(line, number)| Finding {
        file: source.file.clone(),
        line: number,
        what: format!(
            "a comment of {} columns: wrap it at {COLUMNS}",
            line.chars().count()
        ),
    })
    .collect()
}

/// Whether the line is a comment, or ends with one: `//` after as many quotes as close each other.
fn has_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
        || line
            .match_indices(" // ")
            .any(|(at, _)| line[..at].matches('"').count().is_multiple_of(2))
}

#[cfg(test)]
mod tests {
    use super::super::{assert_none, files};
    use super::*;

    fn found(places: &[&str]) -> anyhow::Result<Vec<Finding>> {
        Ok(files(places, "rs")?.iter().flat_map(long).collect())
    }

    #[test]
    fn comments_of_the_tasks_end_within_100_columns() -> anyhow::Result<()> {
        assert_none(&found(&["xtask"])?);
        Ok(())
    }

    #[test]
    fn comments_of_the_tests_end_within_100_columns() -> anyhow::Result<()> {
        assert_none(&found(&["tests"])?);
        Ok(())
    }

    #[test]
    fn comments_of_tracer_end_within_100_columns() -> anyhow::Result<()> {
        assert_none(&found(&["tracer", "tracer-ebpf"])?);
        Ok(())
    }

    #[test]
    fn a_long_comment_is_found_and_a_long_string_is_none() {
        let word = "x".repeat(100);
        let text = format!(
            "// {word}\nlet a = 1; // {word}\nlet b = \"http:// {word}\";\n/// {}\n",
            &word[4..]
        );
        let source = Text {
            file: "a.rs".to_owned(),
            text,
        };
        let found: Vec<usize> = long(&source).iter().map(|one| one.line).collect();
        assert_eq!(found, [1, 2]);
    }
}
