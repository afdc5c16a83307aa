//! Rows of verdicts, attempts and connections.

use super::table::Cell;
use crate::{
    causes::errno,
    event::{Clock, Connection, Failure, Time},
    render::{clean, json},
    series::Outcome,
    verdict::Verdict,
};

/// The row of a verdict, the `number`th of its run.
#[must_use]
pub(crate) fn verdict(run: &str, number: u64, v: &Verdict, clock: &Clock) -> Vec<Cell> {
    let request = v.request.as_ref();
    let evidence = v.evidence.iter().map(|one| clean::text(&one.text));
    vec![
        text(run),
        integer(number),
        Cell::Time(Some(clock.unix_nanos(v.time))),
        Cell::Integer(v.status.map(i64::from)),
        Cell::Flag(Some(v.masked)),
        text(v.cause),
        text(json::confidence(v.confidence)),
        integer(v.worker),
        maybe(v.unit.as_deref()),
        Cell::Integer(v.connection.map(u64::cast_signed)),
        maybe(request.and_then(|request| request.client.as_deref())),
        maybe(request.and_then(|request| request.host.as_deref())),
        maybe(request.and_then(|request| request.line.as_deref())),
        maybe(v.upstream.as_deref()),
        maybe(v.errno.as_deref()),
        integer(v.attempts.len() as u64),
        text(&v.summary),
        Cell::Text(Some(evidence.collect::<Vec<_>>().join("\n"))),
        Cell::Text(Some(
            v.advice
                .iter()
                .map(|line| clean::text(line))
                .collect::<Vec<_>>()
                .join("\n"),
        )),
        integer(v.lost_events),
        maybe(v.upstream_name.as_deref()),
        maybe(request.and_then(|request| request.server_name.as_deref())),
        maybe(request.and_then(|request| request.request_id.as_deref())),
        maybe(request.and_then(|request| request.traceparent.as_deref())),
    ]
}

/// The rows of its attempts.
pub(crate) fn attempts<'a>(
    run: &'a str,
    number: u64,
    v: &'a Verdict,
    clock: &'a Clock,
) -> impl Iterator<Item = Vec<Cell>> + 'a {
    v.attempts.iter().zip(1u64..).map(move |(attempt, nth)| {
        vec![
            text(run),
            integer(number),
            integer(nth),
            Cell::Time(Some(clock.unix_nanos(attempt.start))),
            integer(attempt.end.since(attempt.start)),
            maybe(attempt.upstream.as_deref()),
            maybe(attempt.cause),
            maybe(attempt.errno.as_deref()),
            Cell::Flag(Some(attempt.reused)),
        ]
    })
}

/// The row of a connection that ended; `None` for one that is open yet, as it comes again at its
/// end.
#[must_use]
pub(crate) fn connection(run: &str, c: &Connection, clock: &Clock) -> Option<Vec<Cell>> {
    if c.open {
        return None;
    }
    let start = Some(c.start).filter(|start| start.0 != 0);
    let since = |from: Option<Time>, to: Option<Time>| {
        let both = from.zip(to);
        Cell::Integer(both.map(|(from, to)| to.since(from).cast_signed()))
    };
    let outcome = c.request.map(|_| Outcome::of(c).name());
    let error = c.error.map(|(errno, _)| errno::name(errno));
    Some(vec![
        text(run),
        Cell::Time(Some(clock.unix_nanos(c.closed))),
        Cell::Time(start.map(|start| clock.unix_nanos(start))),
        integer(c.worker),
        text(&c.remote.to_string()),
        maybe(outcome),
        Cell::Integer(c.status.map(i64::from)),
        maybe(error.as_deref()),
        since(start, c.established),
        since(c.reused_at.or(start), c.first_byte),
        since(start, Some(c.closed)),
        integer(c.reuses),
        Cell::Integer(c.idle.map(u64::cast_signed)),
        integer(c.syn_retransmits),
        integer(c.bytes_sent),
        integer(c.bytes_received),
        Cell::Flag(Some(c.fin_received.is_some())),
        Cell::Flag(Some(c.rst_received.is_some())),
    ])
}

/// The row of an attempt that came to no connection.
#[must_use]
pub(crate) fn failure(run: &str, f: &Failure, clock: &Clock) -> Vec<Cell> {
    let upstream = f.upstream.as_ref().map(ToString::to_string);
    let error = (f.errno != 0).then(|| errno::name(f.errno));
    let none = || Cell::Integer(None);
    vec![
        text(run),
        Cell::Time(Some(clock.unix_nanos(f.at))),
        Cell::Time(Some(clock.unix_nanos(f.start))),
        integer(f.worker),
        maybe(upstream.as_deref()),
        text(Outcome::NotConnected.name()),
        none(),
        maybe(error.as_deref()),
        none(),
        none(),
        integer(f.at.since(f.start)),
        integer(0u64),
        none(),
        integer(0u64),
        integer(0u64),
        integer(0u64),
        Cell::Flag(Some(false)),
        Cell::Flag(Some(false)),
    ]
}

fn integer(value: impl Into<u64>) -> Cell {
    Cell::Integer(Some(value.into().cast_signed()))
}

fn text(string: &str) -> Cell {
    Cell::Text(Some(clean::text(string)))
}

fn maybe(string: Option<&str>) -> Cell {
    Cell::Text(string.map(clean::text))
}
