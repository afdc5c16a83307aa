//! The capture file: the stream of events, kept. `docs/capture-format.md` is its contract.
//!
//! Written by append alone, in self-contained frames; so whatever was flushed before a crash, a
//! full disk or a power cut is readable, and a reader says what is missing. A later version reads
//! what this one writes.

mod anonymize;
mod cells;
mod connections;
mod file;
mod folder;
mod frame;
mod header;
mod page;
mod reader;
mod recorder;
mod ring;
mod rows;
mod sink;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use self::{
    anonymize::Anonymizer,
    header::{HooksAtStart, Kernel, Nginx},
    reader::{Damage, OpenError, shown},
    recorder::{News, Plan, Recorder, Reply},
    ring::{RingPlan, Why},
    sink::Rotation,
};
pub use self::{
    header::Header,
    reader::{Item, Reader},
    writer::Writer,
};
