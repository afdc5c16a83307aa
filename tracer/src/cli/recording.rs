//! The recording of a session: what goes into the header, when a ring is written, what is reported
//! of it.

use std::{collections::BTreeSet, fmt, path::PathBuf};

use anyhow::Result;

use super::{bursts::Bursts, found::found};
use crate::{
    capture::{Anonymizer, Header, HooksAtStart, News, Nginx, Plan, Recorder, Reply, Why},
    event::{Clock, Event, Time},
    plural::count,
    probe::{self, Outcome},
    say::say,
    source::{Live, keep_file_access_alone, system},
    verdict::Verdict,
};

/// A recording, from before the hooks are attached until the end.
pub(super) struct Recording {
    recorder: Recorder,
    path: PathBuf,
    is_announced: bool,
    btf: PathBuf,
    memory: u64,
    ring: Option<Ring>,
    anonymizer: Option<Anonymizer>,
    failed: bool,
}

/// A ring, which waits for bursts.
#[derive(Default)]
struct Ring {
    bursts: Bursts,
    /// There is a verdict that no file has.
    is_wanted: bool,
    /// The last line about it.
    last: Option<String>,
}

/// Recording did not go to its end, which was said when it happened.
#[derive(Debug)]
pub(super) struct EndedEarly;

impl fmt::Display for EndedEarly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the capture could not be written to its end")
    }
}

impl std::error::Error for EndedEarly {}

impl Recording {
    /// Creates the file, while this process still may.
    pub(super) fn create(plan: Plan, btf: PathBuf, anonymize: bool) -> Result<Self> {
        let (path, memory, ring) = match &plan {
            Plan::Files(files) => (files.path.clone(), 0, None),
            Plan::Ring(ring) => (ring.folder.clone(), ring.memory, Some(Ring::default())),
        };
        Ok(Self {
            is_announced: false,
            path,
            memory,
            recorder: Recorder::create(plan, keep_file_access_alone)?,
            btf,
            ring,
            anonymizer: anonymize.then(|| Anonymizer::new(&system::random())),
            failed: false,
        })
    }

    /// The user did not name the file: [`greet`](Self::greet) does.
    pub(super) fn announce(&mut self) {
        self.is_announced = true;
    }

    /// Says where events go, unless the user said it.
    pub(super) fn greet(&self) {
        if self.is_announced {
            say!("recording to {}", self.path.display());
        }
    }

    /// Whether it is a ring, which is written on demand.
    pub(super) fn is_ring(&self) -> bool {
        self.ring.is_some()
    }

    /// The last line about a file of the ring.
    pub(super) fn last(&self) -> Option<&str> {
        self.ring.as_ref()?.last.as_deref()
    }

    /// Bytes of memory that it was asked to hold.
    pub(super) fn memory(&self) -> u64 {
        self.memory
    }

    /// Hooks are attached.
    pub(super) fn begin(&mut self, live: &Live, clock: Clock) {
        let probes = live.probes();
        // A program may see two things.
        let standing: BTreeSet<String> = probe::hooks()
            .filter(|hook| probes.outcome(hook.program) == Some(&Outcome::Attached))
            .map(|hook| hook.program.to_owned())
            .collect();
        let nginx = live.following().masters().into_iter().map(|master| Nginx {
            master: master.pid,
            version: master.version.clone(),
            binary: master.exe.display().to_string(),
            workers: master.workers.len(),
            found: found(master, live.following().assumed()),
        });
        let arguments = std::env::args_os();
        self.recorder.begin(Header {
            run: system::random_name(),
            part: 0,
            clock,
            utc_offset: system::utc_offset(),
            host: system::host(),
            boot_id: system::boot_id(),
            kernel: system::kernel(&self.btf),
            nginx: nginx.collect(),
            hooks: HooksAtStart {
                standing: standing.into_iter().collect(),
                absent: live.absent(),
            },
            tracer: env!("CARGO_PKG_VERSION").to_owned(),
            command: arguments
                .map(|argument| argument.to_string_lossy().into_owned())
                .collect(),
            anonymized: self.anonymizer.is_some(),
        });
    }

    /// The next event.
    pub(super) fn event(&mut self, event: &Event) {
        match &self.anonymizer {
            Some(anonymizer) => self.recorder.add(&anonymizer.event(event)),
            None => self.recorder.add(event),
        }
        if let Event::Tick(now) = event {
            if let Some(ring) = &mut self.ring
                && ring.bursts.passed(*now)
            {
                ring.is_wanted = false;
                self.recorder.quiet(*now);
            }
            while let Some(news) = self.recorder.news() {
                self.report(&news);
            }
        }
    }

    /// A verdict was given: does a burst begin with it?
    pub(super) fn verdict(&mut self, verdict: &Verdict) {
        let Some(ring) = &mut self.ring else { return };
        ring.is_wanted = true;
        if !verdict.masked && ring.bursts.failed(verdict.time) {
            self.recorder.burst(verdict.time);
        }
    }

    /// Writes out the ring.
    pub(super) fn dump(&mut self, now: Time, reply: Option<Reply>) {
        if let Some(ring) = &mut self.ring {
            ring.bursts.reset();
            ring.is_wanted = false;
        }
        self.recorder.dump(Why::Asked, now, reply);
    }

    /// The stream ended.
    pub(super) fn finish(mut self, at: Time) -> Result<()> {
        let left_out = self.recorder.left_out();
        let recorder = self.recorder;
        let is_wanted = self.ring.is_some_and(|ring| ring.is_wanted);
        for news in recorder.finish(at, is_wanted) {
            say!("{news}");
            self.failed |= news.is_failure();
        }
        if left_out > 0 {
            let events = count(left_out, "event");
            say!("tracer: {events} not recorded: the disk was too slow; the capture says where");
            self.failed = true;
        }
        if self.failed {
            return Err(EndedEarly.into());
        }
        Ok(())
    }

    /// What a ring could not write was said, and what comes after it has files again: only one that
    /// is missing at the end is a failure.
    fn report(&mut self, news: &News) {
        say!("{news}");
        match &mut self.ring {
            Some(ring) => ring.last = Some(news.to_string()),
            None => self.failed |= news.is_failure(),
        }
    }
}
