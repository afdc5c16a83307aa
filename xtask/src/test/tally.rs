//! Counts what test programs report. libtest has no word for a test that finds, once it runs, that
//! it cannot: such a test prints `SKIPPED: name: reason` and returns. Those count as skipped here,
//! not as passed, and so do ignored tests.

use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::command;

/// The counts of all test programs so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    reported_ok: u64,
    failed: u64,
    ignored: u64,
    /// Tests that a filter left out.
    filtered: u64,
    /// `name: reason` of each test that said it skips.
    skipped: Vec<String>,
    ignored_names: Vec<String>,
    /// Checks and tests that `--quick` does without, and how many tests these are.
    left_out: Vec<String>,
    left_out_tests: u64,
    /// The test program whose output this is, and the seconds that each took.
    program: String,
    took: Vec<(f64, String)>,
    /// Among the outputs of failed tests, whose skips are failures.
    in_failures: bool,
}

impl Tally {
    /// Runs test programs to the end, passing their output through. False: something failed.
    pub(crate) fn follow(&mut self, tests: &mut Command) -> Result<bool> {
        let failed_before = self.failed;
        let mut child = tests
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("running `{}`", command::line(tests)))?;
        let stdout = child.stdout.take().context("the tests' stdout")?;
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.context("reading the tests' output")?;
            let line = String::from_utf8_lossy(&line);
            // A closed pipe behind us must not end the tests half way, faults still in place.
            let _ = writeln!(std::io::stdout(), "{line}");
            self.read(&line);
        }
        let status = child.wait().context("waiting for the tests")?;
        if !status.success() && self.failed == failed_before {
            self.lost();
        }
        Ok(status.success())
    }

    /// Tests that did not compile or died without a report: at least one has failed.
    pub(crate) fn lost(&mut self) {
        self.failed += 1;
    }

    /// Whether some test failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed > 0
    }

    /// How many tests were left out by a filter.
    pub(crate) fn filtered(&self) -> u64 {
        self.filtered
    }

    /// Adds what was counted elsewhere.
    pub(crate) fn add(&mut self, place: &str, other: Self) {
        let there = |said: String| format!("{place}: {said}");
        self.reported_ok += other.reported_ok;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.skipped.extend(other.skipped.into_iter().map(there));
        let ignored = other.ignored_names.into_iter();
        self.ignored_names.extend(ignored.map(there));
    }

    /// Each skipped test, with its reason where it gave one.
    pub(crate) fn skips(&self) -> impl Iterator<Item = &str> {
        self.skipped
            .iter()
            .chain(&self.ignored_names)
            .map(String::as_str)
    }

    /// Counts a check that is not run.
    pub(crate) fn leave_out(&mut self, check: &str) {
        self.left_out.push(check.to_owned());
    }

    /// Counts tests that are not run.
    pub(crate) fn leave_out_tests(&mut self, program: &str, count: u64) {
        self.left_out.push(format!("{program}: {count} tests"));
        self.left_out_tests += count;
    }

    /// What was not run at all.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = &str> {
        self.left_out.iter().map(String::as_str)
    }

    /// The test programs that took longest, with their seconds.
    pub(crate) fn slowest(&self) -> Vec<&(f64, String)> {
        let mut took: Vec<_> = self
            .took
            .iter()
            .filter(|(seconds, _)| *seconds > 10.0)
            .collect();
        took.sort_by(|one, other| other.0.total_cmp(&one.0));
        took
    }

    /// Takes a line of a test program's output.
    pub(crate) fn read(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.reported_ok += count(result, "passed");
            self.failed += count(result, "failed");
            self.ignored += count(result, "ignored");
            self.filtered += count(result, "filtered");
            if let Some(seconds) = seconds(result) {
                self.took.push((seconds, std::mem::take(&mut self.program)));
            }
        } else if let Some(program) = line.trim_start().strip_prefix("Running ") {
            self.program = name(program).to_owned();
        } else if let Some(skip) = line.strip_prefix("SKIPPED: ") {
            if !self.in_failures {
                self.skipped.push(skip.to_owned());
            }
        } else if line == "failures:" {
            self.in_failures = true;
        } else if line.starts_with("running ") && line.contains(" test") {
            self.in_failures = false;
        } else if let Some((name, reason)) = line
            .strip_prefix("test ")
            .and_then(|test| test.split_once(" ... ignored"))
        {
            self.ignored_names
                .push(format!("{name}{}", reason.replacen(", ", ": ", 1)));
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped = self.skipped.len() as u64;
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.reported_ok.saturating_sub(skipped),
            self.failed,
            self.ignored + skipped
        )?;
        if self.left_out.is_empty() {
            return Ok(());
        }
        let checks = self.left_out.len();
        write!(f, ", {} tests left out", self.left_out_tests)?;
        write!(f, " ({checks} checks and programs)")
    }
}

