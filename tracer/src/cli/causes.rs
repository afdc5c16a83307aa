//! `tracer causes [ID]`: the catalogue.

use std::io::Write;

use anyhow::Context as _;
use clap::Args;
use thiserror::Error;

use crate::causes::catalogue::{self, Cause};

/// What each verdict means, the nginx log lines it explains, the fix.
#[derive(Debug, Args)]
pub(super) struct CausesArgs {
    /// One cause in full; without it, the list.
    pub id: Option<String>,
}

/// No such cause; the text names near ones.
#[derive(Debug, Error)]
#[error("{0}")]
pub(super) struct UnknownCause(String);

/// Writes the list, or one entry.
///
/// # Errors
/// The id is in no entry (the message names near ones), or the writer fails.
pub(super) fn run(args: &CausesArgs, out: &mut impl Write) -> anyhow::Result<()> {
    match &args.id {
        None => list(out).context("writing the catalogue"),
        Some(id) => match catalogue::find(id) {
            Some(cause) => entry(out, cause).context("writing the catalogue"),
            None => Err(UnknownCause(unknown(id)).into()),
        },
    }
}

fn list(out: &mut impl Write) -> std::io::Result<()> {
    let width = catalogue::all()
        .iter()
        .map(|cause| cause.id.len())
        .max()
        .unwrap_or(0);
    for cause in catalogue::all() {
        let note = if cause.is_told() {
            ""
        } else {
            " (not told yet: unexplained)"
        };
        writeln!(out, "{:<width$}  {}{note}", cause.id, cause.title)?;
    }
    writeln!(out, "\ntracer causes ID shows one in full")
}

fn entry(out: &mut impl Write, cause: &Cause) -> std::io::Result<()> {
    writeln!(out, "{}: {}\n", cause.id, cause.title)?;
    if !cause.is_told() {
        writeln!(
            out,
            "No verdict names it yet: such requests are unexplained.\n"
        )?;
    }
    writeln!(out, "how it is told apart\n  {}\n", cause.split)?;
    writeln!(out, "the client gets\n  {}\n", cause.client_gets)?;
    if !cause.log_lines.is_empty() {
        writeln!(out, "nginx logs (a line can have other causes too)")?;
        for line in cause.log_lines {
            writeln!(out, "  {line}")?;
        }
        writeln!(out)?;
    }
    writeln!(out, "fix\n  {}", cause.fix)
}

/// Says which ids are near.
fn unknown(id: &str) -> String {
    let wanted = id.to_lowercase();
    let near: Vec<&str> = catalogue::all()
        .iter()
        .map(|cause| cause.id)
        .filter(|known| is_near(known, &wanted))
        .take(4)
        .collect();
    if near.is_empty() {
        format!(
            "no cause `{}`; `tracer causes` lists all",
            id.escape_debug()
        )
    } else {
        format!(
            "no cause `{}`; did you mean {}?",
            id.escape_debug(),
            near.join(", ")
        )
    }
}

/// A part in common, or few letters to change.
fn is_near(known: &str, wanted: &str) -> bool {
    let words = |id: &str| {
        id.split(['-', '_', ' '])
            .filter(|word| word.len() > 3)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let shared = words(wanted)
        .iter()
        .any(|word| known.contains(word.as_str()));
    shared || distance(known, wanted) <= 3
}

/// Levenshtein's distance, of what is typed: capped, as no id is long.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(id: Option<&str>) -> anyhow::Result<String> {
        let mut out = Vec::new();
        run(
            &CausesArgs {
                id: id.map(str::to_owned),
            },
            &mut out,
        )?;
        Ok(String::from_utf8(out)?)
    }

    #[test]
    fn the_list_holds_every_cause() {
        let list = shown(None).expect("a list");
        for cause in catalogue::all() {
            assert!(list.contains(cause.id), "{}", cause.id);
        }
    }

    #[test]
    fn one_cause_says_its_log_lines_and_fix() {
        let entry = shown(Some("no-listener")).expect("an entry");
        assert!(entry.contains("connect() failed (111: Connection refused)"));
        assert!(entry.contains("fix\n"));
    }

    #[test]
    fn a_mistyped_id_names_its_neighbours() {
        let said = |id| shown(Some(id)).expect_err("unknown").to_string();
        assert_eq!(
            said("no-listner"),
            "no cause `no-listner`; did you mean no-listener?"
        );
        assert!(said("firewall").contains("firewall-reject, firewall-drop"));
        assert_eq!(
            said("zzz\x1b"),
            "no cause `zzz\\u{1b}`; `tracer causes` lists all"
        );
    }
}
