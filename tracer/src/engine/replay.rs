//! Captures played again: the correlator and the catalogue get the same events in the same order as
//! they did live, and give the same verdicts.
//!
//! The files of one run (`--rotate`) are one stream, whatever order they are named in. Several runs
//! (hosts, or one host at several times) have a correlator each and merge by time. Memory is
//! bounded by what is open, not by the files.

use std::{
    collections::VecDeque,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::Engine;
use crate::{
    capture::{self, Anonymizer, Damage, Header, Item, OpenError, Reader},
    correlate::Unreported,
    event::{Event, Lost, Time},
    verdict::Verdict,
};

/// What a replay reports, in order of time.
#[derive(Debug)]
pub(crate) enum Played<'a> {
    /// An event, before the correlator takes it.
    Event(&'a Event),
    /// A verdict.
    Verdict(&'a Verdict),
    /// Events are missing from here on: a file of the run is absent, or was not kept (`--ring`).
    /// What is open is closed.
    Cut,
}

/// One run of `tracer record`.
#[derive(Debug)]
pub(crate) struct Run {
    header: Header,
    files: VecDeque<(PathBuf, Reader<BufReader<File>>)>,
    engine: Engine,
    anonymizer: Option<Anonymizer>,
    /// The time of the last event.
    now: Time,
    events: u64,
    lost: u64,
    unreported: Unreported,
    damages: Vec<(PathBuf, Damage)>,
    read: u64,
    over: bool,
    /// What came before the next event was left out.
    is_in_the_middle: bool,
}

impl Run {
    /// The header of its first file.
    #[must_use]
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Events so far.
    #[must_use]
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// Records lost so far: those that the kernel dropped while recording, and those that the files
    /// lack.
    #[must_use]
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// Failed requests without a verdict so far.
    #[must_use]
    pub(crate) fn unreported(&self) -> Unreported {
        [self.unreported, self.engine.unreported()]
            .into_iter()
            .sum()
    }

    /// What was wrong with its files that were read so far.
    #[must_use]
    pub(crate) fn damages(&self) -> &[(PathBuf, Damage)] {
        &self.damages
    }

    /// The moment up to which it was read, as Unix time in nanoseconds.
    #[must_use]
    pub(crate) fn unix_now(&self) -> u64 {
        self.header.clock.unix_nanos(self.now)
    }
}

/// Captures being played.
#[derive(Debug)]
pub(crate) struct Replay {
    runs: Vec<Run>,
    size: u64,
    last: u64,
}

impl Replay {
    /// Opens the files: their headers are read.
    ///
    /// # Errors
    /// One of them is no capture, or can not be read; the error names it.
    pub(crate) fn open<P: AsRef<Path>>(
        paths: impl IntoIterator<Item = P>,
    ) -> Result<Self, OpenError> {
        let mut runs: Vec<Run> = Vec::new();
        let mut size = 0;
        let mut files = Vec::new();
        for path in paths {
            let reader = Reader::open(path.as_ref())?;
            size += reader.progress().0;
            files.push((path.as_ref().to_owned(), reader));
        }
        files.sort_by_key(|(_, reader)| reader.header().part);
        for (path, reader) in files {
            let header = reader.header();
            if let Some(run) = runs.iter_mut().find(|run| run.header.run == header.run) {
                run.files.push_back((path, reader));
                continue;
            }
            runs.push(Run {
                header: header.clone(),
                now: Time(header.clock.boot),
                files: VecDeque::from([(path, reader)]),
                engine: Engine::default(),
                anonymizer: None,
                events: 0,
                lost: 0,
                unreported: Unreported::default(),
                damages: Vec::new(),
                read: 0,
                over: false,
                is_in_the_middle: false,
            });
        }
        // Equal times come in the order of the runs' beginnings.
        runs.sort_by_key(|run| run.header.clock.wall);
        Ok(Self {
            runs,
            size,
            last: u64::MAX,
        })
    }

    /// From now on client addresses and request lines are replaced, before anyone sees them.
    pub(crate) fn anonymize(&mut self, anonymizer: &Anonymizer) {
        for run in &mut self.runs {
            run.anonymizer = Some(anonymizer.clone());
        }
    }

    /// What is later than this Unix time (nanoseconds) is not played.
    pub(crate) fn stop_after(&mut self, unix: u64) {
        self.last = unix;
    }

    /// The runs, by their beginning.
    #[must_use]
    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Bytes of all files, and how many of them were read.
    #[must_use]
    pub(crate) fn progress(&self) -> (u64, u64) {
        let read = self.runs.iter().map(|run| {
            let open = run.files.front().map_or(0, |(_, file)| file.progress().1);
            run.read + open
        });
        (self.size, read.sum())
    }

    /// Plays until the next tick of the run that is farthest behind. `false`: all were read.
    ///
    /// # Errors
    /// A file can not be read any more, or `report` fails.
    pub(crate) fn step(
        &mut self,
        report: impl FnMut(&Run, Played<'_>) -> Result<()>,
    ) -> Result<bool> {
        let behind = self
            .runs
            .iter_mut()
            .filter(|run| !run.over && run.unix_now() <= self.last)
            .min_by_key(|run| run.unix_now());
        match behind {
            Some(run) => run.step(report).map(|()| true),
            None => Ok(false),
        }
    }
}

impl Run {
    fn step(&mut self, mut report: impl FnMut(&Self, Played<'_>) -> Result<()>) -> Result<()> {
        loop {
            let Some((path, reader)) = self.files.front_mut() else {
                self.over = true;
                let end = self.now;
                return self.finish(end, &mut report);
            };
            let item = reader
                .next_item()
                .with_context(|| format!("reading {}", capture::shown(path)))?;
            match item {
                Some(Item::Event(event)) => {
                    if std::mem::take(&mut self.is_in_the_middle) {
                        self.engine.begin(event.at());
                    }
                    let is_tick = matches!(event, Event::Tick(_));
                    self.take(event, &mut report)?;
                    if is_tick {
                        return Ok(());
                    }
                }
                Some(Item::Gap(gap)) => {
                    let at = gap.after.max(self.now);
                    let events = gap.events;
                    self.take(
                        Event::Lost(Lost {
                            at,
                            events,
                            ..Lost::default()
                        }),
                        &mut report,
                    )?;
                }
                Some(Item::Standing { events, since }) => {
                    self.cut(&mut report)?;
                    for event in events {
                        self.take(event, &mut report)?;
                    }
                    match since {
                        Some(since) => self.engine.begin(since),
                        None => self.is_in_the_middle = true,
                    }
                }
                None => self.next_file(),
            }
        }
    }

    fn take(
        &mut self,
        event: Event,
        report: &mut impl FnMut(&Self, Played<'_>) -> Result<()>,
    ) -> Result<()> {
        let event = match &self.anonymizer {
            Some(anonymizer) => anonymizer.event(&event).into_owned(),
            None => event,
        };
        self.events += 1;
        self.now = self.now.max(event.at());
        if let Event::Lost(lost) = &event {
            self.lost = self.lost.saturating_add(lost.events);
        }
        report(self, Played::Event(&event))?;
        for verdict in self.engine.feed(event).verdicts {
            report(self, Played::Verdict(&verdict))?;
        }
        Ok(())
    }

    fn finish(
        &mut self,
        end: Time,
        report: &mut impl FnMut(&Self, Played<'_>) -> Result<()>,
    ) -> Result<()> {
        while let Some(verdicts) = self.engine.finish(end) {
            for verdict in verdicts {
                report(self, Played::Verdict(&verdict))?;
            }
        }
        Ok(())
    }

    /// What came before does not lead on to what comes.
    fn cut(&mut self, report: &mut impl FnMut(&Self, Played<'_>) -> Result<()>) -> Result<()> {
        if self.events == 0 {
            return Ok(());
        }
        self.finish(self.now, report)?;
        self.unreported = self.unreported();
        self.engine = Engine::default();
        report(self, Played::Cut)
    }

    fn next_file(&mut self) {
        let Some((path, reader)) = self.files.pop_front() else {
            return;
        };
        self.read += reader.progress().0;
        self.now = self.now.max(reader.ended().unwrap_or_default());
        if let Some((_, next)) = self.files.front_mut() {
            next.follow(reader.sequence());
        }
        if !reader.damage().is_none() {
            self.damages.push((path, reader.damage().clone()));
        }
    }
}
