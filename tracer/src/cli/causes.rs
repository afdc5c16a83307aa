//! `tracer causes [ID]`: the catalogue.

use std::io::{self, Write};

use anyhow::Context as _;
use clap::ValueEnum;
use serde::Serialize;

use super::cause_id::CauseId;
use crate::{
    causes::catalogue::{self, Cause},
    render::wrap,
};

/// Arguments of `tracer causes`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CausesArgs {
    /// Show this cause in full; without it, list all
    #[arg(value_parser = CauseId, hide_possible_values = true)]
    id: Option<String>,
    /// How the catalogue is written
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One object a line, each cause in full
    Json,
}

const EXAMPLES: &str = "Examples:
  tracer causes                    all causes, one line each
  tracer causes no-listener        one in full
  tracer causes --format json      for machines";

/// One entry of `--format json`; the names are a contract.
#[derive(Serialize)]
struct Entry {
    id: &'static str,
    title: &'static str,
    how_determined: &'static str,
    client_gets: &'static str,
    log_lines: &'static [&'static str],
    fix: &'static str,
}

/// Writes the list, or one entry, in lines of so many columns.
///
/// # Errors
/// Those of the writer.
pub(super) fn run(args: &CausesArgs, width: usize, out: &mut impl Write) -> anyhow::Result<()> {
    let one = args.id.as_deref().and_then(catalogue::find);
    let causes = match &one {
        Some(cause) => std::slice::from_ref(cause),
        None => catalogue::all(),
    };
    match (args.format, one) {
        (Format::Json, _) => json(out, causes),
        (Format::Text, None) => list(out, width),
        (Format::Text, Some(cause)) => entry(out, cause, width),
    }
    .context("writing the catalogue")
}

fn json(out: &mut impl Write, causes: &[&Cause]) -> io::Result<()> {
    for cause in causes {
        let entry = Entry {
            id: cause.id,
            title: cause.title,
            how_determined: cause.split,
            client_gets: cause.client_gets,
            log_lines: cause.log_lines,
            fix: cause.fix,
        };
        serde_json::to_writer(&mut *out, &entry)?;
        writeln!(out)?;
    }
    Ok(())
}

fn list(out: &mut impl Write, width: usize) -> io::Result<()> {
    let column = catalogue::all().iter().map(|cause| cause.id.len()).max();
    let column = column.unwrap_or(0) + 2;
    for cause in catalogue::all() {
        let note = if cause.is_implemented() {
            ""
        } else {
            " (not implemented yet: unexplained)"
        };
        let title = format!("{}{note}", cause.title);
        let mut id = cause.id;
        for line in wrap::lines(&title, width.saturating_sub(column)) {
            writeln!(out, "{id:<column$}{line}")?;
            id = "";
        }
    }
    writeln!(out, "\n`tracer causes ID` shows one in full")
}

fn entry(out: &mut impl Write, cause: &Cause, width: usize) -> io::Result<()> {
    for line in wrap::lines(&format!("{}: {}", cause.id, cause.title), width) {
        writeln!(out, "{line}")?;
    }
    if !cause.is_implemented() {
        writeln!(out, "\nNot implemented yet: such requests are unexplained.")?;
    }
    let mut section = |title: &str, text: &str| -> io::Result<()> {
        writeln!(out, "\n{title}")?;
        wrap::lines(text, width.saturating_sub(2))
            .iter()
            .try_for_each(|line| writeln!(out, "  {line}"))
    };
    section("How it is determined", cause.split)?;
    section("The client gets", cause.client_gets)?;
    section("Fix", cause.fix)?;
    if !cause.log_lines.is_empty() {
        writeln!(out, "\nnginx logs (a line can have other causes too)")?;
        // Whole, to be searched for.
        for line in cause.log_lines {
            writeln!(out, "  {line}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn shown(id: Option<&str>, format: Format) -> String {
        let mut out = Vec::new();
        let args = CausesArgs {
            id: id.map(str::to_owned),
            format,
        };
        run(&args, 80, &mut out).expect("written");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_list_holds_every_cause_within_80_columns() {
        let list = shown(None, Format::Text);
        for cause in catalogue::all() {
            assert!(list.contains(cause.id), "{}", cause.id);
        }
        assert!(
            list.lines().all(|line| line.chars().count() <= 80),
            "{list}"
        );
    }

    #[test]
    fn one_cause_says_its_log_lines_and_fix_within_80_columns() {
        let entry = shown(Some("no-listener"), Format::Text);
        assert!(entry.contains("  connect() failed (111: Connection refused)"));
        assert!(entry.contains("\nFix\n  "));
        for cause in catalogue::all() {
            let entry = shown(Some(cause.id), Format::Text);
            let is_wide =
                |line: &&str| line.chars().count() > 80 && !cause.log_lines.contains(&line.trim());
            assert_eq!(entry.lines().find(is_wide), None, "{}", cause.id);
        }
    }

    #[test]
    fn json_has_each_cause_in_full_on_a_line() {
        let lines = shown(None, Format::Json);
        let lines: Vec<Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), catalogue::all().len());
        let one = shown(Some("no-listener"), Format::Json);
        let one: Value = serde_json::from_str(&one).expect("JSON");
        let members: Vec<&str> = one
            .as_object()
            .expect("an object")
            .keys()
            .map(String::as_str)
            .collect();
        let mut expected = [
            "id",
            "title",
            "how_determined",
            "client_gets",
            "log_lines",
            "fix",
        ];
        expected.sort_unstable();
        assert_eq!(members, expected);
        assert_eq!(one, lines[0]);
    }
}
