//! Verdicts for a person under pressure: what failed, why, how we know, what to do.

use std::io::{self, Write};

use jiff::tz::TimeZone;

use super::{Fold, clean, json, wrap};
use crate::{
    event::{Clock, Time},
    verdict::{Confidence, Evidence, Verdict},
};

/// How text looks.
#[derive(Debug, Clone)]
pub(crate) struct Style {
    /// ANSI colours.
    pub color: bool,
    /// Columns to wrap at.
    pub width: usize,
    /// Whose wall clock.
    pub zone: TimeZone,
}

impl Default for Style {
    /// Plain, 100 columns, UTC.
    fn default() -> Self {
        Self {
            color: false,
            width: 100,
            zone: TimeZone::UTC,
        }
    }
}

/// Colours by meaning.
#[derive(Clone, Copy)]
pub(super) enum Ink {
    Bad,
    Hidden,
    Cause,
    Sure,
    Unsure,
    Faint,
}

impl Style {
    /// The text in that ink, if colours are on.
    pub(super) fn ink(&self, ink: Ink, text: &str) -> String {
        if !self.color {
            return text.to_owned();
        }
        let code = match ink {
            Ink::Bad => "1;31",
            Ink::Hidden | Ink::Unsure => "33",
            Ink::Cause => "1",
            Ink::Sure => "32",
            Ink::Faint => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// `10:15:23.412` of a boot time.
    pub(super) fn time(&self, clock: &Clock, time: Time) -> String {
        let zoned = json::timestamp(clock, time).to_zoned(self.zone.clone());
        zoned.strftime("%H:%M:%S.%3f").to_string()
    }
}

/// Writes a verdict in full, an empty line before it.
///
/// # Errors
/// Those of the writer.
pub(crate) fn verdict(
    out: &mut impl Write,
    verdict: &Verdict,
    clock: &Clock,
    style: &Style,
) -> io::Result<()> {
    writeln!(out)?;
    head(out, verdict, clock, style)?;
    why(out, verdict, style)?;
    identifiers(out, verdict, style)?;
    evidence(out, verdict, style)?;
    for (i, line) in verdict.advice.iter().enumerate() {
        let first = if i == 0 {
            style.ink(Ink::Cause, "  fix  ")
        } else {
            "       ".to_owned()
        };
        let room = style.width.saturating_sub(7).max(40);
        hang(out, &first, 7, &wrap::advice(&clean::text(line), room))?;
    }
    Ok(())
}

/// Writes how many more verdicts were like one already shown.
///
/// # Errors
/// Those of the writer.
pub(crate) fn fold(
    out: &mut impl Write,
    fold: &Fold,
    clock: &Clock,
    style: &Style,
) -> io::Result<()> {
    let until = style.time(clock, fold.until);
    let of = if fold.follows {
        "like this".to_owned()
    } else {
        let upstream = fold
            .upstream
            .as_deref()
            .map(|u| format!(", {}", clean::text(u)));
        format!("{}{}", fold.cause, upstream.unwrap_or_default())
    };
    let line = format!("  ({} more {of} until {until})", fold.count);
    writeln!(out, "{}", style.ink(Ink::Faint, &line))
}

/// `502`, `200 masked`, `---` where nobody knows.
pub(crate) fn status(status: Option<u16>, masked: bool) -> String {
    let status = status.map_or_else(|| "---".to_owned(), |status| status.to_string());
    if masked {
        format!("{status} masked")
    } else {
        status
    }
}

fn head(out: &mut impl Write, v: &Verdict, clock: &Clock, style: &Style) -> io::Result<()> {
    let ink = if v.masked { Ink::Hidden } else { Ink::Bad };
    let mut words = vec![
        style.time(clock, v.time),
        style.ink(ink, &status(v.status, v.masked)),
    ];
    words.push(clean::text(&asked(v)));
    let request = v.request.as_ref();
    words.extend(
        request
            .and_then(|request| request.host.as_deref())
            .map(clean::text),
    );
    if let Some(upstream) = &v.upstream {
        words.push("->".to_owned());
        words.push(clean::text(upstream));
    }
    if let Some(unit) = v.unit.as_deref().and_then(unit) {
        words.push(style.ink(Ink::Faint, &format!("[{}]", clean::text(&unit))));
    }
    writeln!(out, "{}", words.join("  "))
}

/// What was asked, as far as it is known; not cleaned yet.
pub(crate) fn asked(v: &Verdict) -> String {
    let request = v.request.as_ref();
    let client = request.and_then(|request| request.client.as_deref());
    match (request.and_then(|request| request.line.as_deref()), client) {
        (Some(line), _) => method_and_path(line).to_owned(),
        // Only a stream {} proxy fails without a status.
        _ if v.status.is_none() && !v.masked => "a connection of stream {}".to_owned(),
        (None, Some(client)) => format!("a request of {client}"),
        (None, None) => format!("a request in worker {}", v.worker),
    }
}

/// A service or a container says which nginx it is; the name of some cgroup, which older captures
/// have, does not.
fn unit(unit: &str) -> Option<String> {
    let is_id = unit.len() == 12 && unit.bytes().all(|byte| byte.is_ascii_hexdigit());
    match is_id {
        true => Some(format!("container {unit}")),
        false => unit.ends_with(".service").then(|| unit.to_owned()),
    }
}

/// A request line without its protocol.
fn method_and_path(line: &str) -> &str {
    match line.rsplit_once(' ') {
        Some((rest, protocol)) if protocol.starts_with("HTTP/") => rest,
        _ => line,
    }
}

fn why(out: &mut impl Write, v: &Verdict, style: &Style) -> io::Result<()> {
    let sure = json::confidence(v.confidence);
    let ink = match v.confidence {
        Confidence::Proven => Ink::Sure,
        Confidence::Inferred | Confidence::Unknown => Ink::Unsure,
    };
    // Colours take no column: the first line is wrapped with plain words in their place.
    let plain = format!("{}, {sure}: ", v.cause);
    let taken = plain.chars().count();
    let lead = format!(
        "{}, {}: ",
        style.ink(Ink::Cause, v.cause),
        style.ink(ink, sure)
    );
    let room = style.width.saturating_sub(2).max(40);
    let text = format!("{}{}", "_".repeat(taken), clean::text(&v.summary));
    for (i, line) in wrap::lines(&text, room).iter().enumerate() {
        match i {
            0 => writeln!(out, "  {lead}{}", &line[taken..])?,
            _ => writeln!(out, "  {line}")?,
        }
    }
    Ok(())
}

/// What finds the request in other logs and traces.
fn identifiers(out: &mut impl Write, v: &Verdict, style: &Style) -> io::Result<()> {
    let Some(request) = &v.request else {
        return Ok(());
    };
    for (label, id) in [
        ("request id", &request.request_id),
        ("traceparent", &request.traceparent),
    ] {
        if let Some(id) = id {
            let label = style.ink(Ink::Faint, label);
            writeln!(out, "     {label}  {}", clean::text(id))?;
        }
    }
    Ok(())
}

fn evidence(out: &mut impl Write, v: &Verdict, style: &Style) -> io::Result<()> {
    let zero = v.evidence.iter().find_map(|evidence| evidence.time);
    let labels: Vec<String> = v
        .evidence
        .iter()
        .map(|evidence| label(evidence, zero))
        .collect();
    let width = labels.iter().map(String::len).max().unwrap_or(0);
    for (evidence, label) in v.evidence.iter().zip(&labels) {
        let lead = format!(
            "     {}  ",
            style.ink(Ink::Faint, &format!("{label:<width$}"))
        );
        let room = style.width.saturating_sub(7 + width).max(40);
        let text = clean::text(&evidence.text);
        hang(out, &lead, 7 + width, &wrap::lines(&text, room))?;
    }
    Ok(())
}

/// `+0.06 ms` after the first event; a state of the host has its name.
fn label(evidence: &Evidence, zero: Option<Time>) -> String {
    let (Some(time), Some(zero)) = (evidence.time, zero) else {
        return evidence.event.to_owned();
    };
    let ms = time.since(zero) as f64 / 1e6;
    if ms < 1000.0 {
        format!("+{ms:.2} ms")
    } else {
        format!("+{:.3} s", ms / 1e3)
    }
}

/// Writes lines after a lead of that many columns, each below the other.
fn hang(out: &mut impl Write, lead: &str, columns: usize, lines: &[String]) -> io::Result<()> {
    for (i, line) in lines.iter().enumerate() {
        match i {
            0 => writeln!(out, "{lead}{line}")?,
            _ => writeln!(out, "{:columns$}{line}", "")?,
        }
    }
    Ok(())
}
