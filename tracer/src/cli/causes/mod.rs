//! `tracer causes [ID | LINE]`: the catalogue, and which of it can be behind nginx's own lines.

mod behind;
mod log;
#[cfg(test)]
mod tests;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use serde::Serialize;

use self::log::Log;
use super::cause_id::CauseId;
use crate::{
    capture,
    causes::catalogue::{self, Cause},
    nginx::pasted::Pasted,
    render::wrap,
};

/// Arguments of `tracer causes`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CausesArgs {
    /// Describe this cause, or list the causes that can explain this line of nginx's error log (in
    /// single quotes). Without it, list all causes
    #[arg(value_name = "ID|LINE", value_parser = CauseId::OrLine, hide_possible_values = true)]
    what: Option<String>,
    /// Count the lines of this error log by their possible causes; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "what")]
    log: Option<PathBuf>,
    /// How the answer is written
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One object per line
    Json,
}

const EXAMPLES: &str = "Examples:
  tracer causes                                all causes, one line each
  tracer causes no-listener                    one in full
  tracer causes 'connect() failed (111: ...'   the causes that can explain a line
  tracer causes --log /var/log/nginx/error.log
  journalctl -u nginx | tracer causes --log -
  tracer causes --format json                  for machines";

/// One entry of `--format json`; the names are a contract.
#[derive(Serialize)]
struct Entry {
    id: &'static str,
    title: &'static str,
    how_determined: &'static str,
    client_gets: &'static str,
    log_lines: &'static [&'static str],
    fix: &'static str,
    command: &'static str,
    command_shows: &'static str,
}

/// No cause can be behind the line, which was said.
#[derive(Debug)]
pub(super) struct NoCause;

impl std::fmt::Display for NoCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no cause can be behind this line")
    }
}

impl std::error::Error for NoCause {}

/// Writes the list, one entry, or the answer to a line or a log, in lines of so many columns.
///
/// # Errors
/// Those of the writer and of the log; [`NoCause`].
pub(super) fn run(args: &CausesArgs, width: usize, out: &mut impl Write) -> anyhow::Result<()> {
    if let Some(path) = &args.log {
        let log = Log::read(path)?;
        if log.is_another_s() && log.only().is_none() {
            bail!(
                "{} has no line of an nginx error log; error_log names the file: nginx -T | grep error_log",
                capture::shown(path)
            );
        }
        return counts(&log, args.format, width, out);
    }
    let one = args.what.as_deref().and_then(catalogue::find);
    if let Some(lines) = args.what.as_deref().filter(|_| one.is_none()) {
        let mut log = Log::default();
        log.take_all(joined(lines).as_bytes())
            .context("reading the line")?;
        return counts(&log, args.format, width, out);
    }
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

/// The answer to one line, or the counts of several.
fn counts(log: &Log, format: Format, width: usize, out: &mut impl Write) -> anyhow::Result<()> {
    let written = match (log.only(), format) {
        (Some(line), Format::Json) => behind::json(out, line),
        (Some(line), Format::Text) => behind::text(out, line, width),
        (None, Format::Json) => log.json(out),
        (None, Format::Text) => log.text(out, width),
    };
    let is_without = |line: &Pasted| behind::causes(&behind::shown(line)).is_empty();
    let is_unknown = log.only().is_some_and(is_without);
    let written = match format {
        Format::Text if !is_unknown => written.and_then(|()| behind::beyond_the_log(out, width)),
        _ => written,
    };
    written.context("writing the causes")?;
    if is_unknown {
        Err(NoCause.into())
    } else {
        Ok(())
    }
}

/// A line that a terminal had wrapped is one again; lines that begin as such stay.
fn joined(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for line in text.lines() {
        if !joined.is_empty() {
            let is_new = Pasted::read(line.as_bytes()).has_head;
            joined.push(if is_new { '\n' } else { ' ' });
        }
        joined.push_str(line);
    }
    joined
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
            command: cause.by_hand.command,
            command_shows: cause.by_hand.shows,
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
    // Whole, to be copied.
    writeln!(out, "\nBy hand\n  {}", cause.by_hand.command)?;
    let shows = format!("it is this cause if {}", cause.by_hand.shows);
    wrap::lines(&shows, width.saturating_sub(2))
        .iter()
        .try_for_each(|line| writeln!(out, "  {line}"))?;
    if !cause.log_lines.is_empty() {
        writeln!(out, "\nnginx logs (a line can have other causes too)")?;
        // Whole, to be searched for.
        for line in cause.log_lines {
            writeln!(out, "  {line}")?;
        }
    }
    Ok(())
}
