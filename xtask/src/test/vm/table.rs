//! What all guests said: one table, kernel by scenario.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::heard::{Cell, Heard};

/// How a kernel's guest came out.
pub(super) struct Column {
    pub(super) kernel: &'static str,
    /// `uname -r`.
    pub(super) release: String,
    pub(super) heard: Heard,
    /// How often its guest died; from two on there is no result.
    pub(super) deaths: usize,
    pub(super) took: Duration,
    /// When it ran.
    pub(super) date: String,
}

impl Column {
    /// Whether the guest ran all its programs, and every scenario is right.
    pub(super) fn is_right(&self) -> bool {
        self.deaths < 2 && self.heard.is_right()
    }
}

/// All results, kernels in the order in which they are named.
pub(super) struct Table {
    pub(super) columns: Vec<Column>,
}

impl Table {
    pub(super) fn is_right(&self) -> bool {
        !self.columns.is_empty() && self.columns.iter().all(Column::is_right)
    }

    /// Writes the table as a document.
    pub(super) fn write(&self, file: &Path) -> Result<()> {
        let text = format!(
            "# Kernels under test\n\n\
             Written by `BLESS=1 cargo xtask test --vm`: the real-kernel tests in guests with Debian's \
             kernels,\nunder emulation. [kernels.md](../kernels.md) is the summary.\n\n\
             - `ok`: every verdict is the one that the test asks for.\n\
             - `lesser`: right, but weaker than on other kernels; the reason is below the table.\n\
             - `·`: the fault cannot be produced there; the reason is below the table.\n\
             - A gap: that program has not run there. `WRONG`: a fault of tracer or of the \
             test.\n\n{self}"
        );
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernels: Vec<&str> = self.columns.iter().map(|column| column.kernel).collect();
        writeln!(f, "| scenario | {} |", kernels.join(" | "))?;
        writeln!(f, "|---|{}", "---|".repeat(kernels.len()))?;
        let scenarios: BTreeSet<&String> = self
            .columns
            .iter()
            .flat_map(|column| column.heard.cells.keys())
            .collect();
        for name in scenarios {
            write!(f, "| {name} |")?;
            for column in &self.columns {
                let word = match column.heard.cells.get(name) {
                    Some(Cell::Right) => "ok",
                    Some(Cell::Lesser) => "lesser",
                    Some(Cell::Failed) => "WRONG",
                    Some(Cell::Skipped) => "·",
                    None => "",
                };
                write!(f, " {word} |")?;
            }
            writeln!(f)?;
        }
        writeln!(f)?;
        for column in &self.columns {
            let Column {
                kernel,
                release,
                heard,
                deaths,
                took,
                date,
            } = column;
            write!(f, "- {kernel}: Linux {release}, {date}, {}", heard.tally)?;
            match took.as_secs() {
                0 => writeln!(f)?,
                took => writeln!(f, ", {took} s")?,
            }
            for note in heard.notes.iter().chain(&heard.reasons) {
                writeln!(f, "  - {note}")?;
            }
            match deaths {
                0 => {}
                1 => writeln!(f, "  - its guest died, and was started again")?,
                _ => writeln!(f, "  - its guest died twice: WRONG")?,
            }
            for program in &heard.unfinished {
                writeln!(f, "  - {program} gave no result: WRONG")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(said: &str, deaths: usize) -> Column {
        let mut heard = Heard::default();
        said.lines().for_each(|line| heard.read(line));
        Column {
            kernel: "5.10",
            release: "5.10.0".to_owned(),
            heard,
            deaths,
            took: Duration::ZERO,
            date: String::new(),
        }
    }

    #[test]
    fn a_guest_may_die_once() {
        let said = "     Running denied\ntest a ... ok\ntest result: ok. 1 passed; 0 failed";
        let table = |deaths| Table {
            columns: vec![column(said, deaths)],
        };
        assert!(table(1).is_right());
        assert!(!table(2).is_right());
        let shown = table(1).to_string();
        assert!(shown.contains("| denied: a | ok |"), "{shown}");
        assert!(shown.contains("died, and was started again"), "{shown}");
    }

    #[test]
    fn nothing_ran_is_not_right() {
        assert!(!Table { columns: vec![] }.is_right());
    }
}
