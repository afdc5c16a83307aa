//! README.md is short, and each command in it is one that some test or task runs.

use std::fs;

use anyhow::{Context as _, Result};

use super::markdown::{self, Kind};
use super::{Finding, root};

const WORDS: usize = 900;

/// What runs a command.
enum Run {
    /// A test: its file and its name.
    Test(&'static str, &'static str),
    /// `cargo xtask test` itself runs it, as the check of this name.
    Check(&'static str),
    /// It cannot be run here, for this reason.
    Never(&'static str),
}

/// The commands of the README as they are written there, without a comment.
const COMMANDS: [(&str, Run); 20] = [
    (
        "sha256sum --check --ignore-missing SHA256SUMS",
        Run::Check("static binary"),
    ),
    (
        "tar -xzf tracer-0.1.0-x86_64-linux.tar.gz",
        Run::Check("static binary"),
    ),
    (
        "sudo install tracer-0.1.0-x86_64-linux/tracer /usr/local/bin/",
        Run::Check("static binary"),
    ),
    (
        "sudo apt install build-essential",
        Run::Never("it installs a compiler, which runs this"),
    ),
    ("cargo xtask install", Run::Check("installed binary")),
    ("cargo xtask demo", Run::Check("the demo")),
    ("cargo xtask test", Run::Never("it is what runs this")),
    (
        "sudo tracer live",
        Run::Test(
            "tests/tests/start.rs",
            "from_the_line_that_says_tracing_on_nothing_is_missed",
        ),
    ),
    (
        "sudo tracer top",
        Run::Test("tests/tests/top.rs", "a_living_nginx_is_watched"),
    ),
    ("sudo tracer doctor", DOCTOR),
    ("tracer doctor", DOCTOR),
    (
        "tracer check",
        Run::Test("tests/tests/check.rs", "every_tcp_fault_is_found"),
    ),
    (
        "tracer causes no-listener",
        Run::Test(
            "tracer/src/cli/causes/tests.rs",
            "one_cause_says_its_log_lines_and_fix_within_80_columns",
        ),
    ),
    (
        "tracer causes 'LINE'",
        Run::Test(
            "tracer/src/cli/causes/tests.rs",
            "a_line_has_its_causes_and_the_command_that_decides_each",
        ),
    ),
    (
        "tracer record",
        Run::Test(
            "tests/tests/captures.rs",
            "a_capture_is_its_owners_alone_and_never_overwritten",
        ),
    ),
    (
        "sudo tracer record -o incident.trc --max-size 200M",
        Run::Test(
            "tests/tests/captures.rs",
            "files_of_a_rotation_are_one_run_in_any_order",
        ),
    ),
    (
        "sudo chown \"$USER\" incident.trc",
        Run::Never("it makes root's file the user's, and is not ours"),
    ),
    (
        "tracer explain --since 10:15 --until 10:20 incident.trc",
        Run::Test(
            "tests/tests/captures.rs",
            "captures_of_two_runs_merge_by_time_and_filters_choose",
        ),
    ),
    (
        "tracer report incident.trc -o postmortem",
        Run::Test(
            "tests/tests/presented.rs",
            "a_recorded_burst_is_charted_and_reported",
        ),
    ),
    (
        "tracer export",
        Run::Test(
            "tests/tests/exported.rs",
            "duckdb_and_clickhouse_count_what_explain_counts",
        ),
    ),
];
const DOCTOR: Run = Run::Test(
    "tests/tests/probes.rs",
    "without_the_newer_tracepoints_functions_show_the_same",
);

/// What code within prose begins with if it is a command.
const PROGRAMS: [&str; 4] = ["tracer ", "sudo ", "cargo ", ".ci/"];

/// The words of the whole document.
fn words(text: &str) -> usize {
    let is_word = |word: &&str| word.chars().any(char::is_alphanumeric);
    text.split_whitespace().filter(is_word).count()
}

/// The commands that nothing runs, and fences that do not say whether they hold commands.
fn unknown(text: &str, known: &[(&str, Run)]) -> Vec<Finding> {
    let mut found = Vec::new();
    for part in markdown::parts(text) {
        let command = match &part.kind {
            Kind::Code { info, .. } if info.is_empty() => Err("a fence needs `sh`, or `text`"),
            Kind::Code { info, text } if info == "sh" => Ok(text.split(" #").next()),
            Kind::Inline(text) if PROGRAMS.iter().any(|own| text.starts_with(own)) => {
                Ok(Some(text.as_str()))
            }
            _ => continue,
        };
        let what = match command {
            Err(what) => what.to_owned(),
            Ok(command) => {
                let command = command.unwrap_or_default().trim();
                if command.is_empty() || known.iter().any(|(known, _)| *known == command) {
                    continue;
                }
                format!(
                    "`{command}` is run by nothing: name its test in {}",
                    file!()
                )
            }
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
            Run::Test(file, name) => {
                let text = fs::read_to_string(root().join(file))
                    .with_context(|| format!("`{command}`: reading {file}"))?;
                if !text.contains(&format!("fn {name}(")) {
                    found.push(format!("`{command}`: {file} has no test {name}"));
                }
                for option in command.split(' ').filter(|word| word.starts_with("--")) {
                    if !text.contains(&format!("\"{option}")) {
                        found.push(format!("`{command}`: {file} never gives {option}"));
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
    fn the_readme_has_900_words_at_most() -> Result<()> {
        let words = words(&readme()?);
        assert!(words <= WORDS, "{words} words: move what is more to docs/");
        Ok(())
    }

    #[test]
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
        let text = "```sh\ntracer live   # one\ntracer report a -o b\n```\n\n\
                    ```text\n502\n```\n\n```\n1\n```\n\n`tracer doctor` and `a`\n";
        let known = [("tracer live", Run::Never("here"))];
        let lines: Vec<usize> = unknown(text, &known).iter().map(|one| one.line).collect();
        assert_eq!(lines, [3, 11, 14]);
    }

    #[test]
    fn an_entry_without_its_test_or_option_is_found() -> Result<()> {
        let known = [
            (
                "tracer live",
                Run::Test("tests/tests/start.rs", "no_such_test"),
            ),
            (
                "tracer live --no-such-option",
                Run::Test(
                    "tests/tests/start.rs",
                    "from_the_line_that_says_tracing_on_nothing_is_missed",
                ),
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
