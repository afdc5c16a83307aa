//! Where verdicts go: filters, the format, the summary. Shared by all commands that give verdicts.

use std::io::{self, BufWriter, Write};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use jiff::tz::TimeZone;

use super::{
    cause_id::CauseId,
    outlet::Outlet,
    upstream::{self, Upstream},
};
use crate::{
    correlate::Unreported,
    event::{Clock, Event, Notice, Time, coverage::Change},
    otlp::Unsent,
    render::{
        Folder, Summary, coverage,
        json::{self, Said},
        notice, text,
    },
    say,
    verdict::Verdict,
};

/// How verdicts are chosen and shown.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Output {
    /// How verdicts are written
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Show only verdicts on this upstream: `127.0.0.1:3000`, `[::1]:3000`, `unix:/run/app.sock`,
    /// or the name of an upstream block (may be repeated)
    #[arg(long, value_name = "ADDRESS|NAME", value_parser = upstream::parse)]
    upstream: Vec<Upstream>,
    /// Show only verdicts with this cause, see `tracer causes` (may be repeated)
    #[arg(long, value_name = "ID", value_parser = CauseId::Alone, hide_possible_values = true)]
    cause: Vec<String>,
    /// Show only requests whose client got this status (may be repeated)
    #[arg(long, value_name = "STATUS")]
    status: Vec<u16>,
    /// Show times in UTC instead of the local zone (JSON is always UTC)
    #[arg(long)]
    pub(super) utc: bool,
    /// When to use colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, default_value = "auto", value_name = "WHEN")]
    color: When,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One object per line
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum When {
    Auto,
    Always,
    Never,
}

impl Output {
    /// Whether it is for machines.
    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether there are colours on stdout.
    pub(super) fn has_colors(&self) -> bool {
        match self.color {
            When::Always => true,
            When::Never => false,
            When::Auto => {
                say::is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        }
    }

    /// Do the filters let it through?
    pub(super) fn shows(&self, verdict: &Verdict) -> bool {
        let Self {
            upstream,
            cause,
            status,
            ..
        } = self;
        (cause.is_empty() || cause.iter().any(|one| one == verdict.cause))
            && (upstream.is_empty() || upstream.iter().any(|one| one.has(verdict)))
            && (status.is_empty() || verdict.status.is_some_and(|one| status.contains(&one)))
    }
}

/// The size of a pipe: in a flood the verdicts of one poll are written in one or two calls.
const BUFFER: usize = 64 << 10;

/// stdout.
#[derive(Debug)]
enum Out {
    /// The producer of verdicts waits for their reader.
    Here(BufWriter<io::Stdout>),
    /// The producer does not wait.
    Apart(Outlet),
}

impl Out {
    fn is_full(&self) -> bool {
        matches!(self, Self::Apart(outlet) if outlet.is_full())
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Here(out) => out.flush(),
            Self::Apart(outlet) => outlet.finish(),
        }
    }
}

impl Write for Out {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match self {
            Self::Here(out) => out.write(text),
            Self::Apart(outlet) => outlet.write(text),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Here(out) => out.flush(),
            Self::Apart(outlet) => outlet.flush(),
        }
    }
}

/// Writes verdicts to stdout, and counts them.
#[derive(Debug)]
pub(super) struct Verdicts {
    output: Output,
    clock: Clock,
    style: text::Style,
    folder: Folder,
    summary: Summary,
    out: Out,
    /// It was said that nobody reads stdout.
    is_unread: bool,
    /// When a loss of records was last said.
    lost_at: Option<Time>,
    /// It was said whether anything is followed.
    has_begun: bool,
}

/// A loss of kernel records is said again after this (nanoseconds).
const LOST_AGAIN: u64 = 10_000_000_000;

impl Verdicts {
    /// Of a capture.
    pub(super) fn new(output: Output, clock: Clock) -> Self {
        let out = BufWriter::with_capacity(BUFFER, say::rendered());
        Self::written(output, clock, Out::Here(out))
    }

