//! A run that ends by a panic leaves what it has seen.

use std::{fs, panic, path::PathBuf};

use super::{examples, header, read};
use crate::{
    capture::{Plan, Recorder},
    event::{Event, Time},
};

/// The bytes of the file of a run that panicked after these events.
fn panicked(test: &str, ring: Option<u64>, events: &[Event]) -> Vec<u8> {
    let name = format!("tracer-{test}-{}.trc", std::process::id());
    let path: PathBuf = std::env::temp_dir().join(name);
    let plan = Plan {
        path: path.clone(),
        max_size: None,
        files: 1,
        ring,
    };
    let recorder = Recorder::create(plan, || ()).unwrap();
    let run = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        let mut recorder = recorder;
        recorder.begin(header());
        for event in events {
            recorder.add(event);
        }
        panic!("a test's own");
    }));
    assert!(run.is_err());
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    bytes
}

#[test]
fn a_panic_costs_no_event_and_the_file_shows_no_end() {
    let events: Vec<Event> = examples::all();
    for (test, ring) in [("panicked", None), ("panicked-ring", Some(1 << 20))] {
        let read = read(&panicked(test, ring, &events)).unwrap();
        assert_eq!(read.events, events, "{test}");
        assert_eq!(read.ended, None::<Time>, "{test}");
    }
}
