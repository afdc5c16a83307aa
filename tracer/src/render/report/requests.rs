//! Failed requests one by one, each with its own timeline.

use super::{
    Report, html,
    incident::Shown,
    words::{Words, counted},
};
use crate::{
    event::Time,
    render::{chart::number, json, text},
    verdict::Verdict,
};

/// Requests that are shown open; the others open on a click, and on paper.
const OPEN: usize = 12;

pub(super) fn section(report: &Report<'_>, words: &Words) -> String {
    let incident = report.incident;
    if incident.shown.is_empty() {
        return String::new();
    }
    let left_out = match incident.left_out {
        0 => String::new(),
        left => format!(
            "<p class=\"note\">{} not shown: <code>tracer explain</code> has all.</p>\n",
            counted(left, "further request")
        ),
    };
    let mut seen = 0;
    let entries: String = incident
        .shown
        .iter()
        .map(|shown| match shown {
            Shown::Request(verdict) => {
                seen += 1;
                request(verdict, seen <= OPEN, words)
            }
            Shown::More(fold) => {
                let what = if fold.follows {
                    "like this".to_owned()
                } else {
                    let upstream = fold
                        .upstream
                        .as_deref()
                        .map(|name| format!(", {}", html::text(name)));
                    format!(
                        "<code>{}</code>{}",
                        fold.cause,
                        upstream.unwrap_or_default()
                    )
                };
                format!(
                    "<p class=\"fold\">{} more {what} until {}</p>\n",
                    number(fold.count),
                    words.time(fold.until)
                )
            }
        })
        .collect();
    format!(
        "<h2>Requests</h2>\n<p class=\"note\">The first of each kind in full; those like it are counted below.</p>\n{entries}{left_out}"
    )
}

fn request(verdict: &Verdict, is_open: bool, words: &Words) -> String {
    let status = text::status(verdict.status, verdict.masked);
    let class = if verdict.masked { "masked" } else { "failed" };
    let line = text::asked(verdict);
    let host = verdict
        .request
        .as_ref()
        .and_then(|request| request.host.as_deref());
    let host = host
        .map(|host| format!(" <span class=\"host\">{}</span>", html::text(host)))
        .unwrap_or_default();
    let upstream = verdict
        .upstream
        .as_deref()
        .map(|name| format!(" → <code>{}</code>", html::text(name)));
    format!(
        "<details{}>\n<summary><time>{}</time> <b class=\"{class}\">{status}</b> <span class=\"line\">{}</span>{host}{}<br><code>{}</code>, {}: {}</summary>\n{}</details>\n",
        if is_open { " open" } else { "" },
        words.time(verdict.time),
        html::text(&line),
        upstream.unwrap_or_default(),
        verdict.cause,
        json::confidence(verdict.confidence),
        html::text(&verdict.summary),
        evidence(verdict),
    )
}

/// What was seen of it, in order; times count from the first.
pub(super) fn evidence(verdict: &Verdict) -> String {
    let zero = verdict.evidence.iter().find_map(|evidence| evidence.time);
    let rows: String = verdict
        .evidence
        .iter()
        .map(|evidence| {
            let label = match (evidence.time, zero) {
                (Some(time), Some(zero)) => after(time, zero),
                _ => html::text(evidence.event),
            };
            format!(
                "<tr><th>{label}</th><td>{}</td></tr>\n",
                html::text(&evidence.text)
            )
        })
        .collect();
    if rows.is_empty() {
        String::new()
    } else {
        format!("<table class=\"evidence\">\n{rows}</table>\n")
    }
}

fn after(time: Time, zero: Time) -> String {
    let ms = time.since(zero) as f64 / 1e6;
    if ms < 1000.0 {
        format!("+{ms:.2} ms")
    } else {
        format!("+{:.3} s", ms / 1e3)
    }
}
