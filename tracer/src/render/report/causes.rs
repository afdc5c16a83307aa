//! The causes, the most frequent first: how many, where, how it is known, what to do.

use super::{
    Report, html,
    incident::Story,
    requests,
    words::{Words, counted, share},
};
use crate::{causes::catalogue, render::chart::number};

/// Upstreams named of each.
const UPSTREAMS: usize = 8;

pub(super) fn section(report: &Report<'_>, words: &Words) -> String {
    let ranked = report.incident.ranked();
    if ranked.is_empty() {
        return String::new();
    }
    let total = report.incident.total();
    let causes: String = ranked
        .iter()
        .map(|(id, story)| one(id, story, total, words))
        .collect();
    format!("<h2>Causes</h2>\n{causes}")
}

fn one(id: &str, story: &Story, total: u64, words: &Words) -> String {
    let cause = catalogue::find(id);
    let title = cause.map_or("", |cause| cause.title);
    let mut rows = vec![
        (
            "Requests".to_owned(),
            format!(
                "{} ({} of all)",
                number(story.count),
                share(story.count, total)
            ),
        ),
        ("Status sent to the client".to_owned(), statuses(story)),
        ("Confidence".to_owned(), sure(story)),
        ("Upstreams".to_owned(), upstreams(story)),
    ];
    let (first, last) = (words.time(story.first), words.time(story.last));
    let when = if story.count == 1 {
        first
    } else {
        format!("{first} to {last}")
    };
    rows.push(("When".to_owned(), when));
    let split = cause.map(|cause| {
        format!(
            "<p class=\"note\">How it was determined: {}.</p>\n",
            html::text(cause.split).trim_end_matches('.')
        )
    });
    format!(
        "<section class=\"cause\">\n<h3><code>{id}</code> <span>{}</span></h3>\n{}<p>For instance: {}.</p>\n{}{}{}</section>\n",
        html::text(title),
        html::facts(&rows),
        html::text(&story.example.summary),
        requests::evidence(&story.example),
        advice(story, cause.map_or("", |cause| cause.fix)),
        split.unwrap_or_default(),
    )
}

fn statuses(story: &Story) -> String {
    let masked = if story.masked > 0 {
        format!(
            " ({} masked by a retry or a short answer)",
            number(story.masked)
        )
    } else {
        String::new()
    };
    let each = story.statuses.iter().map(|(status, count)| {
        let status = status.map_or_else(|| "no status".to_owned(), |status| status.to_string());
        if story.statuses.len() == 1 {
            status
        } else {
            format!("{status} ({})", number(*count))
        }
    });
    let others = Some(story.other_statuses).filter(|count| *count > 0);
    let others = others.map(|count| format!("others ({})", number(count)));
    let each: Vec<String> = each.chain(others).collect();
    format!("{}{masked}", each.join(", "))
}

fn sure(story: &Story) -> String {
    let [unknown, inferred, proven] = story.sure;
    let names = [
        (proven, "proven"),
        (inferred, "inferred"),
        (unknown, "unknown"),
    ];
    let each = names
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| match story.count == *count {
            true => (*name).to_owned(),
            false => format!("{name} ({})", number(*count)),
        });
    each.collect::<Vec<_>>().join(", ")
}

fn upstreams(story: &Story) -> String {
    let (ranked, rest) = story.upstreams(UPSTREAMS);
    let alone = ranked.len() == 1 && rest == 0;
    let mut each: Vec<String> = ranked
        .iter()
        .map(|(name, count)| {
            let name = name.map_or_else(
                || "none tried".to_owned(),
                |name| format!("<code>{}</code>", html::text(name)),
            );
            if alone {
                name
            } else {
                format!("{name} ({})", number(*count))
            }
        })
        .collect();
    if rest > 0 {
        each.push(format!("others ({})", number(rest)));
    }
    each.join(", ")
}

fn advice(story: &Story, fix: &str) -> String {
    let mut lines: Vec<String> = story
        .example
        .advice
        .iter()
        .map(|line| html::text(line))
        .collect();
    if lines.is_empty() {
        lines.push(html::text(fix));
    }
    let others = story.count.saturating_sub(1);
    let note = if others > 0 {
        format!(
            " <small>(as for the first of {})</small>",
            counted(story.count, "request")
        )
    } else {
        String::new()
    };
    format!("<h4>What to do{note}</h4>\n{}", html::list(&lines))
}
