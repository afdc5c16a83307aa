//! A page: the payload of a frame of events. Sections, each `kind, length, bytes`, all numbers
//! varints:
//!
//! - - 0, the order: pairs `kind, count`, which say whose turn it is;
//! - - 1, ticks: the time of each in milliseconds, relative to the one before;
//! - - 2, connections in columns, see [`connections`];
//! - - 16 and above, rows, see [`rows`]: each `length, JSON`.
//!
//! A section of a later version is passed over and its events are counted.

use super::{
    cells::{apply, difference, put, take, take_piece},
    connections,
    rows::{self, Unread},
};
use crate::event::{Event, Time};

const ORDER: u64 = 0;
const TICKS: u64 = 1;
const CONNECTIONS: u64 = 2;
/// Kinds of rows are below this.
const KINDS: usize = 128;
const MILLISECOND: u64 = 1_000_000;

/// A page that is full should be taken at this size (bytes before compression).
const FULL: usize = 256 << 10;
/// Or with so many events.
const EVENTS: usize = 16_384;
/// No page has more.
const MOST_EVENTS: u32 = 1 << 18;

/// Gathers events.
#[derive(Debug, Default)]
pub(super) struct Builder {
    order: Vec<u8>,
    /// The current run of one kind.
    turn: (u64, u64),
    ticks: Vec<u8>,
    last_tick: u64,
    connections: connections::Writer,
    rows: Vec<(u64, Vec<u8>)>,
    row_bytes: usize,
    events: u32,
    times: Option<(Time, Time)>,
    scratch: Vec<u8>,
}

/// A page ready to be framed.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) events: u32,
    /// Earliest and latest time in it.
    pub(super) times: (Time, Time),
    pub(super) payload: Vec<u8>,
}

impl Builder {
    /// Adds the next event.
    pub(super) fn add(&mut self, event: &Event) {
        let at = event.at();
        let (from, to) = self.times.unwrap_or((at, at));
        self.times = Some((from.min(at), to.max(at)));
        self.events += 1;
        let kind = match event {
            Event::Tick(time) if time.0.is_multiple_of(MILLISECOND) => {
                let tick = time.0 / MILLISECOND;
                put(&mut self.ticks, difference(tick, self.last_tick));
                self.last_tick = tick;
                TICKS
            }
            Event::Connection(connection) if connections::fits(connection) => {
                self.connections.add(connection);
                CONNECTIONS
            }
            other => self.row(other),
        };
        if self.turn.0 != kind {
            self.end_turn();
            self.turn = (kind, 0);
        }
        self.turn.1 += 1;
    }

    fn row(&mut self, event: &Event) -> u64 {
        self.scratch.clear();
        let kind = rows::write(event, &mut self.scratch)
            .expect("an event has string keys only and no writer that fails");
        self.row_bytes += self.scratch.len();
        let rows = match self.rows.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, rows)) => rows,
            None => {
                self.rows.push((kind, Vec::new()));
                &mut self.rows.last_mut().expect("just pushed").1
            }
        };
        put(rows, self.scratch.len() as u64);
        rows.extend_from_slice(&self.scratch);
        kind
    }

    fn end_turn(&mut self) {
        if self.turn.1 > 0 {
            put(&mut self.order, self.turn.0);
            put(&mut self.order, self.turn.1);
        }
    }

    /// It should be taken at the next tick: what one moment brought stays together.
    pub(super) fn is_full(&self) -> bool {
        self.is_times_full(1)
    }

    /// It should be taken at once, tick or not.
    pub(super) fn is_overfull(&self) -> bool {
        self.is_times_full(8)
    }

    fn is_times_full(&self, times: usize) -> bool {
        self.events as usize >= EVENTS * times
            || self.row_bytes + self.connections.bytes() >= FULL * times
    }

    /// Returns what was gathered, `None` if nothing was, and resets.
    pub(super) fn take(&mut self) -> Option<Page> {
        let times = self.times?;
        self.end_turn();
        let mut payload = Vec::with_capacity(self.row_bytes + self.connections.bytes() + 4096);
        let mut section = |kind: u64, bytes: &[u8]| {
            put(&mut payload, kind);
            put(&mut payload, bytes.len() as u64);
            payload.extend_from_slice(bytes);
        };
        section(ORDER, &self.order);
        if !self.ticks.is_empty() {
            section(TICKS, &self.ticks);
        }
        if !self.connections.is_empty() {
            section(CONNECTIONS, &self.connections.take());
        }
        for (kind, rows) in &self.rows {
            section(*kind, rows);
        }
        let events = self.events;
        *self = Self::default();
        Some(Page {
            events,
            times,
            payload,
        })
    }
}

/// The next entry of a page.
#[derive(Debug)]
pub(super) enum Next {
    Event(Event),
    /// An event of a kind that this version does not know.
    Unknown,
    /// The page is damaged from here on.
    Damaged,
    /// The end of the page.
    End,
}

/// Reads a page, an event at a time.
#[derive(Debug, Default)]
pub(super) struct Reader {
    page: Vec<u8>,
    order: (usize, usize),
    turn: (u64, u64),
    ticks: (usize, usize),
    last_tick: u64,
    connections: connections::Reader,
    rows: Vec<(u64, usize, usize)>,
}

impl Reader {
    /// Begins to read a page of so many events; the buffer comes back with [`Self::into_buffer`].
    pub(super) fn open(page: Vec<u8>, events: u32) -> Option<Self> {
        if events > MOST_EVENTS {
            return None;
        }
        let mut reader = Self::default();
        let mut at = 0;
        while at < page.len() {
            let kind = take(&page, &mut at)?;
            let section = take_piece(&page, &mut at)?;
            let start = at - section.len();
            match kind {
                ORDER => reader.order = (start, at),
                TICKS => reader.ticks = (start, at),
                CONNECTIONS => {
                    reader.connections = connections::Reader::open(section, start)?;
                }
                row if reader.rows.len() < KINDS => reader.rows.push((row, start, at)),
                _ => return None,
            }
        }
        reader.page = page;
        Some(reader)
    }

    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.page
    }

    #[inline]
    pub(super) fn next(&mut self) -> Next {
        while self.turn.1 == 0 {
            let (at, end) = &mut self.order;
            if at == end {
                return Next::End;
            }
            let order = &self.page[..*end];
            let (Some(kind), Some(count)) = (take(order, at), take(order, at)) else {
                return Next::Damaged;
            };
            self.turn = (kind, count);
        }
        self.turn.1 -= 1;
        match self.turn.0 {
            CONNECTIONS => match self.connections.next(&self.page) {
                Some(connection) => Next::Event(Event::Connection(Box::new(connection))),
                None => Next::Damaged,
            },
            TICKS => {
                let (at, end) = &mut self.ticks;
                let Some(cell) = take(&self.page[..*end], at) else {
                    return Next::Damaged;
                };
                self.last_tick = apply(self.last_tick, cell);
                Next::Event(Event::Tick(Time(
                    self.last_tick.saturating_mul(MILLISECOND),
                )))
            }
            kind => self.next_row(kind),
        }
    }

    fn next_row(&mut self, kind: u64) -> Next {
        let Some((_, at, end)) = self.rows.iter_mut().find(|(known, ..)| *known == kind) else {
            return Next::Damaged;
        };
        let Some(row) = take_piece(&self.page[..*end], at) else {
            return Next::Damaged;
        };
        match rows::read(kind, row) {
            Ok(event) => Next::Event(event),
            Err(Unread::Unknown) => Next::Unknown,
            Err(Unread::Damaged) => Next::Damaged,
        }
    }
}
