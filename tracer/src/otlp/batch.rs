//! What one request of OTLP holds.

use hyper::body::Bytes;
use serde::Serialize;

use super::{
    attempt::Span,
    attributes::Attributes,
    queue::Item,
    record::{self, Record},
};
use crate::{clean, event::Clock};

/// Who sends: the scope.
const NAME: &str = "tracer";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What all records of this run share.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Resource {
    attributes: Attributes,
}

impl Resource {
    /// Of this host.
    pub(super) fn new(host: &str) -> Self {
        Self {
            attributes: Attributes::default()
                .text("service.name", Some("nginx"))
                .text("host.name", Some(host))
                .text("telemetry.distro.name", Some(NAME))
                .text("telemetry.distro.version", Some(VERSION)),
        }
    }
}

#[derive(Debug, Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

const SCOPE: Scope = Scope {
    name: NAME,
    version: VERSION,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Logs<'a> {
    resource_logs: [ResourceLogs<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceLogs<'a> {
    resource: &'a Resource,
    scope_logs: [ScopeLogs<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ScopeLogs<'a> {
    scope: Scope,
    log_records: &'a [Record],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Traces<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: &'a Resource,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: &'a [Span],
}

/// A request's body that is still to be sent.
#[derive(Debug)]
pub(super) struct Part {
    /// Below the endpoint's path.
    pub(super) path: &'static str,
    pub(super) body: Bytes,
    /// It holds so many.
    pub(super) items: u64,
}

/// The bodies for these items: logs, then spans, if there are any.
pub(super) fn parts(
    items: &[Item],
    resource: &Resource,
    clock: &Clock,
    observed: u64,
) -> serde_json::Result<Vec<Part>> {
    let made = items.iter().map(|item| record::of(item, clock, observed));
    let (records, spans): (Vec<Record>, Vec<Vec<Span>>) = made.unzip();
    let requests = spans.iter().filter(|spans| !spans.is_empty()).count();
    let spans = spans.concat();
    let logs = Logs {
        resource_logs: [ResourceLogs {
            resource,
            scope_logs: [ScopeLogs {
                scope: SCOPE,
                log_records: &records,
            }],
        }],
    };
    let mut parts = vec![Part {
        path: "/v1/logs",
        body: body(&logs)?,
        items: items.len() as u64,
    }];
    if requests > 0 {
        let traces = Traces {
            resource_spans: [ResourceSpans {
                resource,
                scope_spans: [ScopeSpans {
                    scope: SCOPE,
                    spans: &spans,
                }],
            }],
        };
        parts.push(Part {
            path: "/v1/traces",
            body: body(&traces)?,
            items: requests as u64,
        });
    }
    Ok(parts)
}

fn body(message: &impl Serialize) -> serde_json::Result<Bytes> {
    Ok(clean::escaped(serde_json::to_string(message)?).into())
}
