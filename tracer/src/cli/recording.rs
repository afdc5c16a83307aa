//! The recording of a session: what goes into the header, when a ring is written out, what is
//! reported when it fails.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    path::PathBuf,
};

use anyhow::Result;

use super::found::found;
use crate::{
    capture::{Anonymizer, Header, HooksAtStart, Nginx, Plan, Recorder, Stopped},
    event::{Clock, Event, Time},
    plural::count,
    probe::{self, Outcome},
    say::say,
    source::{Live, keep_file_access_alone, system},
    verdict::Verdict,
};

/// So many requests that got a 502 within so long (nanoseconds) are a burst.
const BURST: usize = 10;
const BURST_WITHIN: u64 = 10_000_000_000;

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

/// A ring waiting for its first burst.
#[derive(Default)]
struct Ring {
    failures: VecDeque<Time>,
    met: bool,
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
        let ring = plan.ring.map(|_| Ring::default());
        Ok(Self {
            is_announced: false,
            path: plan.path.clone(),
            memory: plan.ring.unwrap_or(0),
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
        if let Event::Tick(_) = event
            && let Some(stopped) = self.recorder.stopped()
        {
            self.tell(&stopped);
        }
    }

    /// A verdict was given: is it a burst?
    pub(super) fn verdict(&mut self, verdict: &Verdict) {
        let Some(ring) = &mut self.ring else { return };
        if ring.met || verdict.status != Some(502) || verdict.masked {
            return;
        }
        ring.failures.push_back(verdict.time);
        while ring
            .failures
            .front()
            .is_some_and(|first| verdict.time.since(*first) > BURST_WITHIN)
        {
            ring.failures.pop_front();
        }
        if ring.failures.len() >= BURST {
            ring.met = true;
            ring.failures = VecDeque::new();
            self.recorder.dump(verdict.time);
        }
    }

    /// Writes out the ring.
    pub(super) fn dump(&mut self, now: Time) {
        self.recorder.dump(now);
    }

    /// The stream ended.
    pub(super) fn finish(mut self, at: Time) -> Result<()> {
        let left_out = self.recorder.left_out();
        let recorder = self.recorder;
        let stopped = recorder.finish(at);
        if let Some(stopped) = stopped {
            self.failed |= tell(&stopped);
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

    fn tell(&mut self, stopped: &Stopped) {
        self.failed |= tell(stopped);
    }
}

/// Says why recording ended; is it a failure?
fn tell(stopped: &Stopped) -> bool {
    say!("tracer: {stopped}");
    matches!(stopped, Stopped::Failed { .. })
}
