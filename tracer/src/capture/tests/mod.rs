//! The file's promise: what was written comes back, whatever happens to the file.

mod damage;
mod examples;
mod limits;
mod names;
mod panics;
mod round_trip;

use std::io::Cursor;

use super::{Damage, Header, Item, Kernel, Reader, Writer, reader::Gap};
use crate::event::{Clock, Event, Time};

pub(in crate::capture) fn header() -> Header {
    Header {
        run: "00112233445566778899aabbccddeeff".to_owned(),
        part: 0,
        clock: Clock {
            boot: 1_000_000_000,
            wall: 1_790_000_000_000_000_000,
        },
        utc_offset: 7200,
        host: "proxy1".to_owned(),
        boot_id: "b".to_owned(),
        kernel: Kernel::default(),
        nginx: Vec::new(),
        hooks: super::HooksAtStart::default(),
        tracer: "0.1.0".to_owned(),
        command: vec!["tracer".to_owned(), "record".to_owned()],
        anonymized: false,
    }
}

/// A file of these events, flushed after each piece.
fn file(pieces: &[&[Event]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, &header()).unwrap();
    for piece in pieces {
        for event in *piece {
            writer.add(event).unwrap();
        }
        writer.flush().unwrap();
    }
    writer.finish(Time(99)).unwrap();
    bytes
}

#[derive(Debug, Default)]
struct Read {
    events: Vec<Event>,
    gaps: Vec<Gap>,
    damage: Damage,
    ended: Option<Time>,
}

/// Everything a file gives; `None`: not even a header.
fn read(bytes: &[u8]) -> Option<Read> {
    let mut reader = Reader::new(Cursor::new(bytes)).ok()?;
    let mut read = Read::default();
    while let Some(item) = reader.next_item().unwrap() {
        match item {
            Item::Event(event) => read.events.push(event),
            Item::Gap(gap) => read.gaps.push(gap),
            Item::Standing { .. } => {}
        }
    }
    read.damage = reader.damage().clone();
    read.ended = reader.ended();
    Some(read)
}
