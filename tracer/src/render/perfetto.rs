//! A trace for ui.perfetto.dev or chrome://tracing, in Chrome's JSON format: a process for each
//! worker, in it a track for the worker, one for each upstream connection and one for each failed
//! request; arrows lead from a request's connections to the request. Times are microseconds since
//! the recording began.
//!
//! Connections and verdicts that belong together may come in either order; of each kind the last
//! few thousand are remembered. A pair that is farther apart has no arrow.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io::{self, Write},
};

use serde::Serialize;
use serde_json::{Value, json};

use super::{clean, text};
use crate::{
    event::{Clock, Connection, Time},
    verdict::Verdict,
};

/// Connections, and attempts without one, remembered for arrows.
const REMEMBERED: usize = 8192;
/// The most process ids that Linux has (`PID_MAX_LIMIT`); each run has so many numbers of its own.
const PIDS: u64 = 1 << 22;
/// Perfetto's numbers have 32 bits: the lower half is for processes, the upper for tracks.
const RUNS: u64 = 1 << 9;
const TRACKS: u64 = 1 << 31;
/// Workers named; the tracks of others have a number only.
const WORKERS: usize = 65_536;

/// One event of the trace.
#[derive(Serialize)]
struct Entry<'a> {
    ph: &'a str,
    name: &'a str,
    cat: &'a str,
    ts: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    pid: u64,
    tid: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    /// Of an arrow's end: it belongs to the slice around it.
    #[serde(skip_serializing_if = "Option::is_none")]
    bp: Option<&'a str>,
    /// Of a moment: it belongs to its track.
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<&'a str>,
    #[serde(skip_serializing_if = "Value::is_null")]
    args: Value,
}

/// An attempt: the worker's process in the trace, and when it began.
type Attempt = (u64, Time);
/// A place for one end of an arrow: track and time.
type Place = (u64, f64);

/// A trace being written.
pub(crate) struct Trace<W: Write> {
    out: W,
    /// Unix nanoseconds that are 0 in the trace.
    zero: u64,
    entries: u64,
    tracks: u64,
    arrows: u64,
    named: HashSet<u64>,
    connections: Recent,
    attempts: Recent,
}

/// The last places of attempts.
#[derive(Default)]
struct Recent {
    places: HashMap<Attempt, Place>,
    order: VecDeque<Attempt>,
}

impl Recent {
    fn put(&mut self, attempt: Attempt, place: Place) {
        if self.order.len() == REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.places.remove(&oldest);
        }
        self.places.insert(attempt, place);
        self.order.push_back(attempt);
    }
}

/// Whose events these are: which of the runs, its host, its clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    /// The run's ordinal.
    pub run: u64,
    /// The host's name.
    pub host: &'a str,
    /// The clock of its times.
    pub clock: &'a Clock,
}

impl<W: Write> Trace<W> {
    /// Begins a trace; `zero` is its beginning in Unix nanoseconds.
    ///
    /// # Errors
    /// Those of the writer.
    pub(crate) fn new(mut out: W, zero: u64) -> io::Result<Self> {
        out.write_all(b"{\"displayTimeUnit\":\"ms\",\"traceEvents\":[")?;
        Ok(Self {
            out,
            zero,
            entries: 0,
            tracks: TRACKS,
            arrows: 0,
            named: HashSet::new(),
            connections: Recent::default(),
            attempts: Recent::default(),
        })
    }

    /// Adds a connection's track. One that is open yet comes again at its end.
    ///
    /// # Errors
    /// Those of the writer.
    pub(crate) fn connection(&mut self, c: &Connection, origin: Origin<'_>) -> io::Result<()> {
        let began = Some(c.start).filter(|start| start.0 != 0);
        let Some(from) = began.or(c.reused_at).filter(|_| !c.open) else {
            return Ok(());
        };
        let pid = self.worker(c.worker, origin)?;
        let upstream = clean::text(&c.remote.to_string());
        let tid = self.track(pid, &upstream)?;
        let at = |time| self.at(time, origin.clock);
        let (start, end) = (at(from), at(c.closed));
        let served = c.reused_at.or(began);
        let handshake = began
            .zip(c.established)
            .map(|(from, to)| (at(from), at(to)));
        let waited = served
            .zip(c.first_byte)
            .map(|(from, to)| (at(c.established.unwrap_or(from).max(from)), at(to)));
        let moments = [
            ("reused", c.reused_at),
            ("FIN received", c.fin_received),
            ("RST received", c.rst_received),
            ("error", c.error.map(|(_, at)| at)),
        ]
        .map(|(name, time)| (name, time.map(at)));
        let args = json!({
            "status": c.status, "reuses": c.reuses, "bytes_sent": c.bytes_sent, "bytes_received": c.bytes_received,
            "syn_retransmits": c.syn_retransmits,
        });
        self.slice(pid, tid, "connection", &upstream, (start, end), args)?;
        for (name, span) in [("connect", handshake), ("wait for the first byte", waited)] {
            if let Some(span) = span {
                self.slice(pid, tid, "connection", name, span, Value::Null)?;
            }
        }
        for (name, at) in moments {
            if let Some(at) = at {
                self.moment(pid, tid, name, at)?;
            }
        }
        let Some(attempt) = served.map(|from| (pid, from)) else {
            return Ok(());
        };
        match self.attempts.places.remove(&attempt) {
            Some(place) => self.arrow(pid, (tid, end), place),
            None => {
                self.connections.put(attempt, (tid, end));
                Ok(())
            }
        }
    }

