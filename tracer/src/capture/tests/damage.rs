//! A file that was cut off, changed, or is none: never a panic, whole pieces are read, what is
//! missing is said.

use std::io::Cursor;

use proptest::prelude::*;

use super::{examples, file, header, read};
use crate::{
    capture::{Reader, header::HeaderError},
    event::Event,
};

/// Several frames, and the number of events before the end of each.
fn frames() -> (Vec<u8>, Vec<Event>, Vec<(usize, usize)>) {
    let events = examples::all();
    let pieces: Vec<&[Event]> = events.chunks(7).collect();
    let ends = (0..=pieces.len()).map(|count| {
        // A file of the first pieces, without its end frame: both begin alike.
        let mut bytes = Vec::new();
        let mut writer = crate::capture::Writer::new(&mut bytes, &header()).unwrap();
        for piece in &pieces[..count] {
            for event in *piece {
                writer.add(event).unwrap();
            }
            writer.flush().unwrap();
        }
        (
            bytes.len(),
            pieces[..count].iter().map(|piece| piece.len()).sum(),
        )
    });
    let ends = ends.collect();
    (file(&pieces), events, ends)
}

#[test]
fn a_file_cut_off_at_any_byte_gives_all_whole_frames() {
    let (bytes, events, ends) = frames();
    let header = ends[0].0;
    for length in 0..bytes.len() {
        let Some(read) = read(&bytes[..length]) else {
            assert!(length < header, "no header in {length} bytes");
            continue;
        };
        let whole = ends.iter().rev().find(|(end, _)| *end <= length).unwrap().1;
        assert_eq!(read.events, events[..whole], "cut off at {length}");
        // Only the end's own place can be missing without loss.
        let is_whole = read.ended.is_some();
        assert_eq!(read.damage.cut_off, !is_whole, "cut off at {length}");
        assert!(!is_whole || length >= bytes.len() - 12);
    }
}

proptest! {
    #[test]
    fn flipped_bits_never_panic_and_all_frames_before_are_read(flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u8), 1..4)) {
        let (mut bytes, events, ends) = frames();
        let length = bytes.len();
        let mut first = length;
        for (index, bit) in flips {
            let at = index.index(length);
            bytes[at] ^= 1 << bit;
            first = first.min(at);
        }
        if let Some(read) = read(&bytes) {
            let whole = ends.iter().rev().find(|(end, _)| *end <= first).map_or(0, |(_, events)| *events);
            prop_assert!(read.events.len() >= whole);
            prop_assert_eq!(&read.events[..whole], &events[..whole]);
            // What is missing is counted.
            if read.events.len() < events.len() && read.ended.is_some() {
                prop_assert_eq!(read.events.len() as u64 + read.damage.missing_events + read.damage.unknown_events, events.len() as u64);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
        read(&bytes);
        let mut after_header = Vec::new();
        header().write(&mut after_header).unwrap();
        after_header.extend(bytes);
        prop_assert!(read(&after_header).is_some());
    }
}

#[test]
fn frames_after_a_damaged_one_are_read() {
    let (mut bytes, events, ends) = frames();
    let second = ends[1].0;
    bytes[second + 60] ^= 1;
    let read = read(&bytes).unwrap();
    assert_eq!(read.events[..7], events[..7]);
    assert_eq!(read.events[7..], events[14..]);
    assert_eq!(read.damage.missing_events, 7);
    assert_eq!(read.gaps.len(), 1);
    assert_eq!(
        read.damage.to_string(),
        format!("is damaged from byte {second} on: 1 piece could not be read, 7 events missing")
    );
}

#[test]
fn what_is_no_capture_is_distinguished() {
    let open = |bytes: &[u8]| Reader::new(Cursor::new(bytes.to_vec())).map(drop);
    assert!(matches!(open(b""), Err(HeaderError::Empty)));
    assert!(matches!(
        open(b"\x7fELF..............."),
        Err(HeaderError::NotACapture)
    ));
    let (mut bytes, ..) = frames();
    assert!(matches!(open(&bytes[..100]), Err(HeaderError::Short)));
    bytes[20] ^= 1;
    assert!(matches!(open(&bytes), Err(HeaderError::Damaged)));
    bytes[8] = 2;
    assert!(matches!(open(&bytes), Err(HeaderError::Version(2))));
}
