//! Events in, numbered pages out; and a file made of them.

use std::{collections::BTreeMap, io, sync::Arc};

use super::{
    file::{File, Framed},
    header::Header,
    page::{Builder, Page},
};
use crate::event::{
    Coverage, Event, Hooks, Lost, ProcessKind, Time, coverage::Change, fact::Worker,
};

/// A page with its place in the run.
#[derive(Debug)]
pub(super) struct Numbered {
    pub(super) page: Page,
    pub(super) sequence: u64,
    /// What held before it; `None`: nothing was known.
    pub(super) standing: Option<Arc<Page>>,
    /// The latest time before it.
    pub(super) since: Time,
}

/// Gathers the stream into pages.
#[derive(Debug, Default)]
pub(super) struct Pages {
    builder: Builder,
    /// Events in the current page, ticks not counted.
    substance: bool,
    /// Number of the page's first event.
    sequence: u64,
    /// What held before the page.
    before: Option<Arc<Page>>,
    /// The latest time before the page.
    latest: Time,
    now: Standing,
    changed: bool,
}

/// What holds: repeated where a reader may begin.
#[derive(Debug, Default)]
struct Standing {
    workers: BTreeMap<u32, Worker>,
    hooks: Hooks,
    lost: Option<Lost>,
    /// Whether an nginx is followed, since when.
    followed: Option<Coverage>,
    /// Those whose failures can not be seen.
    blind: BTreeMap<u32, Coverage>,
}

/// Of more it is not said again that their failures can not be seen.
const BLIND: usize = 64;

impl Standing {
    /// Takes an event; did it change anything?
    fn observe(&mut self, event: &Event) -> bool {
        match event {
            Event::Worker(worker) => {
                self.workers.insert(worker.pid, worker.clone());
                true
            }
            Event::Hooks(hooks) => {
                self.hooks = hooks.clone();
                true
            }
            Event::Lost(lost) => {
                let before = self.lost.take().unwrap_or_default();
                self.lost = Some(Lost {
                    at: lost.at,
                    events: before.events.saturating_add(lost.events),
                    healthy: before.healthy.saturating_add(lost.healthy),
                    bare: before.bare.saturating_add(lost.bare),
                    unexplained: before.unexplained.saturating_add(lost.unexplained),
                    // Requests that had begun before get no verdict where a reader begins.
                    skipped: Vec::new(),
                });
                true
            }
            Event::Coverage(coverage) => {
                match &coverage.change {
                    Change::Nothing | Change::Something { .. } => {
                        self.followed = Some(coverage.clone());
                    }
                    Change::Follows { since, .. } => {
                        let change = Change::Something { since: *since };
                        let at = coverage.at;
                        self.followed = Some(Coverage { at, change });
                    }
                    Change::Blind { pid, .. } if self.blind.len() < BLIND => {
                        self.blind.insert(*pid, coverage.clone());
                    }
                    _ => {}
                }
                true
            }
            Event::Process(process) => {
                matches!(process.kind, ProcessKind::Exited { .. })
                    && self.workers.remove(&process.pid).is_some()
            }
            _ => false,
        }
    }

    fn page(&self) -> Option<Arc<Page>> {
        let mut builder = Builder::default();
        builder.add(&Event::Hooks(self.hooks.clone()));
        if let Some(lost) = &self.lost {
            builder.add(&Event::Lost(lost.clone()));
        }
        let coverage = self.followed.iter().chain(self.blind.values());
        for coverage in coverage {
            builder.add(&Event::Coverage(coverage.clone()));
        }
        for worker in self.workers.values() {
            builder.add(&Event::Worker(worker.clone()));
        }
        builder.take().map(Arc::new)
    }
}

impl Pages {
    /// Adds the next event.
    pub(super) fn add(&mut self, event: &Event) {
        self.builder.add(event);
        self.substance |= !matches!(event, Event::Tick(_));
        self.changed |= self.now.observe(event);
    }

    /// Whether the current page should be taken.
    pub(super) fn is_full(&self) -> bool {
        self.builder.is_full()
    }

    /// It can not wait for the next tick.
    pub(super) fn is_overfull(&self) -> bool {
        self.builder.is_overfull()
    }

    /// Is there anything in it but ticks?
    pub(super) fn has_substance(&self) -> bool {
        self.substance
    }

    /// Takes the current page.
    pub(super) fn take(&mut self) -> Option<Numbered> {
        let page = self.builder.take()?;
        self.substance = false;
        let sequence = self.sequence;
        self.sequence += u64::from(page.events);
        let standing = self.before.clone();
        let since = self.latest;
        self.latest = since.max(page.times.1);
        if std::mem::take(&mut self.changed) {
            self.before = self.now.page();
        }
        Some(Numbered {
            page,
            sequence,
            standing,
            since,
        })
    }
}

/// One capture in one file, written as the events come.
#[derive(Debug)]
pub struct Writer<W> {
    pages: Pages,
    file: File<W>,
}

impl<W: io::Write> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn new(out: W, header: &Header) -> io::Result<Self> {
        Ok(Self {
            pages: Pages::default(),
            file: File::begin(out, header)?,
        })
    }

    /// Adds the next event; a full page is written.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn add(&mut self, event: &Event) -> io::Result<()> {
        self.pages.add(event);
        if self.pages.is_full() {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what was gathered.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn flush(&mut self) -> io::Result<()> {
        match self.pages.take() {
            Some(one) => self.file.write(&Framed::events(&one.page, one.sequence)?),
            None => Ok(()),
        }
    }

    /// Writes what was gathered and the end; `at` is when the stream ended.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self, at: Time) -> io::Result<()> {
        self.flush()?;
        self.file.end(Some(at))
    }
}
