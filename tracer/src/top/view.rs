//! The picture: header, upstreams, accept queues, verdicts, keys. Only the terminal's own colours:
//! what is readable on a dark background is on a light one.

use jiff::tz::TimeZone;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Cell, Paragraph, Row, Table, TableState},
};

use super::{
    model::Kept,
    snapshot::{CauseRow, QueueRow, Snapshot, UpstreamRow},
    state::{Focus, State},
};
use crate::{
    clean,
    render::{json, text},
    verdict::{Confidence, Verdict},
};

/// How it looks.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    /// Colours, as well as bold and dim.
    pub(crate) color: bool,
    /// Whose wall clock.
    pub(crate) zone: TimeZone,
    /// What is shown: `live: 2 workers of nginx 1.22.1 (master 812)`.
    pub(crate) title: String,
}

/// A terminal that is smaller shows no table.
const SMALLEST: (u16, u16) = (40, 10);
/// From so many columns on there is room for more.
const WIDE: u16 = 120;
const WIDER: u16 = 160;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const NOTHING: &str = "-";

impl Look {
    fn ink(&self, color: Color) -> Style {
        match self.color {
            true => Style::new().fg(color),
            false => Style::new(),
        }
    }
}

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const FAINT: Style = Style::new().add_modifier(Modifier::DIM);
const SELECTED: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Draws all of it.
pub(crate) fn draw(frame: &mut Frame<'_>, shown: &Snapshot, state: &mut State, look: &Look) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let words = "too small: 80x24 is enough; q quits";
        frame.render_widget(Paragraph::new(words), area);
        return;
    }
    let head = head(shown, look);
    let height = u16::try_from(head.len()).unwrap_or(3);
    let [top, middle, bottom] = Layout::vertical([
        Constraint::Length(height),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(head), top);
    if state.open.is_some() {
        verdict(frame, middle, state, look);
        keys(frame, bottom, "q quit   Esc back   ↑↓ scroll");
    } else {
        lists(frame, middle, shown, state, look);
        let words = match state.is_still {
            true => "",
            false => "q quit   Enter evidence and advice   ↑↓ select   Tab other list",
        };
        keys(frame, bottom, words);
    }
}

fn keys(frame: &mut Frame<'_>, area: Rect, words: &str) {
    frame.render_widget(Paragraph::new(words).style(FAINT), area);
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn head(shown: &Snapshot, look: &Look) -> Vec<Line<'static>> {
    let title = Line::from(vec![
        Span::styled("tracer top", BOLD),
        Span::raw("  "),
        Span::raw(clean::text(&look.title)),
    ]);
    let share = match shown.attempts {
        0 => String::new(),
        all => format!(" ({})", percent(shown.failed_attempts as f64 / all as f64)),
    };
    let bad = match shown.failed_attempts {
        0 => Style::new(),
        _ => look.ink(Color::Red).add_modifier(Modifier::BOLD),
    };
    let mut counts = vec![
        Span::styled(
            format!(
                "{} of {} attempts failed{share}",
                shown.failed_attempts, shown.attempts
            ),
            bad,
        ),
        Span::raw(format!(
            " in {} s; {} requests failed, {} masked",
            shown.window_seconds.round(),
            shown.failed_requests,
            shown.masked_requests
        )),
    ];
    if shown.lost_events > 0 {
        let lost = format!("; {} records lost", shown.lost_events);
        counts.push(Span::styled(lost, look.ink(Color::Yellow)));
    }
    let mut lines = vec![title, Line::from(counts)];
    if let Some(notice) = shown.notices.last() {
        let words = format!("! {}", clean::text(notice));
        lines.push(Line::styled(words, look.ink(Color::Yellow)));
    }
    lines.push(Line::styled(causes(&shown.causes), BOLD));
    lines
}

/// `no-listener 9, backend-slow 3`.
fn causes(rows: &[CauseRow]) -> String {
    let words = rows
        .iter()
        .map(|row| format!("{} {}", row.cause, row.count));
    words.collect::<Vec<_>>().join(", ")
}

/// The three lists, each with its head. What has no line takes no room.
fn lists(frame: &mut Frame<'_>, area: Rect, shown: &Snapshot, state: &mut State, look: &Look) {
    let rows =
        |count: usize, most: u16| 1 + u16::try_from(count.max(1)).map_or(most, |n| n.min(most));
    let queues = match shown.queues.len() {
        0 => 0,
        count => rows(count, (area.height / 6).max(1)),
    };
    let upstreams = rows(shown.upstreams.len(), (area.height / 3).max(2));
    let [first, second, third] = Layout::vertical([
        Constraint::Length(upstreams),
        Constraint::Length(queues),
        Constraint::Fill(1),
    ])
    .areas(area);
    self::upstreams(frame, first, shown, state, look);
    if queues > 0 {
        self::queues(frame, second, &shown.queues, look);
    }
    verdicts(frame, third, shown, state, look);
}

