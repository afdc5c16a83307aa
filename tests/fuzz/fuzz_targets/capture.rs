//! A capture's bytes, whatever they are: header, frames, checksums, cuts.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use tracer::internals::Reader;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut reader) = Reader::new(Cursor::new(bytes)) else {
        return;
    };
    while reader.next_item().expect("memory can be read").is_some() {}
    let _ = reader.damage().to_string();
});