    /// Of what goes on meanwhile.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(super) fn live(output: Output, clock: Clock) -> Result<Self> {
        let outlet = Outlet::start(say::rendered()).context("starting to write to stdout")?;
        Ok(Self::written(output, clock, Out::Apart(outlet)))
    }

    fn written(output: Output, clock: Clock, out: Out) -> Self {
        let color = output.has_colors();
        let style = text::Style {
            color,
            width: say::width().unwrap_or(100).clamp(40, 160),
            zone: zone(output.utc),
        };
        Self {
            output,
            clock,
            style,
            folder: Folder::default(),
            summary: Summary::default(),
            out,
            is_unread: false,
            lost_at: None,
            has_begun: false,
        }
    }

    /// Shows a verdict, unless a filter hides it or it is like one just shown.
    /// The host is the one that it happened on.
    pub(super) fn take(&mut self, verdict: &Verdict, host: &str) -> Result<()> {
        if !self.output.shows(verdict) {
            self.pass_over();
            return Ok(());
        }
        self.summary.add(verdict);
        if self.out.is_full() {
            self.unread(verdict.time);
            return Ok(());
        }
        match self.output.format {
            Format::Json => json::verdict(&mut self.out, verdict, host, &self.clock),
            Format::Text => {
                let (folds, shown) = self.folder.take(verdict);
                let written = folds
                    .iter()
                    .try_for_each(|fold| text::fold(&mut self.out, fold, &self.clock, &self.style));
                written.and_then(|()| {
                    if shown {
                        text::verdict(&mut self.out, verdict, &self.clock, &self.style)
                    } else {
                        Ok(())
                    }
                })
            }
        }
        .context("writing to stdout")
    }

    fn unread(&mut self, at: Time) {
        self.summary.unread();
        if !std::mem::replace(&mut self.is_unread, true) {
            let style = self.style_of_stderr();
            let _ = notice::unread(&mut say::rendered_aside(), at, &self.clock, &style);
        }
    }

    /// A verdict that is not to be shown.
    pub(super) fn pass_over(&mut self) {
        self.summary.pass_over();
    }

    /// Time passes: bursts that ended are reported, and all output is handed on.
    pub(super) fn flush(&mut self, now: Time) -> Result<()> {
        let folds = self.folder.tick(now);
        folds
            .iter()
            .try_for_each(|fold| text::fold(&mut self.out, fold, &self.clock, &self.style))
            .and_then(|()| self.out.flush())
            .context("writing to stdout")
    }

    /// Says on stderr what is no failed request and yet explains an incident, and among the
    /// verdicts where those are JSON; `at` is the event's time on this clock. Returns what was
    /// said.
    pub(super) fn notice(&mut self, event: &Event, host: &str, at: Time) -> Result<Option<Said>> {
        if let Event::Tick(_) = event {
            self.summary.until(at);
            return Ok(None);
        }
        let style = self.style_of_stderr();
        let mut said = None;
        // A closed stderr hides it, no more.
        match event {
            Event::Notice(one) => {
                let one = Notice { at, ..one.clone() };
                let _ = notice::notice(&mut say::rendered_aside(), &one, &self.clock, &style);
                said = Some(Said::notice(&one, &self.clock));
                self.summary.notice(one);
            }
            Event::Coverage(one) => {
                let one = one.at(at);
                // What nobody follows at the beginning is said there.
                if self.has_begun || matches!(one.change, Change::Alone { .. }) {
                    let _ =
                        coverage::coverage(&mut say::rendered_aside(), &one, &self.clock, &style);
                    said = Said::coverage(&one);
                }
                self.has_begun = true;
                self.summary.coverage(&one);
            }
            Event::Lost(lost) => {
                self.summary.left_out(lost);
                let runs = lost.skipped.iter().map(|one| one.runs);
                self.summary.skipped(runs.fold(0, u64::saturating_add));
                if lost.events == 0 {
                    return Ok(None);
                }
                let before = self.lost_at.replace(at);
                if before.is_none_or(|before| at.since(before) >= LOST_AGAIN) {
                    let (clock, events) = (&self.clock, lost.events);
                    let _ = notice::lost(&mut say::rendered_aside(), at, events, clock, &style);
                    said = Some(Said::lost(at, events));
                }
            }
            _ => {}
        }
        if self.output.format == Format::Json
            && !self.out.is_full()
            && let Some(said) = &said
        {
            json::said(&mut self.out, said, host, &self.clock).context("writing to stdout")?;
        }
        Ok(said)
    }

    fn style_of_stderr(&self) -> text::Style {
        text::Style {
            color: self.style.color && say::is_terminal_aside(),
            ..self.style.clone()
        }
    }

    /// Records were lost.
    pub(super) fn lost(&mut self, events: u64) {
        self.summary.lost(events);
    }

    /// What did not reach the OTLP collector.
    pub(super) fn unsent(&mut self, unsent: Unsent) {
        self.summary.unsent(unsent.dropped, unsent.refused);
    }

    /// Failed requests that get no verdict.
    pub(super) fn unreported(&mut self, requests: Unreported) {
        self.summary.given_up(requests.given_up);
        self.summary.forgotten(requests.forgotten);
    }

    /// The end: what is folded, then the summary on stderr.
    pub(super) fn finish(&mut self) -> Result<()> {
        let folds = self.folder.finish();
        let written = folds
            .iter()
            .try_for_each(|fold| text::fold(&mut self.out, fold, &self.clock, &self.style))
            .and_then(|()| self.out.finish());
        let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
        if !written.as_ref().is_err_and(is_gone) {
            let style = self.style_of_stderr();
            // A closed stderr hides the summary, no more.
            let _ = self
                .summary
                .write(&mut say::rendered_aside(), &self.clock, &style);
        }
        written.context("writing to stdout")
    }
}

pub(super) fn zone(utc: bool) -> TimeZone {
    if utc {
        TimeZone::UTC
    } else {
        TimeZone::system()
    }
}