fn title(words: &[&'static str], focused: bool) -> Row<'static> {
    let style = match focused {
        true => BOLD.add_modifier(Modifier::UNDERLINED),
        false => Style::new().add_modifier(Modifier::UNDERLINED),
    };
    Row::new(words.iter().map(|word| Cell::new(*word))).style(style)
}

fn table<'a>(
    frame: &mut Frame<'_>,
    area: Rect,
    (head, rows, widths): (Row<'a>, Vec<Row<'a>>, Vec<Constraint>),
    selected: Option<usize>,
) {
    let mut state = TableState::new().with_selected(selected);
    let table = Table::new(rows, widths)
        .header(head)
        .column_spacing(1)
        .row_highlight_style(SELECTED);
    frame.render_stateful_widget(table, area, &mut state);
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(
        || NOTHING.to_owned(),
        |ms| match ms {
            ms if ms < 10.0 => format!("{ms:.2} ms"),
            ms if ms < 1000.0 => format!("{ms:.0} ms"),
            ms => format!("{:.1} s", ms / 1000.0),
        },
    )
}

fn upstreams(frame: &mut Frame<'_>, area: Rect, shown: &Snapshot, state: &mut State, look: &Look) {
    let is_wide = area.width >= WIDE;
    let (name, bars) = match area.width {
        ..WIDE => (21, 6),
        WIDE..WIDER => (30, 20),
        _ => (44, 40),
    };
    let mut widths = vec![Constraint::Length(name)];
    widths.extend([6, 6, 7].map(Constraint::Length));
    if is_wide {
        widths.push(Constraint::Length(8));
    }
    widths.extend([
        Constraint::Length(8),
        Constraint::Length(bars),
        Constraint::Fill(1),
    ]);
    let head: &[&str] = match is_wide {
        true => &[
            "upstream",
            "failed",
            "tries",
            "rate",
            "p50",
            "p99",
            "first byte, p95",
            "causes",
        ],
        false => &[
            "upstream", "failed", "tries", "rate", "p99", "trend", "causes",
        ],
    };
    let line = |row: &UpstreamRow| {
        let bad = match row.failed {
            0 => Style::new(),
            _ => look.ink(Color::Red),
        };
        let rate = row.failed_share.map_or_else(|| NOTHING.to_owned(), percent);
        let mut cells = vec![
            Cell::new(tail(&clean::text(&row.upstream), name.into())),
            Cell::new(row.failed.to_string()).style(bad),
            Cell::new(row.attempts.to_string()),
            Cell::new(rate).style(bad),
        ];
        if is_wide {
            cells.push(Cell::new(number(row.first_byte_p50_ms)));
        }
        cells.push(Cell::new(number(row.first_byte_p99_ms)));
        cells.push(Cell::new(sparkline(&row.first_byte_p95_ms, bars.into())));
        cells.push(Cell::new(causes(&row.causes)));
        Row::new(cells)
    };
    let mut rows: Vec<Row<'_>> = shown.upstreams.iter().map(line).collect();
    if rows.is_empty() {
        rows.push(Row::new(
            [Cell::new("no attempt in this time").style(FAINT)],
        ));
        widths = vec![Constraint::Fill(1)];
    }
    let has_focus = state.focus == Focus::Upstreams;
    let selected = has_focus.then(|| state.selected_upstream(shown));
    if has_focus {
        state.page = usize::from(area.height.saturating_sub(1)).max(1);
    }
    table(
        frame,
        area,
        (title(head, has_focus), rows, widths),
        selected,
    );
}

/// The end of a name that is too long: its port and the last parts of its path.
fn tail(name: &str, width: usize) -> String {
    let length = name.chars().count();
    if length <= width {
        return name.to_owned();
    }
    let end: String = name.chars().skip(length + 1 - width).collect();
    format!("…{end}")
}

/// Bars of a row's own scale, the newest at the right; a blank where nothing was measured.
pub(super) fn sparkline(values: &[Option<f64>], width: usize) -> String {
    // Several spans make a bar, which shows the longest.
    let each = values.len().div_ceil(width.max(1)).max(1);
    let bars: Vec<Option<f64>> = values
        .rchunks(each)
        .map(|chunk| chunk.iter().flatten().copied().reduce(f64::max))
        .collect();
    let most = bars.iter().flatten().copied().fold(0.0, f64::max);
    let bar = |value: &Option<f64>| match value {
        Some(value) if most > 0.0 => {
            let place = (value / most * 7.0).round() as usize;
            BARS[place.min(BARS.len() - 1)]
        }
        Some(_) => BARS[0],
        None => ' ',
    };
    let line: String = bars.iter().rev().map(bar).collect();
    format!("{line:>width$}")
}

fn queues(frame: &mut Frame<'_>, area: Rect, rows: &[QueueRow], look: &Look) {
    let line = |row: &QueueRow| {
        let is_full = |queue: u32, limit: u32| queue > limit || (queue == limit && limit > 0);
        let ink = |full: bool| match full {
            true => look.ink(Color::Red),
            false => Style::new(),
        };
        Row::new([
            Cell::new(tail(&clean::text(&row.listener), 44)),
            Cell::new(format!("{} of {}", row.queue, row.limit))
                .style(ink(is_full(row.queue, row.limit))),
            Cell::new(format!("{} of {}", row.fullest, row.fullest_limit))
                .style(ink(is_full(row.fullest, row.fullest_limit))),
        ])
    };
    let widths = vec![
        Constraint::Max(44),
        Constraint::Length(16),
        Constraint::Fill(1),
    ];
    let head = title(&["accept queue", "now", "fullest"], false);
    table(
        frame,
        area,
        (head, rows.iter().map(line).collect(), widths),
        None,
    );
}

fn status(verdict: &Verdict, look: &Look, is_wide: bool) -> Cell<'static> {
    let words = match verdict.masked && !is_wide {
        true => "masked".to_owned(),
        false => text::status(verdict.status, verdict.masked),
    };
    let ink = if verdict.masked {
        Color::Yellow
    } else {
        Color::Red
    };
    Cell::new(words).style(look.ink(ink))
}

