//! Events as rows: each by itself, as a JSON object. Everything but ticks and ordinary connections
//! is written so.
//!
//! The names of the members are the file's contract, pinned by a test: a renamed field needs
//! `#[serde(rename)]`, a new one `#[serde(default)]`. What a later version adds is passed over.
//!
//! A row that holds more than tracer could have met is damaged: what keeps events counts on their
//! size.

use serde::{Serialize, de::DeserializeOwned};

use crate::event::{Event, Heap as _, LogLine};

/// Which event a row is. A number is never reused.
pub(super) mod kind {
    pub(in crate::capture) const FAILURE: u64 = 16;
    pub(in crate::capture) const CONNECTION: u64 = 17;
    pub(in crate::capture) const ANSWER: u64 = 18;
    pub(in crate::capture) const LOG_CALL: u64 = 19;
    pub(in crate::capture) const RETRY: u64 = 20;
    pub(in crate::capture) const RETRANSMIT: u64 = 21;
    pub(in crate::capture) const FIRST_BYTE: u64 = 22;
    pub(in crate::capture) const PROCESS: u64 = 23;
    pub(in crate::capture) const WORKER: u64 = 24;
    pub(in crate::capture) const PEER_CLOSED: u64 = 25;
    pub(in crate::capture) const DEATH: u64 = 26;
    pub(in crate::capture) const DNS: u64 = 27;
    pub(in crate::capture) const ICMP: u64 = 28;
    pub(in crate::capture) const FACT: u64 = 29;
    pub(in crate::capture) const LOG_LINE: u64 = 30;
    pub(in crate::capture) const LOST: u64 = 31;
    pub(in crate::capture) const HOOKS: u64 = 32;
    pub(in crate::capture) const TICK: u64 = 33;
    pub(in crate::capture) const REPLY: u64 = 34;
    pub(in crate::capture) const NOTICE: u64 = 35;
    pub(in crate::capture) const COVERAGE: u64 = 36;
}

/// Writes an event's row; gives its kind.
pub(super) fn write(event: &Event, out: &mut Vec<u8>) -> serde_json::Result<u64> {
    match event {
        Event::Failure(one) => row(kind::FAILURE, one, out),
        Event::Connection(one) => row(kind::CONNECTION, one, out),
        Event::Answer(one) => row(kind::ANSWER, one, out),
        Event::LogCall(one) => row(kind::LOG_CALL, one, out),
        Event::Retry(one) => row(kind::RETRY, one, out),
        Event::Retransmit(one) => row(kind::RETRANSMIT, one, out),
        Event::FirstByte(one) => row(kind::FIRST_BYTE, one, out),
        Event::Process(one) => row(kind::PROCESS, one, out),
        Event::Worker(one) => row(kind::WORKER, one, out),
        Event::PeerClosed(one) => row(kind::PEER_CLOSED, one, out),
        Event::Death(one) => row(kind::DEATH, one, out),
        Event::Dns(one) => row(kind::DNS, one, out),
        Event::Icmp(one) => row(kind::ICMP, one, out),
        Event::Fact(one) => row(kind::FACT, one, out),
        Event::LogLine(one) => row(kind::LOG_LINE, one, out),
        Event::Lost(one) => row(kind::LOST, one, out),
        Event::Hooks(one) => row(kind::HOOKS, one, out),
        Event::Tick(one) => row(kind::TICK, one, out),
        Event::Reply(one) => row(kind::REPLY, one, out),
        Event::Notice(one) => row(kind::NOTICE, one, out),
        Event::Coverage(one) => row(kind::COVERAGE, one, out),
    }
}

fn row(kind: u64, value: &impl Serialize, out: &mut Vec<u8>) -> serde_json::Result<u64> {
    serde_json::to_writer(out, value)?;
    Ok(kind)
}

/// Why a row gives no event.
pub(super) enum Unread {
    /// A later version's: of a kind, or with a value, that this one does not know.
    Unknown,
    /// It is no JSON.
    Damaged,
}

