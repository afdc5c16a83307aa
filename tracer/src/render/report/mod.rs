//! The postmortem: one HTML page that needs nothing else, neither network nor script. Pure:
//! finished data in, text out.

mod causes;
mod html;
mod incident;
mod limits;
mod requests;
mod summary;
#[cfg(test)]
mod tests;
mod timeline;
mod words;

use jiff::tz::TimeZone;

pub(crate) use self::incident::Incident;
use self::words::Words;
use super::chart::{self, Chart, PaintError, Size, theme};
use crate::series::Series;

const STYLE: &str = include_str!("style.css");

/// One run of `tracer record`, as the page shows it. Times are Unix nanoseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    /// The host's name.
    pub host: String,
    /// Its kernel.
    pub kernel: String,
    /// Each nginx in words.
    pub nginx: Vec<String>,
    /// How many hooks were in each state, in words.
    pub hooks: String,
    /// Names of what no hook showed.
    pub absent: Vec<String>,
    /// The version of tracer that recorded.
    pub tracer: String,
    /// Its command line.
    pub command: String,
    /// When it began.
    pub began: u64,
    /// When its last event was.
    pub ended: u64,
    /// How many events it holds.
    pub events: u64,
    /// Kernel records lost.
    pub lost: u64,
    /// Requests that ended without an answer of nginx's.
    pub given_up: u64,
    /// Requests in flight with a failed attempt, dropped for newer ones.
    pub forgotten: u64,
    /// What is wrong with its files, in words.
    pub damages: Vec<String>,
    /// Client addresses and request lines were replaced.
    pub anonymized: bool,
}

/// All that the page shows.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    /// The runs.
    pub sources: Vec<Source>,
    /// Counts and durations over time.
    pub series: &'a Series,
    /// The verdicts.
    pub incident: &'a Incident,
    /// The files read.
    pub files: Vec<String>,
    /// Whose wall clock.
    pub zone: TimeZone,
}

impl Report<'_> {
    /// The page.
    ///
    /// # Errors
    /// A chart could not be drawn.
    pub(crate) fn page(&self) -> Result<String, PaintError> {
        let words = Words {
            clock: self.incident.clock,
            zone: self.zone.clone(),
        };
        let title = match self.incident.total() {
            0 => "No failed request".to_owned(),
            total => words::counted(total, "failed request"),
        };
        let day = self
            .series
            .span
            .map(|(first, _)| words.full(first))
            .unwrap_or_default();
        Ok(format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title}, {day}</title>\n<style>\n{STYLE}@media screen and (prefers-color-scheme: dark) {{\n{}\n}}\n</style>\n\
             </head>\n<body>\n<main>\n<h1>{title}</h1>\n{}{}{}{}{}{}\
             <footer>made by tracer {} from {}</footer>\n</main>\n</body>\n</html>\n",
            theme::dark_css("svg"),
            summary::section(self, &words),
            timeline::section(self, &words),
            causes::section(self, &words),
            self.charts()?,
            requests::section(self, &words),
            limits::section(self, &words),
            env!("CARGO_PKG_VERSION"),
            html::text(&self.files.join(", ")),
        ))
    }

    fn given_up(&self) -> u64 {
        self.sources.iter().map(|source| source.given_up).sum()
    }

    fn charts(&self) -> Result<String, PaintError> {
        let mut figures = String::new();
        let mut empty = Vec::new();
        for chart in Chart::ALL {
            let drawing = |size| chart.draw(self.series, size, &self.zone);
            let (wide, small) = (drawing(Size::Wide), drawing(Size::Small));
            if wide.is_empty {
                empty.push(chart.title());
                continue;
            }
            figures += &format!(
                "<figure role=\"img\" aria-label=\"{}\">\n<div class=\"wide\">{}</div>\n<div class=\"small\">{}</div>\n</figure>\n",
                html::text(chart.title()),
                chart::svg(&wide)?,
                chart::svg(&small)?
            );
        }
        if !empty.is_empty() {
            figures += &format!(
                "<p class=\"note\">Nothing to draw for: {}.</p>\n",
                html::text(&empty.join("; "))
            );
        }
        Ok(format!("<h2>Charts</h2>\n{figures}"))
    }
}