/// The seconds in "ok. 3 passed; …; finished in 1.25s".
fn seconds(result: &str) -> Option<f64> {
    let (_, rest) = result.split_once("finished in ")?;
    rest.trim_end_matches('s').parse().ok()
}

/// A program's name without its folder and cargo's hash.
fn name(program: &str) -> &str {
    let file = program.rsplit('/').next().unwrap_or(program);
    let file = file.trim_end_matches(')');
    file.rsplit_once('-').map_or(file, |(name, _hash)| name)
}

/// The number before `word` in "ok. 3 passed; 0 failed; …".
fn count(result: &str, word: &str) -> u64 {
    let mut words = result
        .split([' ', ';', '.'])
        .filter(|word| !word.is_empty());
    let mut before = words.next();
    for current in words {
        if current == word {
            return before.and_then(|number| number.parse().ok()).unwrap_or(0);
        }
        before = Some(current);
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(output: &str) -> Tally {
        let mut tally = Tally::default();
        output.lines().for_each(|line| tally.read(line));
        tally
    }

    #[test]
    fn programs_add_up() {
        let tally = tally(
            "running 2 tests\n\
             test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\
             running 3 tests\n\
             test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 7 filtered out; finished in 0.1s",
        );
        assert_eq!(tally.to_string(), "4 passed, 1 failed, 0 skipped");
        assert_eq!(tally.filtered(), 7);
    }

    #[test]
    fn a_test_that_says_it_skips_is_not_passed() {
        let tally = tally(
            "running 2 tests\n\
             SKIPPED: lsm_denies: this kernel has no BPF LSM\n\
             test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s",
        );
        assert_eq!(tally.to_string(), "1 passed, 0 failed, 1 skipped");
        let skips: Vec<_> = tally.skips().collect();
        assert_eq!(skips, ["lsm_denies: this kernel has no BPF LSM"]);
    }

    #[test]
    fn counts_from_elsewhere_name_their_place() {
        let said = "SKIPPED: denied: no Landlock\ntest result: ok. 2 passed; 0 failed; 0 ignored;";
        let mut all = tally(said);
        all.add("5.10", tally(said));
        assert_eq!(all.to_string(), "2 passed, 0 failed, 2 skipped");
        let skips: Vec<_> = all.skips().collect();
        assert_eq!(skips, ["denied: no Landlock", "5.10: denied: no Landlock"]);
    }

    #[test]
    fn what_is_left_out_is_counted_and_named() {
        let mut tally = tally("test result: ok. 2 passed; 0 failed; 0 ignored;");
        tally.leave_out("the guests");
        tally.leave_out_tests("long_run", 3);
        assert_eq!(
            tally.to_string(),
            "2 passed, 0 failed, 0 skipped, 3 tests left out (2 checks and programs)"
        );
        let left_out: Vec<_> = tally.left_out().collect();
        assert_eq!(left_out, ["the guests", "long_run: 3 tests"]);
    }

    #[test]
    fn programs_have_their_times_the_longest_first() {
        let result = "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        let tally = tally(&format!(
            "     Running /t/deps/one-0a1b\n{result}; finished in 11.50s\n\
             \x20    Running /t/deps/long_run-0a1b\n{result}; finished in 70.00s\n\
             \x20    Running /t/deps/two-0a1b\n{result}; finished in 1.00s"
        ));
        let expected = [(70.0, "long_run".to_owned()), (11.5, "one".to_owned())];
        assert_eq!(tally.slowest(), expected.iter().collect::<Vec<_>>());
    }

    #[test]
    fn an_ignored_test_is_skipped_by_name() {
        let tally = tally(
            "running 1 test\n\
             test slow ... ignored, takes an hour\n\
             test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s",
        );
        assert_eq!(tally.to_string(), "0 passed, 0 failed, 1 skipped");
        assert_eq!(tally.skips().collect::<Vec<_>>(), ["slow: takes an hour"]);
    }

    #[test]
    fn a_test_that_said_it_skips_and_failed_is_failed_only() {
        let tally = tally(
            "running 1 test\n\
             failures:\n\
             SKIPPED: half: changed its mind\n\
             test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s",
        );
        assert_eq!(tally.to_string(), "0 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn tests_that_die_without_a_report_are_a_failure() -> Result<()> {
        let mut tally = Tally::default();
        assert!(!tally.follow(&mut Command::new("false"))?);
        assert_eq!(tally.to_string(), "0 passed, 1 failed, 0 skipped");
        Ok(())
    }
}
