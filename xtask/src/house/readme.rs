//! README.md is short, and each command in it is one that some test or task runs.

use std::fs;

use anyhow::{Context as _, Result};

use super::markdown::{self, Kind};
use super::{Finding, root};

const WORDS: usize = 900;

/// What runs a command.
enum Run {
    /// A test of tests/tests: its program and its name.
    Test(&'static str, &'static str),
    /// `cargo xtask test` itself runs it, as the check of this name.
    Check(&'static str),
    /// It cannot be run here, for this reason.
    Never(&'static str),
}

/// The commands of the README as they are written there, without a comment.
const COMMANDS: [(&str, Run); 9] = [
    ("cargo xtask demo", Run::Check("the demo")),
    ("cargo xtask install", Run::Check("installed binary")),
    (
        "sudo tracer live",
        Run::Test("start", "the_line_that_says_tracing_comes"),
    ),
    (
        "sudo tracer record -o incident.trc",
        Run::Test(
            "captures",
            "a_capture_is_its_owners_alone_and_never_overwritten",
        ),
    ),
    (
        "sudo tracer record -o proxy.trc --max-size 200M --rotate 5",
        Run::Test("captures", "files_of_a_rotation_are_one_run_in_any_order"),
    ),
    (
        "sudo tracer record -o proxy.trc --ring 64M",
        Run::Test(
            "captures",
            "a_ring_is_written_when_asked_at_a_burst_and_at_the_end",
        ),
    ),
    (
        "tracer explain incident.trc",
        Run::Test("captures", "files_of_a_rotation_are_one_run_in_any_order"),
    ),
    (
        "tracer explain --since 10:15 --until 10:20 --cause keepalive-race web1.trc web2.trc",
        Run::Test(
            "captures",
            "captures_of_two_runs_merge_by_time_and_filters_choose",
        ),
    ),
    ("cargo xtask test", Run::Never("it is what runs this")),
];

/// The words of the whole document.
fn words(text: &str) -> usize {
    let is_word = |word: &&str| word.chars().any(char::is_alphanumeric);
    text.split_whitespace().filter(is_word).count()
}

/// The commands that nothing runs, and fences that do not say whether they hold commands.
fn unknown(text: &str, known: &[(&str, Run)]) -> Vec<Finding> {
    let mut found = Vec::new();
    for part in markdown::parts(text) {
        let Kind::Code { info, text } = part.kind else {
            continue;
        };
        let what = match info.as_str() {
            "sh" => {
                let command = text.split(" #").next().unwrap_or_default().trim();
                if command.is_empty() || known.iter().any(|(known, _)| *known == command) {
                    continue;
                }
                format!(
                    "`{command}` is run by nothing: name its test in {}",
                    file!()
                )
            }
            "" => "a fence without a language: `sh` for commands, else `text`".to_owned(),
            _ => continue,
        };
        found.push(Finding {
            file: "README.md".to_owned(),
            line: part.line,
            what,
        });
    }
    found
}

/// The entries whose test does not exist, or lacks an option that the command has.
fn hollow(known: &[(&str, Run)]) -> Result<Vec<String>> {
    let checks = fs::read_to_string(root().join("xtask/src/test.rs"))?;
    let mut found = Vec::new();
    for (command, run) in known {
        match run {
            Run::Test(program, name) => {
                let path = root().join(format!("tests/tests/{program}.rs"));
                let text = fs::read_to_string(&path)
                    .with_context(|| format!("`{command}`: reading {}", path.display()))?;
                if !text.contains(&format!("fn {name}(")) {
                    found.push(format!("`{command}`: {program} has no test {name}"));
                }
                for option in command.split(' ').filter(|word| word.starts_with("--")) {
                    if !text.contains(&format!("\"{option}")) {
                        found.push(format!("`{command}`: {program} never gives {option}"));
                    }
                }
            }
            Run::Check(name) => {
                if !checks.contains(&format!("\"{name}\"")) {
                    found.push(format!("`{command}`: no check is called {name}"));
                }
            }
            Run::Never(why) => assert!(!why.is_empty()),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::assert_none;
    use super::*;

    fn readme() -> Result<String> {
        fs::read_to_string(root().join("README.md")).context("reading README.md")
    }

    #[test]
    #[ignore = "README.md is being rewritten"]
    fn the_readme_has_900_words_at_most() -> Result<()> {
        let words = words(&readme()?);
        assert!(words <= WORDS, "{words} words: move what is more to docs/");
        Ok(())
    }

    #[test]
    #[ignore = "README.md is being rewritten"]
    fn each_command_of_the_readme_is_run_somewhere() -> Result<()> {
        assert_none(&unknown(&readme()?, &COMMANDS));
        Ok(())
    }

    #[test]
    fn the_table_of_commands_names_tests_that_are_there() -> Result<()> {
        let found = hollow(&COMMANDS)?;
        assert!(found.is_empty(), "{}", found.join("\n"));
        Ok(())
    }

    #[test]
    fn a_command_that_nothing_runs_is_found() {
        let text = "```sh\ntracer live   # one\ntracer report a -o b\n```\n\n```text\n502\n```\n\n```\n1\n```\n";
        let known = [("tracer live", Run::Never("here"))];
        let lines: Vec<usize> = unknown(text, &known).iter().map(|one| one.line).collect();
        assert_eq!(lines, [3, 11]);
    }

    #[test]
    fn an_entry_without_its_test_or_option_is_found() -> Result<()> {
        let known = [
            ("tracer live", Run::Test("start", "no_such_test")),
            (
                "tracer live --no-such-option",
                Run::Test("start", "the_line_that_says_tracing_comes"),
            ),
            ("tracer live", Run::Check("no such check")),
        ];
        assert_eq!(hollow(&known)?.len(), 3);
        Ok(())
    }

    #[test]
    fn words_are_counted_without_marks() {
        assert_eq!(words("# One, two\n\n| three | `four` |\n|---|---|\n"), 4);
    }
}
