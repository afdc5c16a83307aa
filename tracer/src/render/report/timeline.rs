//! The moments that matter, in order.

use super::{
    Report, html,
    words::{Words, counted},
};

/// Moments of each kind.
const MOST: usize = 20;

pub(super) fn section(report: &Report<'_>, words: &Words) -> String {
    let mut moments: Vec<(u64, String)> = Vec::new();
    for source in &report.sources {
        moments.push((
            source.began,
            format!("recording begins on {}", html::text(&source.host)),
        ));
        moments.push((
            source.ended,
            format!("recording ends on {}", html::text(&source.host)),
        ));
    }
    for (id, story) in report.incident.ranked().into_iter().take(MOST) {
        let what = story.example.upstream.as_deref().map(html::text);
        let what = what.map(|what| format!(", {what}")).unwrap_or_default();
        let first = words.unix(story.first);
        if story.count == 1 {
            moments.push((first, format!("<code>{id}</code>, once{what}")));
        } else {
            moments.push((first, format!("first <code>{id}</code>{what}")));
            moments.push((
                words.unix(story.last),
                format!(
                    "last <code>{id}</code>, {}",
                    counted(story.count, "request")
                ),
            ));
        }
    }
    for crash in &report.incident.crashes {
        moments.push((
            words.unix(crash.at),
            format!(
                "nginx worker {} ended by signal {}",
                crash.pid, crash.signal
            ),
        ));
    }
    moments.sort_by_key(|(at, _)| *at);
    let items: String = moments
        .into_iter()
        .map(|(at, what)| format!("<li><time>{}</time> {what}</li>\n", words.moment(at)))
        .collect();
    format!("<h2>Timeline</h2>\n<ol class=\"timeline\">\n{items}</ol>\n")
}
