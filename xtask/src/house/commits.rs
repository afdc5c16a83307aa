//! Commit messages: a subject of at most 72 columns, imperative, one idea.

use anyhow::{Context as _, Result};
use std::process::Command;

use crate::command;

/// The last commit before this rule.
const BASE: &str = "ade302f8c613661db38c49722304d4400da94873";
const COLUMNS: usize = 72;
/// Merged before anyone saw that its subject has a column too many.
const MERGED: [&str; 1] = ["dec8169139b80f922bdc6fe38343ff5afba39774"];

/// First words that say what happened, where the rule asks for what the commit does.
const TOLD: [&str; 24] = [
    "added", "adds", "adding", "changed", "changes", "changing", "fixed", "fixes", "fixing",
    "made", "makes", "making", "moved", "moves", "moving", "removed", "removes", "removing",
    "renamed", "renames", "updated", "updates", "used", "uses",
];

/// The messages since then. A shallow clone may lack the base: it has what is to be checked here.
fn messages() -> Result<Vec<(String, String)>> {
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.arg("-C").arg(super::root()).args(arguments);
        command::output(&mut git)
    };
    if !super::root().join(".git").exists() {
        return Ok(Vec::new());
    }
    let base = format!("{BASE}..HEAD");
    let is_there = git(&["merge-base", "--is-ancestor", BASE, "HEAD"]).is_ok();
    let range = if is_there {
        base.as_str()
    } else {
        let shallow = git(&["rev-parse", "--is-shallow-repository"])?;
        anyhow::ensure!(shallow.trim() == "true", "{BASE} is not in this history");
        "HEAD"
    };
    let log = git(&["log", "--no-merges", "--format=%H%x1f%B%x1e", range])?;
    let entries = log.split('\u{1e}').map(str::trim);
    entries
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            let (commit, message) = entry.split_once('\u{1f}').context("a commit's message")?;
            Ok((commit.to_owned(), message.to_owned()))
        })
        .collect()
}

/// What is wrong with a message.
fn fault(message: &str) -> Option<String> {
    let mut lines = message.lines();
    let subject = lines.next().unwrap_or_default();
    let columns = subject.chars().count();
    if columns > COLUMNS {
        return Some(format!("{columns} columns, {COLUMNS} at most"));
    }
    if subject.contains(';') {
        return Some("a `;` joins two ideas: make two commits, or say the one".to_owned());
    }
    if lines.next().is_some_and(|line| !line.is_empty()) {
        return Some("no empty line between subject and body".to_owned());
    }
    let is_area = |area: &str| {
        !area.is_empty()
            && area.chars().all(|one| {
                one.is_ascii_lowercase() || one.is_ascii_digit() || "-_/., ".contains(one)
            })
    };
    let (area, rest) = match subject.split_once(": ") {
        Some((area, rest)) if is_area(area) => (true, rest),
        _ => (false, subject),
    };
    if !area && !subject.starts_with(char::is_uppercase) {
        return Some("begin with a capital, or with `area: `".to_owned());
    }
    let first = rest.split(' ').next().unwrap_or_default().to_lowercase();
    TOLD.contains(&first.as_str())
        .then(|| format!("`{first}`: say it in the imperative"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_the_rule() -> Result<()> {
        let found: Vec<String> = messages()?
            .iter()
            .filter(|(commit, _)| !MERGED.contains(&commit.as_str()))
            .filter_map(|(commit, message)| {
                let fault = fault(message)?;
                let subject = message.lines().next().unwrap_or_default();
                Some(format!("{commit:.9}: {fault}: {subject}\n"))
            })
            .collect();
        assert!(found.is_empty(), "\n{}", found.concat());
        Ok(())
    }

    #[test]
    fn each_fault_is_found() {
        let long = format!("Keep {}", "x".repeat(COLUMNS));
        for message in [
            &long,
            "Keep one; drop the other",
            "keep one",
            "Added one",
            "xtask: fixes the count",
            "Keep one\nas the other is gone",
        ] {
            assert!(fault(message).is_some(), "{message}");
        }
        for message in [
            "Keep one",
            "xtask: check commit messages",
            "probe, source: keep one",
            "Keep one\n\nThe other; it is gone.",
        ] {
            assert_eq!(fault(message), None, "{message}");
        }
    }
}
