//! Spans, and an attempt's.

use serde::Serialize;

use super::{attributes::Attributes, trace};
use crate::{event::Clock, verdict::AttemptVerdict};

/// `SPAN_KIND_CLIENT`: nginx asked an upstream.
const CLIENT: u8 = 3;
/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;

/// A `Span` of OTLP.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Span {
    pub(super) trace_id: String,
    pub(super) span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parent_span_id: Option<String>,
    pub(super) flags: u32,
    pub(super) name: String,
    pub(super) kind: u8,
    pub(super) start_time_unix_nano: String,
    pub(super) end_time_unix_nano: String,
    pub(super) attributes: Attributes,
    pub(super) status: Status,
}

/// A span's status.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Status {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl Status {
    /// An error with this message, or unset.
    pub(super) fn of(error: Option<String>) -> Self {
        Self {
            code: error.is_some().then_some(ERROR),
            message: error,
        }
    }
}

/// The span of a request's attempt (from 0 on) below that of the request.
pub(super) fn span(
    attempt: &AttemptVerdict,
    at: u64,
    clock: &Clock,
    request: &Span,
    name: String,
) -> Span {
    Span {
        trace_id: request.trace_id.clone(),
        span_id: trace::span(),
        parent_span_id: Some(request.span_id.clone()),
        // Its parent is of this process.
        flags: (request.flags & 0xff) | 0x100,
        name,
        kind: CLIENT,
        start_time_unix_nano: clock.unix_nanos(attempt.start).to_string(),
        end_time_unix_nano: clock.unix_nanos(attempt.end.max(attempt.start)).to_string(),
        attributes: Attributes::default()
            .server(attempt.upstream.as_deref())
            .text("error.type", attempt.cause)
            .number("http.request.resend_count", (at > 0).then_some(at))
            .text("tracer.cause", attempt.cause)
            .text("tracer.errno", attempt.errno.as_deref())
            .flag("tracer.reused", attempt.reused),
        status: Status::of(attempt.cause.map(str::to_owned)),
    }
}
