//! A run that ends by a panic leaves what it has seen.

use std::{fs, panic, path::Path};

use super::{examples, header, read};
use crate::{
    capture::{Plan, Recorder, RingPlan, Rotation},
    event::{Event, Time},
};

/// The bytes of the only file in `folder` that a run left which panicked after these events.
fn panicked(folder: &Path, plan: Plan, events: &[Event]) -> Vec<u8> {
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
    let mut left = fs::read_dir(folder).unwrap();
    let file = left.next().unwrap().unwrap().path();
    assert!(left.next().is_none());
    fs::read(file).unwrap()
}

#[test]
fn a_panic_costs_no_event_and_the_file_shows_no_end() {
    let events: Vec<Event> = examples::all();
    for test in ["panicked", "panicked-ring"] {
        let name = format!("tracer-{test}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        let plan = match test {
            "panicked" => Plan::Files(Rotation {
                path: folder.join("run.trc"),
                max_size: None,
                files: 1,
            }),
            _ => Plan::Ring(RingPlan {
                folder: folder.clone(),
                memory: 1 << 20,
                disk: 1 << 30,
            }),
        };
        let read = read(&panicked(&folder, plan, &events)).unwrap();
        assert_eq!(read.events, events, "{test}");
        assert_eq!(read.ended, None::<Time>, "{test}");
        fs::remove_dir_all(folder).unwrap();
    }
}