/// No row is longer (bytes): a log line of 64 KiB, each byte as `\u001b`, fits.
pub(super) const LONGEST: usize = 512 << 10;
/// No event that the kernel side reports holds more texts and lists (bytes): a text is 256 bytes at
/// most there, and three times that where it is no UTF-8.
const KERNEL: usize = 2 << 10;
/// Nor an end of a process, which names its cgroups.
const DEATH: usize = 4 << 10;
/// No worker: its unit is a file's name, its version has 64 bytes.
const WORKER: usize = 2 << 10;
/// Nor tracer itself of its some hundred hooks.
const HOOKS: usize = 64 << 10;
/// Nor an answer of the host's.
const OTHERS: usize = 256 << 10;

/// Reads a row.
pub(super) fn read(kind: u64, row: &[u8]) -> Result<Event, Unread> {
    if row.len() > LONGEST {
        return Err(Unread::Damaged);
    }
    let mut event = parse(kind, row)?;
    if let Event::LogLine(line) = &mut event {
        shorten(line);
    }
    let most = match event {
        Event::Fact(_) | Event::LogLine(_) => OTHERS,
        Event::Lost(_) | Event::Hooks(_) => HOOKS,
        Event::Worker(_) => WORKER,
        Event::PeerClosed(_) | Event::Death(_) => DEATH,
        _ => KERNEL,
    };
    // A path that was asked about is a socket's.
    let is_askable = match &event {
        Event::Fact(fact) => fact.question.heap() <= KERNEL,
        _ => true,
    };
    if event.heap() > most || !is_askable {
        return Err(Unread::Damaged);
    }
    Ok(event)
}

/// More than these do not make a line more doubtful.
const WORKERS: usize = 64;

/// nginx writes lines of 2 KiB at most; another may have written to its log.
const LINE: usize = 4 << 10;

fn shorten(line: &mut LogLine) {
    let LogLine {
        at: _,
        pid: _,
        connection: _,
        message,
        client,
        host,
        request,
        upstream,
        server,
        workers,
    } = line;
    if let Some(workers) = workers {
        workers.truncate(WORKERS);
        workers.shrink_to_fit();
    }
    let others = [client, host, request, upstream, server]
        .into_iter()
        .flatten();
    for text in others.chain([message]) {
        if text.len() > LINE {
            text.truncate(text.floor_char_boundary(LINE));
            text.shrink_to_fit();
        }
    }
}

fn parse(kind: u64, row: &[u8]) -> Result<Event, Unread> {
    Ok(match kind {
        kind::FAILURE => Event::Failure(value(row)?),
        kind::CONNECTION => Event::Connection(value(row)?),
        kind::ANSWER => Event::Answer(value(row)?),
        kind::LOG_CALL => Event::LogCall(value(row)?),
        kind::RETRY => Event::Retry(value(row)?),
        kind::RETRANSMIT => Event::Retransmit(value(row)?),
        kind::FIRST_BYTE => Event::FirstByte(value(row)?),
        kind::PROCESS => Event::Process(value(row)?),
        kind::WORKER => Event::Worker(value(row)?),
        kind::PEER_CLOSED => Event::PeerClosed(value(row)?),
        kind::DEATH => Event::Death(value(row)?),
        kind::DNS => Event::Dns(value(row)?),
        kind::ICMP => Event::Icmp(value(row)?),
        kind::FACT => Event::Fact(value(row)?),
        kind::LOG_LINE => Event::LogLine(value(row)?),
        kind::LOST => Event::Lost(value(row)?),
        kind::HOOKS => Event::Hooks(value(row)?),
        kind::TICK => Event::Tick(value(row)?),
        kind::REPLY => Event::Reply(value(row)?),
        kind::NOTICE => Event::Notice(value(row)?),
        kind::COVERAGE => Event::Coverage(value(row)?),
        _ => return Err(Unread::Unknown),
    })
}

fn value<T: DeserializeOwned>(row: &[u8]) -> Result<T, Unread> {
    serde_json::from_slice(row).map_err(|error| match error.is_data() {
        true => Unread::Unknown,
        false => Unread::Damaged,
    })
}