    /// Adds a failed request's track, and the moment of its answer to the worker's.
    ///
    /// # Errors
    /// Those of the writer.
    pub(crate) fn verdict(&mut self, v: &Verdict, origin: Origin<'_>) -> io::Result<()> {
        let pid = self.worker(v.worker, origin)?;
        let name = format!(
            "{} {}: {}",
            text::status(v.status, v.masked),
            clean::text(&text::asked(v)),
            v.cause
        );
        let tid = self.track(pid, &name)?;
        let first = v
            .attempts
            .iter()
            .map(|attempt| attempt.start)
            .chain([v.time])
            .min()
            .unwrap_or(v.time);
        let last = v
            .attempts
            .iter()
            .map(|attempt| attempt.end)
            .chain([v.time])
            .max()
            .unwrap_or(v.time);
        let span = (self.at(first, origin.clock), self.at(last, origin.clock));
        let args = json!({
            "summary": clean::text(&v.summary),
            "evidence": v.evidence.iter().map(|one| clean::text(&one.text)).collect::<Vec<_>>(),
            "advice": v.advice.iter().map(|line| clean::text(line)).collect::<Vec<_>>(),
        });
        self.slice(pid, tid, "request", &name, span, args)?;
        for attempt in &v.attempts {
            let (start, end) = (
                self.at(attempt.start, origin.clock),
                self.at(attempt.end, origin.clock),
            );
            let upstream = attempt
                .upstream
                .as_deref()
                .map(clean::text)
                .unwrap_or_default();
            let name = format!("{upstream} {}", attempt.cause.unwrap_or("served"));
            self.slice(pid, tid, "attempt", name.trim(), (start, end), Value::Null)?;
            let (key, place) = ((pid, attempt.start), (tid, end));
            match self.connections.places.get(&key).copied() {
                Some(from) => self.arrow(pid, from, place)?,
                None => self.attempts.put(key, place),
            }
        }
        self.moment(pid, pid, &name, self.at(v.time, origin.clock))
    }

    /// Ends the trace and returns its writer.
    ///
    /// # Errors
    /// Those of the writer.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(b"\n]}\n")?;
        Ok(self.out)
    }

    /// Microseconds since the beginning.
    fn at(&self, time: Time, clock: &Clock) -> f64 {
        let nanoseconds = i128::from(clock.unix_nanos(time)) - i128::from(self.zero);
        nanoseconds as f64 / 1000.0
    }

    /// The worker's process; its name, when it is first met.
    fn worker(&mut self, worker: u32, origin: Origin<'_>) -> io::Result<u64> {
        let pid = (origin.run % RUNS) * PIDS + u64::from(worker) % PIDS;
        if self.named.len() < WORKERS && self.named.insert(pid) {
            let name = format!("nginx worker {worker} on {}", clean::text(origin.host));
            self.name("process_name", pid, pid, &name)?;
            self.name("thread_name", pid, pid, "requests that failed")?;
        }
        Ok(pid)
    }

    fn track(&mut self, pid: u64, name: &str) -> io::Result<u64> {
        self.tracks += 1;
        let tid = self.tracks;
        self.name("thread_name", pid, tid, name)?;
        Ok(tid)
    }

    fn name(&mut self, what: &str, pid: u64, tid: u64, name: &str) -> io::Result<()> {
        let args = json!({ "name": name });
        self.write(&Entry {
            args,
            ..entry("M", what, "", 0.0, pid, tid)
        })
    }

    fn slice(
        &mut self,
        pid: u64,
        tid: u64,
        cat: &str,
        name: &str,
        (start, end): (f64, f64),
        args: Value,
    ) -> io::Result<()> {
        self.write(&Entry {
            dur: Some((end - start).max(0.0)),
            args,
            ..entry("X", name, cat, start, pid, tid)
        })
    }

    fn moment(&mut self, pid: u64, tid: u64, name: &str, at: f64) -> io::Result<()> {
        self.write(&Entry {
            s: Some("t"),
            ..entry("i", name, "moment", at, pid, tid)
        })
    }

    fn arrow(&mut self, pid: u64, from: Place, to: Place) -> io::Result<()> {
        self.arrows += 1;
        let id = Some(self.arrows);
        self.write(&Entry {
            id,
            ..entry("s", "serves", "flow", from.1.min(to.1), pid, from.0)
        })?;
        self.write(&Entry {
            id,
            bp: Some("e"),
            ..entry("f", "serves", "flow", to.1, pid, to.0)
        })
    }

    fn write(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        self.out
            .write_all(if self.entries == 0 { b"\n" } else { b",\n" })?;
        self.entries += 1;
        serde_json::to_writer(&mut self.out, entry).map_err(io::Error::from)
    }
}

fn entry<'a>(ph: &'a str, name: &'a str, cat: &'a str, ts: f64, pid: u64, tid: u64) -> Entry<'a> {
    Entry {
        ph,
        name,
        cat,
        ts,
        dur: None,
        pid,
        tid,
        id: None,
        bp: None,
        s: None,
        args: Value::Null,
    }
}
