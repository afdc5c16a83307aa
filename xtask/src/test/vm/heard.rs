//! What one guest said, line by line: how each of its scenarios ended.

use std::collections::{BTreeMap, BTreeSet};

use super::super::tally::Tally;

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Right,
    /// Right, with the lesser verdict that the test asks for on such a kernel.
    Lesser,
    Failed,
    /// It said that this kernel cannot show its fault, or is marked as open.
    Skipped,
}

/// What a guest said.
#[derive(Default)]
pub(super) struct Heard {
    /// By scenario: `program: test`.
    pub(super) cells: BTreeMap<String, Cell>,
    /// `test: reason` of what is skipped or reported with less certainty.
    pub(super) reasons: BTreeSet<String>,
    /// What a test measured.
    pub(super) notes: Vec<String>,
    pub(super) tally: Tally,
    /// The program that speaks.
    program: String,
    /// Programs that began and gave no result.
    pub(super) unfinished: BTreeSet<String>,
}

/// A line that begins a program's words, before its name.
const RUNNING: &str = "     Running ";

/// The programs that gave a result, each with its words.
pub(super) fn programs(said: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = said.split_inclusive('\n');
    let begins: Vec<usize> = parts
        .scan(0, |at, line| {
            let begin = *at;
            *at += line.len();
            Some((begin, line))
        })
        .filter_map(|(begin, line)| line.starts_with(RUNNING).then_some(begin))
        .chain([said.len()])
        .collect();
    (1..begins.len()).filter_map(move |index| {
        let words = &said[begins[index - 1]..begins[index]];
        let program = words.strip_prefix(RUNNING)?.lines().next()?;
        words
            .contains("\ntest result: ")
            .then_some((program, words))
    })
}

impl Heard {
    /// Takes a line.
    pub(super) fn read(&mut self, line: &str) {
        self.tally.read(line);
        if let Some(program) = line.strip_prefix(RUNNING) {
            program.clone_into(&mut self.program);
            self.unfinished.insert(program.to_owned());
        } else if line.starts_with("test result: ") {
            self.unfinished.remove(&self.program);
        } else if let Some((test, word)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ... "))
        {
            let cell = match word {
                "ok" => Cell::Right,
                "FAILED" => Cell::Failed,
                _ => Cell::Skipped,
            };
            self.cells.insert(self.name(test), cell);
        } else if let Some(said) = line.strip_prefix("SKIPPED: ") {
            self.qualify(said, Cell::Skipped);
        } else if let Some(said) = line.strip_prefix("LESSER: ") {
            self.qualify(said, Cell::Lesser);
        } else if let Some(note) = line.strip_prefix("NOTE: ") {
            self.notes.push(note.to_owned());
        }
    }

    /// `test: reason`: the output of a test follows its result.
    fn qualify(&mut self, said: &str, cell: Cell) {
        let Some((test, _)) = said.split_once(": ") else {
            return;
        };
        if let Some(right @ Cell::Right) = self.cells.get_mut(&self.name(test)) {
            *right = cell;
            self.reasons.insert(said.to_owned());
        }
    }

    /// As a reader says it: underscores are for the compiler.
    fn name(&self, test: &str) -> String {
        format!("{}: {test}", self.program).replace('_', " ")
    }

    /// Whether all its programs gave a result, and every scenario is right.
    pub(super) fn is_right(&self) -> bool {
        !self.cells.is_empty()
            && self.unfinished.is_empty()
            && self.cells.values().all(|cell| *cell != Cell::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(lines: &str) -> Heard {
        let mut heard = Heard::default();
        lines.lines().for_each(|line| heard.read(line));
        heard
    }

    #[test]
    fn a_failed_test_is_wrong_and_a_skipped_or_lesser_one_is_not() {
        let said = "     Running denied\ntest a ... ok\ntest b ... ok\ntest c_d ... ok\nSKIPPED: b: none here\n\
                    LESSER: c_d: no reasons\ntest result: ok. 3 passed; 0 failed";
        let right = heard(said);
        assert!(right.is_right());
        assert_eq!(right.cells["denied: a"], Cell::Right);
        assert_eq!(right.cells["denied: b"], Cell::Skipped);
        assert_eq!(right.cells["denied: c d"], Cell::Lesser);
        assert!(!heard(&format!("{said}\ntest e ... FAILED")).is_right());
    }

    #[test]
    fn programs_that_gave_a_result_are_told_apart() {
        let said = "boot\n     Running a\ntest x ... ok\ntest result: ok.\n     Running b\ntest y ... ok\n";
        let found: Vec<_> = programs(said).collect();
        let words = "     Running a\ntest x ... ok\ntest result: ok.\n";
        assert_eq!(found, [("a", words)]);
    }

    #[test]
    fn a_failed_test_does_not_excuse_itself() {
        let said =
            "     Running denied\ntest a ... FAILED\nLESSER: a: no reasons\ntest result: FAILED.";
        assert!(!heard(said).is_right());
    }

    #[test]
    fn a_program_without_a_result_is_wrong_and_so_is_silence() {
        assert!(!heard("     Running denied\ntest a ... ok").is_right());
        assert!(!Heard::default().is_right());
    }
}
