//! Makes a large capture of a real one: `multiply FILE CONNECTIONS OUT`.
//!
//! The connections and ticks of FILE are repeated, each time later by the time that they span,
//! until OUT holds so many connections. Everything else (workers, hooks, facts) is written once, as
//! it was.

use std::{fs::File, io::BufWriter, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use tracer::internals::{Connection, Event, Item, Reader, RequestId, Time, Writer};

const MILLISECOND: u64 = 1_000_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, connections, to] = arguments.as_slice() else {
        bail!("usage: multiply FILE CONNECTIONS OUT");
    };
    let wanted: u64 = connections.parse().context("how many connections")?;
    let mut reader = Reader::open(Path::new(from))?;
    let out = BufWriter::new(File::create(to).with_context(|| format!("creating {to}"))?);
    let mut writer = Writer::new(out, reader.header())?;
    let mut pattern = Vec::new();
    while let Some(item) = reader.next_item()? {
        match item {
            Item::Event(event @ (Event::Connection(_) | Event::Tick(_))) => pattern.push(event),
            Item::Event(event) => writer.add(&event)?,
            Item::Gap(_) | Item::Standing { .. } => bail!("{from} is not whole"),
        }
    }
    let first = pattern.iter().map(Event::at).min().unwrap_or_default();
    let last = pattern.iter().map(Event::at).max().unwrap_or_default();
    // Whole milliseconds: ticks stay whole, and nginx counts in them.
    let span = (last.since(first) / MILLISECOND + 1) * MILLISECOND;
    let each = pattern
        .iter()
        .filter(|event| matches!(event, Event::Connection(_)))
        .count();
    ensure!(each > 0, "{from} holds no connection");
    let (mut written, mut shift) = (0, 0);
    'all: loop {
        for event in &pattern {
            let event = match event {
                Event::Connection(connection) => {
                    written += 1;
                    Event::Connection(Box::new(later(connection, shift)))
                }
                Event::Tick(at) => Event::Tick(at.plus(shift)),
                other => other.clone(),
            };
            writer.add(&event)?;
            if written == wanted {
                break 'all;
            }
        }
        shift += span;
    }
    writer.finish(last.plus(shift))?;
    Ok(())
}

/// The same connection, later; its request is another one.
fn later(connection: &Connection, shift: u64) -> Connection {
    let mut one = connection.clone();
    let times = [
        &mut one.established,
        &mut one.first_byte,
        &mut one.fin_received,
        &mut one.rst_received,
        &mut one.last_retransmit,
        &mut one.last_sent,
        &mut one.last_received,
        &mut one.end_read,
        &mut one.reused_at,
    ];
    let errors = [&mut one.error, &mut one.transfer_error];
    let times = times.into_iter().flatten();
    let times = times.chain(errors.into_iter().flatten().map(|(_, at)| at));
    for time in times.chain([&mut one.start, &mut one.closed]) {
        *time = Time(time.0 + shift);
    }
    one.request = one.request.map(|request| RequestId(request.0 + shift));
    one
}
