//! What is inside a frame: the bytes follow a sound header and a frame with right checksums, and
//! what is read of them goes through the correlator and the catalogue.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use tracer::internals::{Correlator, Item, Reader, Time, judge};

/// Any number of events up to this is claimed.
const EVENTS: u32 = 64;

fn capture(page: &[u8]) -> Vec<u8> {
    let json = br#"{"run":"f","clock":{"boot":0,"wall":0}}"#;
    let mut file = b"\x93TRACE\r\n\x01\0\0\0".to_vec();
    file.extend((json.len() as u32).to_le_bytes());
    file.extend(json);
    file.extend(crc32fast::hash(&file).to_le_bytes());
    let length = (page.len() as u32).to_le_bytes();
    let mut head = b"\xf1TRF\x34\0\x01\0".to_vec();
    for word in [length, length, EVENTS.to_le_bytes()] {
        head.extend(word);
    }
    head.extend([0; 24]);
    head.extend(crc32fast::hash(page).to_le_bytes());
    head.extend(crc32fast::hash(&head).to_le_bytes());
    file.extend(head);
    file.extend(page);
    file
}

fuzz_target!(|page: &[u8]| {
    let mut reader = Reader::new(Cursor::new(capture(page))).expect("a sound header");
    let mut correlator = Correlator::default();
    let mut cases = Vec::new();
    while let Some(item) = reader.next_item().expect("memory can be read") {
        if let Item::Event(event) = item {
            cases.extend(correlator.feed(event).cases);
        }
    }
    cases.extend(correlator.finish(Time(u64::MAX)));
    for case in &cases {
        let _ = judge(case);
    }
});
