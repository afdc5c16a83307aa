//! Notices, what was lost, what could not be known, and where all this comes from.

use super::{
    Report, Source, html,
    words::{Words, counted, length},
};
use crate::{
    plural,
    render::{chart::number, notice::sentence},
    verdict::Confidence,
};

pub(super) fn section(report: &Report<'_>, words: &Words) -> String {
    let titled = |title: &str, items: Vec<String>| match items.is_empty() {
        true => String::new(),
        false => format!("<h2>{title}</h2>\n{}", html::list(&items)),
    };
    let mut unknown = unknown(report);
    if unknown.is_empty() {
        unknown.push(
            "Nothing was lost, all hooks were attached, and every verdict is proven.".to_owned(),
        );
    }
    let environment: String = report
        .sources
        .iter()
        .map(|source| environment(source, words))
        .collect();
    format!(
        "{}{}<h2>Environment</h2>\n{environment}",
        titled("Notices", notices(report, words)),
        titled("Lost or not visible", unknown),
    )
}

/// States that are no failed request, but explain one.
fn notices(report: &Report<'_>, words: &Words) -> Vec<String> {
    let (queues, _) = report.series.queues.ranked(usize::MAX);
    let full = queues.iter().filter_map(|(name, depths)| {
        let full = depths
            .iter()
            .map(|(_, depth)| depth)
            .filter(|depth| depth.asked && depth.queue > depth.limit);
        let fullest = full.max_by_key(|depth| depth.fullness())?;
        Some(format!(
            "the accept queue of <code>{}</code> was full: {} waiting, limit {}",
            html::text(name),
            number(fullest.queue.into()),
            number(fullest.limit.into())
        ))
    });
    let crashes = report.incident.crashes.iter();
    let crashes = crashes.map(|crash| {
        format!(
            "nginx worker {} ended by signal {}",
            crash.pid, crash.signal
        )
    });
    let own = report.incident.notices.iter();
    let own = own.map(|one| {
        let sentence = sentence(one, |time| words.time(time));
        format!("{}: {}", words.time(one.at), html::text(&sentence))
    });
    own.chain(full.take(20)).chain(crashes).collect()
}

fn unknown(report: &Report<'_>) -> Vec<String> {
    let mut items = Vec::new();
    for source in &report.sources {
        let host = html::text(&source.host);
        if source.lost > 0 {
            items.push(format!(
                "{}: {} lost; failures may be missing here.",
                host,
                counted(source.lost, "kernel record")
            ));
        }
        if !source.absent.is_empty() {
            let names = source.absent.iter();
            let names: Vec<String> = names
                .map(|hook| format!("<code>{}</code>", html::text(hook)))
                .collect();
            items.push(format!(
                "{host}: not attached: {}; <code>tracer doctor</code> there says what that costs.",
                names.join(", ")
            ));
        }
        items.extend(
            source
                .damages
                .iter()
                .map(|damage| format!("{host}: {}.", html::text(damage))),
        );
    }
    for (words, confidence) in [
        (
            "inferred: the only cause that fits what was seen",
            Confidence::Inferred,
        ),
        (
            "unexplained: the evidence does not decide",
            Confidence::Unknown,
        ),
    ] {
        let count: u64 = report
            .incident
            .causes
            .values()
            .map(|story| story.sure[confidence as usize])
            .sum();
        if count > 0 {
            items.push(format!(
                "{} {} {words}.",
                counted(count, "verdict"),
                plural::is(count)
            ));
        }
    }
    for (text, count) in &report.incident.unseen {
        items.push(format!(
            "Not visible for {}: {}.",
            counted(*count, "verdict"),
            html::text(text)
        ));
    }
    items
}

fn environment(source: &Source, words: &Words) -> String {
    let mut rows = vec![
        ("Host", html::text(&source.host)),
        ("Kernel", html::text(&source.kernel)),
        (
            "nginx",
            source
                .nginx
                .iter()
                .map(|one| html::text(one))
                .collect::<Vec<_>>()
                .join("<br>"),
        ),
        (
            "Recorded",
            format!(
                "{} to {} ({})",
                words.full(source.began),
                words.second(source.ended),
                length(source.began, source.ended)
            ),
        ),
        ("Events", number(source.events)),
        ("Hooks", html::text(&source.hooks)),
        ("tracer", html::text(&source.tracer)),
        (
            "Command",
            format!("<code>{}</code>", html::text(&source.command)),
        ),
    ];
    if source.anonymized {
        rows.push((
            "Anonymized",
            "client addresses and request lines were replaced".to_owned(),
        ));
    }
    rows.retain(|(_, value)| !value.is_empty());
    html::facts(
        &rows
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect::<Vec<_>>(),
    )
}
