//! The rules of this repository that no compiler checks: `cargo test -p xtask house`. A failure
//! lists each place as `file:line`, with what to do.

mod columns;
mod commits;
mod imports;
mod links;
mod markdown;
mod readme;
mod rust;
mod words;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// A place that breaks a rule.
#[derive(Debug, Clone, PartialEq)]
struct Finding {
    /// Relative to the repository's root.
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// Fails with the whole list.
#[track_caller]
fn assert_none(findings: &[Finding]) {
    assert!(findings.is_empty(), "{}", listed(findings));
}

fn listed(findings: &[Finding]) -> String {
    let lines = findings.iter().map(|finding| format!("\n{finding}"));
    format!("{} findings{}", findings.len(), lines.collect::<String>())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file of the repository with its text.
struct Text {
    /// Relative to the repository's root.
    file: String,
    text: String,
}

/// The files with this ending at or below `places`, sorted; a place that is not there has none.
fn files(places: &[&str], ending: &str) -> Result<Vec<Text>> {
    let root = root();
    let mut paths: Vec<PathBuf> = places.iter().map(|place| root.join(place)).collect();
    let mut found = Vec::new();
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path);
            for entry in entries.with_context(|| format!("listing {}", path.display()))? {
                let path = entry?.path();
                // Of a crate that is built by itself.
                if !path.ends_with("target") {
                    paths.push(path);
                }
            }
        } else if path.extension().is_some_and(|own| own == ending) && path.is_file() {
            let text = fs::read_to_string(&path);
            found.push(Text {
                file: path.strip_prefix(&root)?.display().to_string(),
                text: text.with_context(|| format!("reading {}", path.display()))?,
            });
        }
    }
    found.sort_by(|one, other| one.file.cmp(&other.file));
    Ok(found)
}
