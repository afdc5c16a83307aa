//! What happened, in three sentences, and what it came to.

use super::{
    Report, html,
    words::{Words, counted, length, share},
};
use crate::{causes::catalogue, render::chart::number};

/// Hosts named in a sentence.
const HOSTS: usize = 3;

pub(super) fn section(report: &Report<'_>, words: &Words) -> String {
    let sentences = match report.incident.span() {
        None => quiet(report),
        Some((first, last)) => failed(report, words, words.unix(first), words.unix(last)),
    };
    format!(
        "<p class=\"lead\">{}</p>\n<h2>Impact</h2>\n{}",
        sentences.join(" "),
        impact(report, words)
    )
}

fn hosts(report: &Report<'_>) -> String {
    let mut hosts: Vec<String> = Vec::new();
    for source in &report.sources {
        let host = html::text(&source.host);
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    match hosts.len() {
        0..=HOSTS => hosts.join(", "),
        more => format!(
            "{} and {} more hosts",
            hosts[..HOSTS].join(", "),
            more - HOSTS
        ),
    }
}

fn recorded(report: &Report<'_>) -> String {
    report
        .series
        .span
        .map_or_else(|| "nothing".to_owned(), |(first, last)| length(first, last))
}

fn quiet(report: &Report<'_>) -> Vec<String> {
    let total = report.series.upstreams.total();
    vec![
        format!(
            "No request failed in the {} recorded on {}.",
            recorded(report),
            hosts(report)
        ),
        format!(
            "nginx made {} to its upstreams.",
            counted(total.total(), "connection")
        ),
        match (total.failed(), report.given_up()) {
            (0, 0) => {
                "All of them were answered, and no client closed its connection early.".to_owned()
            }
            (0, left) => format!(
                "All of them were answered; {} closed the connection before an answer.",
                counted(left, "client")
            ),
            (failed, _) => format!(
                "{} of them got no answer, and no request failed.",
                number(failed)
            ),
        },
    ]
}

fn failed(report: &Report<'_>, words: &Words, first: u64, last: u64) -> Vec<String> {
    let incident = report.incident;
    let masked = match incident.masked {
        0 => String::new(),
        hidden => format!(
            ", and {} more failed at first, masked by a retry or another page",
            number(hidden)
        ),
    };
    let mut sentences = vec![format!(
        "{} failed on {} {}{masked}.",
        counted(incident.failed, "request"),
        hosts(report),
        words.between(first, last)
    )];
    let ranked = incident.ranked();
    if let Some((id, story)) = ranked.first() {
        let title = catalogue::find(id).map_or("", |cause| cause.title);
        let (upstreams, rest) = story.upstreams(1);
        let place = match (upstreams.first(), rest) {
            (Some((Some(name), _)), 0) => format!(", all at {}", html::text(name)),
            (Some((Some(name), count)), _) => {
                format!(", {} of them at {}", number(*count), html::text(name))
            }
            _ => String::new(),
        };
        let others = match ranked.len() - 1 {
            0 => String::new(),
            1 => "; one other cause is below".to_owned(),
            more => format!("; {more} other causes are below"),
        };
        let most = if ranked.len() == 1 {
            "The cause is"
        } else {
            "The most frequent cause is"
        };
        sentences.push(format!(
            "{most} <code>{id}</code>, {}: {}{place}{others}.",
            counted(story.count, "request"),
            html::text(title),
        ));
        let fix = story
            .example
            .advice
            .first()
            .map(String::as_str)
            .or(catalogue::find(id).map(|cause| cause.fix));
        sentences.extend(
            fix.map(|fix| format!("Fix: {}.", html::text(fix).trim_end_matches(['.', ';']))),
        );
    }
    sentences
}

fn impact(report: &Report<'_>, words: &Words) -> String {
    let (incident, total) = (report.incident, report.series.upstreams.total());
    let attempts = total.attempts();
    let mut rows = vec![row("Failed requests", number(incident.failed))];
    if incident.masked > 0 {
        rows.push(row(
            "Failed at first, masked by a retry or another page",
            number(incident.masked),
        ));
    }
    if report.given_up() > 0 {
        rows.push(row(
            "Not answered",
            format!(
                "{} (client closed the connection, or a cache answered)",
                number(report.given_up())
            ),
        ));
    }
    let forgotten: u64 = report.sources.iter().map(|source| source.forgotten).sum();
    if forgotten > 0 {
        rows.push(row(
            "Failed, dropped in flight",
            format!("{} (too many at a time)", number(forgotten)),
        ));
    }
    rows.push(row(
        "Attempts to reach an upstream",
        format!("{} (connections and their reuses)", number(attempts)),
    ));
    rows.push(row("Failed attempts", share(total.failed(), attempts)));
    if let Some((first, last)) = incident.span() {
        let (first, last) = (words.unix(first), words.unix(last));
        rows.push(row(
            "From the first failure to the last",
            length(first, last),
        ));
        let width = report.series.failures.width();
        let peak = report
            .series
            .failures
            .iter()
            .max_by_key(|(_, counts)| counts.total());
        if let Some((at, counts)) = peak {
            let text = format!(
                "{} in {} at {}",
                number(counts.total()),
                crate::render::chart::duration(width),
                words.second(at)
            );
            rows.push(row("At its worst", text));
        }
    }
    let ranking = report.series.upstreams.ranked(usize::MAX, |_| true);
    let touched = ranking
        .first
        .iter()
        .filter(|(_, one)| one.outcomes.failed() > 0)
        .count();
    let of = if ranking.is_exact { "" } else { "more than " };
    rows.push(row(
        "Upstreams with failed connections",
        format!(
            "{touched} of {of}{}",
            number((ranking.first.len() + ranking.more) as u64)
        ),
    ));
    rows.push(row("Recorded", recorded(report)));
    html::facts(&rows)
}

fn row(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}
