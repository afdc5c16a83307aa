//! `--format json`: one object a line. The names are a contract (`docs/verdict.schema.json`); others may be added.

use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;

use super::clean;
use crate::{
    event::{Clock, Time},
    verdict::{Confidence, Verdict},
};

#[derive(Serialize)]
struct Object<'a> {
    time: String,
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

/// Writes a verdict as one line.
///
/// # Errors
/// Those of the writer.
pub fn verdict(out: &mut impl Write, verdict: &Verdict, clock: &Clock) -> io::Result<()> {
    let line = serde_json::to_string(&object(verdict, clock)).map_err(io::Error::other)?;
    writeln!(out, "{}", clean::escaped(line))
}

/// The name of a confidence.
pub(super) fn confidence(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Proven => "proven",
        Confidence::Inferred => "inferred",
        Confidence::Unknown => "unknown",
    }
}

fn object<'a>(verdict: &'a Verdict, clock: &Clock) -> Object<'a> {
    let maybe = |string: &Option<String>| string.as_deref().map(clean::cut);
    Object {
        time: rfc3339(clock, verdict.time),
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
fn rfc3339(clock: &Clock, time: Time) -> String {
    format!("{:.9}", timestamp(clock, time))
}

/// Wall-clock time of a boot time. 64 bits of nanoseconds reach to the year 2554, well within range.
pub(super) fn timestamp(clock: &Clock, time: Time) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(clock.unix_nanos(time))).unwrap_or(Timestamp::UNIX_EPOCH)
}
