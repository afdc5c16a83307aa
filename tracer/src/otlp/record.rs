//! A verdict as a log record and a span with its attempts' spans below it; a notice as a log
//! record.

use serde::Serialize;

use super::{
    attempt::{self, Span, Status},
    attributes::{Attributes, Value},
    queue::Item,
    trace::{self, Place},
};
use crate::{
    clean,
    event::Clock,
    render::json::{Said, confidence},
    verdict::Verdict,
};

/// `SEVERITY_NUMBER_ERROR`: the client got an error.
const ERROR: (u8, &str) = (17, "ERROR");
/// `SEVERITY_NUMBER_WARN`: it did not.
const WARN: (u8, &str) = (13, "WARN");
/// `SEVERITY_NUMBER_INFO`: a state has ended.
const INFO: (u8, &str) = (9, "INFO");
/// `SPAN_KIND_SERVER`: nginx served the request.
const SERVER: u8 = 2;

/// A `LogRecord` of OTLP.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    time_unix_nano: String,
    observed_time_unix_nano: String,
    severity_number: u8,
    severity_text: &'static str,
    event_name: &'static str,
    body: Value,
    attributes: Attributes,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<String>,
    flags: u32,
}

/// The record of one item, and its spans, if it has any. Seen at `observed` (Unix nanoseconds).
pub(super) fn of(item: &Item, clock: &Clock, observed: u64) -> (Record, Vec<Span>) {
    match item {
        Item::Notice(said) => (notice(said, clock, observed), Vec::new()),
        Item::Verdict(verdict) => {
            let request = verdict.request.as_ref();
            let place = Place::of(request.and_then(|request| request.traceparent.as_deref()));
            let span = trace::span();
            let record = Record {
                trace_id: Some(place.trace.clone()),
                span_id: Some(span.clone()),
                flags: place.flags & 0xff,
                ..log(verdict, clock, observed)
            };
            (record, spans(verdict, clock, &place, span))
        }
    }
}

fn notice(said: &Said, clock: &Clock, observed: u64) -> Record {
    let (severity_number, severity_text) = if said.is_over { INFO } else { WARN };
    Record {
        time_unix_nano: clock.unix_nanos(said.at).to_string(),
        observed_time_unix_nano: observed.to_string(),
        severity_number,
        severity_text,
        event_name: "tracer.notice",
        body: Value::Text(clean::cut(&said.text)),
        attributes: Attributes::default()
            .text("tracer.notice", Some(said.event))
            .flag("tracer.over", said.is_over)
            .number("tracer.pid", said.pid.map(u64::from)),
        trace_id: None,
        span_id: None,
        flags: 0,
    }
}

fn log(verdict: &Verdict, clock: &Clock, observed: u64) -> Record {
    let (severity_number, severity_text) = if verdict.masked { WARN } else { ERROR };
    let evidence = verdict.evidence.iter().map(|one| &one.text);
    Record {
        time_unix_nano: clock.unix_nanos(verdict.time).to_string(),
        observed_time_unix_nano: observed.to_string(),
        severity_number,
        severity_text,
        event_name: "tracer.verdict",
        body: Value::Text(clean::cut(&verdict.summary)),
        attributes: described(verdict)
            .list("tracer.evidence", evidence)
            .list("tracer.advice", verdict.advice.iter())
            .number("tracer.attempts", Some(verdict.attempts.len() as u64))
            .number("tracer.lost_events", Some(verdict.lost_events)),
        trace_id: None,
        span_id: None,
        flags: 0,
    }
}

/// What both say of it.
fn described(verdict: &Verdict) -> Attributes {
    let request = verdict.request.as_ref();
    let of = |field: fn(&crate::verdict::Request) -> &Option<String>| {
        request.and_then(|request| field(request).as_deref())
    };
    Attributes::default()
        .text("error.type", Some(verdict.cause))
        .number("http.response.status_code", verdict.status.map(u64::from))
        .request_line(of(|request| &request.line))
        .server(of(|request| &request.host))
        .text("client.address", of(|request| &request.client))
        .text("tracer.cause", Some(verdict.cause))
        .text("tracer.confidence", Some(confidence(verdict.confidence)))
        .flag("tracer.masked", verdict.masked)
        .text("tracer.upstream", verdict.upstream.as_deref())
        .text("tracer.upstream_name", verdict.upstream_name.as_deref())
        .text("tracer.errno", verdict.errno.as_deref())
        .text("tracer.server_name", of(|request| &request.server_name))
        .text("tracer.request_id", of(|request| &request.request_id))
        .text("tracer.unit", verdict.unit.as_deref())
        .number("tracer.worker", Some(verdict.worker.into()))
        .number("tracer.connection", verdict.connection)
}

/// The request's span, then its attempts'. When the request came is not known: it begins with the
/// first attempt.
fn spans(verdict: &Verdict, clock: &Clock, place: &Place, span: String) -> Vec<Span> {
    let starts = verdict.attempts.iter().map(|attempt| attempt.start);
    let start = starts.min().unwrap_or(verdict.time).min(verdict.time);
    let ends = verdict.attempts.iter().map(|attempt| attempt.end);
    let end = ends.max().unwrap_or(verdict.time).max(verdict.time);
    let line = verdict.request.as_ref();
    let line = line.and_then(|request| request.line.as_deref());
    let method = line.and_then(|line| line.split(' ').next());
    let name = clean::cut(method.filter(|name| !name.is_empty()).unwrap_or("HTTP"));
    let request = Span {
        trace_id: place.trace.clone(),
        span_id: span.clone(),
        parent_span_id: place.parent.clone(),
        flags: place.flags,
        name: name.clone(),
        kind: SERVER,
        start_time_unix_nano: clock.unix_nanos(start).to_string(),
        end_time_unix_nano: clock.unix_nanos(end).to_string(),
        attributes: described(verdict),
        // Whoever was served by a retry met no error.
        status: Status::of((!verdict.masked).then(|| clean::cut(&verdict.summary))),
    };
    let attempts = verdict.attempts.iter().enumerate();
    let attempts =
        attempts.map(|(at, one)| attempt::span(one, at as u64, clock, &request, name.clone()));
    let attempts: Vec<Span> = attempts.collect();
    [vec![request], attempts].concat()
}
