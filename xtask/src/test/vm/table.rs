//! What the guests said: one table, kernel by scenario.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::super::tally::Tally;

/// How a test ended on a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Right,
    Failed,
    /// It said that this kernel cannot show its fault, or is marked as open.
    Skipped,
}

/// All results.
#[derive(Default)]
pub(super) struct Table {
    /// Kernels in the order of their guests.
    kernels: Vec<&'static str>,
    /// By scenario (`program::test`) and kernel.
    cells: BTreeMap<String, BTreeMap<&'static str, Cell>>,
    /// `kernel: test: reason`.
    skips: BTreeSet<String>,
    tallies: BTreeMap<&'static str, Tally>,
    /// The program that speaks.
    program: String,
    /// Programs that began and gave no result, by kernel.
    unfinished: BTreeSet<(&'static str, String)>,
    /// Kernels whose guest died, as often as it did.
    deaths: Vec<&'static str>,
}

impl Table {
    /// A guest is started.
    pub(super) fn begin(&mut self, kernel: &'static str) {
        self.kernels.push(kernel);
    }

    /// Takes a line of a guest's.
    pub(super) fn read(&mut self, kernel: &'static str, line: &str) {
        self.tallies.entry(kernel).or_default().read(line);
        if let Some(program) = line.trim_start().strip_prefix("Running ")
            && line.starts_with("     Running")
        {
            program.clone_into(&mut self.program);
            self.unfinished.insert((kernel, program.to_owned()));
        } else if line.starts_with("test result: ") {
            self.unfinished.remove(&(kernel, self.program.clone()));
        } else if let Some((test, word)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ... "))
        {
            let cell = match word {
                "ok" => Cell::Right,
                "FAILED" => Cell::Failed,
                _ => Cell::Skipped,
            };
            self.set(kernel, test, cell);
        } else if let Some((test, reason)) = line
            .strip_prefix("SKIPPED: ")
            .and_then(|rest| rest.split_once(": "))
        {
            if self.cell(kernel, test) == Some(Cell::Right) {
                self.set(kernel, test, Cell::Skipped);
            }
            self.skips.insert(format!("{kernel}: {test}: {reason}"));
        }
    }

    fn name(&self, test: &str) -> String {
        format!("{}::{test}", self.program)
    }

    fn cell(&self, kernel: &str, test: &str) -> Option<Cell> {
        self.cells.get(&self.name(test))?.get(kernel).copied()
    }

    fn set(&mut self, kernel: &'static str, test: &str, cell: Cell) {
        let name = self.name(test);
        self.cells.entry(name).or_default().insert(kernel, cell);
    }

    /// The guest died: what it said counts for nothing.
    pub(super) fn died(&mut self, kernel: &'static str) {
        self.deaths.push(kernel);
        self.tallies.remove(kernel);
        self.unfinished.retain(|(of, _)| *of != kernel);
        self.skips
            .retain(|skip| !skip.starts_with(&format!("{kernel}: ")));
        for row in self.cells.values_mut() {
            row.remove(kernel);
        }
    }

    /// Whether every guest ran all its programs, and every scenario is right.
    pub(super) fn is_right(&self) -> bool {
        let mut cells = self.cells.values().flat_map(BTreeMap::values);
        !self.cells.is_empty()
            && self.tallies.len() == self.kernels.len()
            && self.unfinished.is_empty()
            && cells.all(|cell| *cell != Cell::Failed)
    }

    /// Writes the table as a document.
    pub(super) fn write(&self, file: &Path) -> Result<()> {
        let text = format!(
            "# Kernels\n\nWritten by `BLESS=1 cargo xtask test --vm`: the real-kernel tests in guests with Debian's \
             kernels. `·` is a test\nthat says itself that it cannot run there, or that is marked as open.\n\n{self}\n"
        );
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| scenario | {} |", self.kernels.join(" | "))?;
        writeln!(f, "|---|{}", "---|".repeat(self.kernels.len()))?;
        for (name, row) in &self.cells {
            write!(f, "| {} |", name.replacen("::", ": ", 1).replace('_', " "))?;
            for kernel in &self.kernels {
                let word = match row.get(kernel) {
                    Some(Cell::Right) => "ok",
                    Some(Cell::Failed) => "WRONG",
                    Some(Cell::Skipped) => "·",
                    None => "",
                };
                write!(f, " {word} |")?;
            }
            writeln!(f)?;
        }
        if !self.skips.is_empty() {
            writeln!(f)?;
        }
        for skip in &self.skips {
            writeln!(f, "- {skip}")?;
        }
        for kernel in &self.deaths {
            writeln!(f, "- {kernel}: its guest died, and was started again once")?;
        }
        for (kernel, program) in &self.unfinished {
            writeln!(f, "- {kernel}: {program} gave no result: WRONG")?;
        }
        writeln!(f)?;
        for (kernel, tally) in &self.tallies {
            writeln!(f, "- {kernel}: {tally}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(lines: &str) -> Table {
        let mut table = Table::default();
        table.begin("5.10");
        lines.lines().for_each(|line| table.read("5.10", line));
        table
    }

    #[test]
    fn a_failed_test_is_wrong_and_a_skipped_one_is_neither() {
        let said = "     Running denied\ntest a ... ok\ntest b ... ok\nSKIPPED: b: none here\n\
                    test result: ok. 2 passed; 0 failed";
        assert!(table(said).is_right());
        let shown = table(said).to_string();
        assert!(shown.contains("| denied: a | ok |"), "{shown}");
        assert!(shown.contains("| denied: b | · |"), "{shown}");
        assert!(!table(&format!("{said}\ntest c ... FAILED")).is_right());
    }

    #[test]
    fn what_a_guest_said_before_it_died_counts_for_nothing() {
        let mut table = table("     Running denied\ntest a ... FAILED");
        table.died("5.10");
        assert!(!table.is_right());
        for line in ["     Running denied", "test a ... ok", "test result: ok."] {
            assert!(!table.is_right());
            table.read("5.10", line);
        }
        assert!(table.is_right());
        table.died("5.10");
        assert!(!table.is_right());
    }

    #[test]
    fn nothing_ran_is_not_right() {
        assert!(!Table::default().is_right());
    }
}