fn verdicts(frame: &mut Frame<'_>, area: Rect, shown: &Snapshot, state: &mut State, look: &Look) {
    let is_wide = area.width >= WIDE;
    let line = |kept: &Kept| {
        let verdict = &*kept.verdict;
        let (sure, ink) = match verdict.confidence {
            Confidence::Proven => ("proven", Color::Green),
            Confidence::Inferred => ("inferred", Color::Yellow),
            Confidence::Unknown => ("unknown", Color::Yellow),
        };
        let upstream = clean::text(verdict.upstream.as_deref().unwrap_or(NOTHING));
        let time = json::timestamp(&kept.clock, verdict.time).to_zoned(look.zone.clone());
        Row::new([
            Cell::new(time.strftime("%H:%M:%S").to_string()),
            status(verdict, look, is_wide),
            Cell::new(verdict.cause).style(BOLD),
            Cell::new(sure).style(look.ink(ink)),
            Cell::new(tail(&upstream, if is_wide { 40 } else { 21 })),
            Cell::new(clean::text(&text::asked(verdict))),
        ])
    };
    let widths = vec![
        Constraint::Length(8),
        Constraint::Length(if is_wide { 10 } else { 6 }),
        Constraint::Length(22),
        Constraint::Length(8),
        Constraint::Length(if is_wide { 40 } else { 21 }),
        Constraint::Fill(1),
    ];
    let has_focus = state.focus == Focus::Verdicts;
    let mut rows: Vec<Row<'_>> = shown.verdicts.iter().map(line).collect();
    let mut selected = has_focus.then(|| state.selected_verdict(shown));
    let mut own = widths;
    if rows.is_empty() {
        rows.push(Row::new([Cell::new("no verdict so far").style(FAINT)]));
        (selected, own) = (None, vec![Constraint::Fill(1)]);
    }
    if has_focus {
        state.page = usize::from(area.height.saturating_sub(1)).max(1);
    }
    let head = title(
        &["time", "status", "cause", "sure", "upstream", "request"],
        has_focus,
    );
    table(frame, area, (head, rows, own), selected);
}

/// One verdict with its evidence and advice, as `live` prints it.
fn verdict(frame: &mut Frame<'_>, area: Rect, state: &mut State, look: &Look) {
    let Some(open) = &mut state.open else { return };
    let style = text::Style {
        color: false,
        width: usize::from(area.width).clamp(40, 160),
        zone: look.zone.clone(),
    };
    let mut page = Vec::new();
    // Writing to memory never fails.
    let _ = text::verdict(&mut page, &open.kept.verdict, &open.kept.clock, &style);
    let page = String::from_utf8_lossy(&page);
    let lines: Vec<Line<'_>> = page.lines().skip(1).map(Line::raw).collect();
    let height = usize::from(area.height);
    open.top = open.top.min(lines.len().saturating_sub(height));
    state.page = height.saturating_sub(1).max(1);
    let lines: Vec<Line<'_>> = lines.into_iter().skip(open.top).take(height).collect();
    frame.render_widget(Paragraph::new(lines), area);
}
