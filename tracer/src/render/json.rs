//! `--format json`: one object a line. The names are a contract (`docs/verdict.schema.json`);
//! others may be added.

use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    clean, coverage,
    notice::{lost_sentence, sentence},
};
use crate::{
    event::{Clock, Coverage, Notice, Time},
    verdict::{Confidence, Verdict},
};

/// The number of `docs/verdict.schema.json`. What only adds members does not change it.
const SCHEMA: u32 = 1;

/// A verdict, as `--format json` has it.
#[derive(Serialize)]
pub(crate) struct Object<'a> {
    kind: &'a str,
    schema: u32,
    time: String,
    host: Option<String>,
    status: Option<u16>,
    masked: bool,
    cause: &'a str,
    confidence: &'a str,
    worker: u32,
    unit: Option<String>,
    connection: Option<u64>,
    request: Option<Request>,
    upstream: Option<String>,
    upstream_name: Option<String>,
    errno: Option<&'a str>,
    attempts: Vec<Attempt<'a>>,
    summary: String,
    evidence: Vec<Evidence<'a>>,
    advice: Vec<String>,
    lost_events: u64,
}

#[derive(Serialize)]
struct Request {
    client: Option<String>,
    host: Option<String>,
    line: Option<String>,
    server_name: Option<String>,
    request_id: Option<String>,
    traceparent: Option<String>,
}

#[derive(Serialize)]
struct Attempt<'a> {
    upstream: Option<String>,
    cause: Option<&'a str>,
    errno: Option<&'a str>,
    reused: bool,
    start: String,
    end: String,
}

#[derive(Serialize)]
struct Evidence<'a> {
    time: Option<String>,
    event: &'a str,
    text: String,
}

#[derive(Serialize)]
struct NoticeObject<'a> {
    kind: &'a str,
    schema: u32,
    time: String,
    host: Option<String>,
    event: &'a str,
    over: bool,
    pid: Option<u32>,
    text: String,
}

/// Writes a verdict on a request of this host as one line.
///
/// # Errors
/// Those of the writer.
pub(crate) fn verdict(
    out: &mut impl Write,
    verdict: &Verdict,
    host: &str,
    clock: &Clock,
) -> io::Result<()> {
    line(out, &object(verdict, host, clock))
}

/// What is no verdict and yet is said: a notice, a change of what can be seen, records lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    /// When.
    pub(crate) at: Time,
    /// The word for programs.
    pub(crate) event: &'static str,
    /// The state has ended.
    pub(crate) is_over: bool,
    /// The process that it is about.
    pub(crate) pid: Option<u32>,
    /// The sentence.
    pub(crate) text: String,
}

impl Said {
    /// Of a notice.
    pub(crate) fn notice(notice: &Notice, clock: &Clock) -> Self {
        Self {
            at: notice.at,
            event: notice.strain.id(),
            is_over: notice.is_over,
            pid: (notice.pid != 0).then_some(notice.pid),
            text: sentence(notice, |time| rfc3339(clock, time)),
        }
    }

    /// Of a change of what can be seen; none of what another line reports.
    pub(crate) fn coverage(coverage: &Coverage) -> Option<Self> {
        Some(Self {
            at: coverage.at,
            event: coverage.change.id(),
            is_over: false,
            pid: coverage.change.pid(),
            text: coverage::sentence(&coverage.change, coverage.at)?,
        })
    }

    /// Of kernel records that were lost.
    pub(crate) fn lost(at: Time, events: u64) -> Self {
        Self {
            at,
            event: "lost",
            is_over: false,
            pid: None,
            text: lost_sentence(events),
        }
    }
}

/// Writes what is said of this host as one line.
///
/// # Errors
/// Those of the writer.
pub(crate) fn said(out: &mut impl Write, said: &Said, host: &str, clock: &Clock) -> io::Result<()> {
    let object = NoticeObject {
        kind: "notice",
        schema: SCHEMA,
        time: rfc3339(clock, said.at),
        host: named(host),
        event: said.event,
        over: said.is_over,
        pid: said.pid,
        text: clean::cut(&said.text),
    };
    line(out, &object)
}

fn line(out: &mut impl Write, object: &impl Serialize) -> io::Result<()> {
    let line = serde_json::to_string(object).map_err(io::Error::other)?;
    writeln!(out, "{}", clean::escaped(line))
}

/// A host's name; a capture may have none.
fn named(host: &str) -> Option<String> {
    (!host.is_empty()).then(|| clean::cut(host))
}

/// The name of a confidence.
pub(crate) fn confidence(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Proven => "proven",
        Confidence::Inferred => "inferred",
        Confidence::Unknown => "unknown",
    }
}

/// Returns a verdict on a request of this host as it is serialized.
pub(crate) fn object<'a>(verdict: &'a Verdict, host: &str, clock: &Clock) -> Object<'a> {
    let maybe = |string: &Option<String>| string.as_deref().map(clean::cut);
    Object {
        kind: "verdict",
        schema: SCHEMA,
        time: rfc3339(clock, verdict.time),
        host: named(host),
        status: verdict.status,
        masked: verdict.masked,
        cause: verdict.cause,
        confidence: confidence(verdict.confidence),
        worker: verdict.worker,
        unit: maybe(&verdict.unit),
        connection: verdict.connection,
        request: verdict.request.as_ref().map(|request| Request {
            client: maybe(&request.client),
            host: maybe(&request.host),
            line: maybe(&request.line),
            server_name: maybe(&request.server_name),
            request_id: maybe(&request.request_id),
            traceparent: maybe(&request.traceparent),
        }),
        upstream: maybe(&verdict.upstream),
        upstream_name: maybe(&verdict.upstream_name),
        errno: verdict.errno.as_deref(),
        attempts: verdict
            .attempts
            .iter()
            .map(|attempt| Attempt {
                upstream: maybe(&attempt.upstream),
                cause: attempt.cause,
                errno: attempt.errno.as_deref(),
                reused: attempt.reused,
                start: rfc3339(clock, attempt.start),
                end: rfc3339(clock, attempt.end),
            })
            .collect(),
        summary: clean::cut(&verdict.summary),
        evidence: verdict
            .evidence
            .iter()
            .map(|evidence| Evidence {
                time: evidence.time.map(|time| rfc3339(clock, time)),
                event: evidence.event,
                text: clean::cut(&evidence.text),
            })
            .collect(),
        advice: verdict.advice.iter().map(|line| clean::cut(line)).collect(),
        lost_events: verdict.lost_events,
    }
}

/// `2026-11-20T10:15:23.000123456Z`.
pub(crate) fn rfc3339(clock: &Clock, time: Time) -> String {
    format!("{:.9}", timestamp(clock, time))
}

/// Wall-clock time of a boot time. 64 bits of nanoseconds reach to the year 2554, well within
/// range.
pub(crate) fn timestamp(clock: &Clock, time: Time) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(clock.unix_nanos(time))).unwrap_or(Timestamp::UNIX_EPOCH)
}
