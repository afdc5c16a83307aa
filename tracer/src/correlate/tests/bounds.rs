//! Memory stays bounded, whatever comes.

use super::*;
use crate::{
    correlate::requests::REQUESTS,
    event::{Event, LogLine},
};

#[test]
fn requests_without_an_end_are_forgotten_oldest_first() {
    let mut scene = Scene::new();
    let mut latest = None;
    for number in 0..100_000u32 {
        let request = scene.request(1, number.into());
        latest = Some(
            request
                .acts(&[Act::Begin, Act::Record(ClosedEarly)])
                .under(),
        );
        scene.stream.clear();
    }
    let correlator = scene.correlator();
    // A tick's worth more at most.
    assert!(correlator.requests.len() <= REQUESTS + 1000);
    assert!(correlator.open.is_empty());
    // Each is there or was counted.
    let there = correlator.requests.len() as u64;
    assert_eq!(there + correlator.untold().forgotten, 100_000);
    // The latest is still there.
    scene.play(&mut latest.unwrap(), Act::Answer(502));
    assert_eq!(scene.verdicts()[0].cause, "backend-closed-early");
}

#[test]
fn what_settled_leaves_nothing_behind() {
    let mut scene = Scene::new();
    for number in 0..1000u32 {
        let request = scene.request(1, number.into());
        drop(request.fails(NoRoute).served());
    }
    scene.wait(SECOND);
    let correlator = scene.correlator();
    assert_eq!(correlator.requests.len(), 0);
    assert!(correlator.settling.is_empty() && correlator.open.is_empty());
    assert_eq!(scene.so_far().len(), 1000);
}

#[test]
fn healthy_connections_are_remembered_briefly() {
    let mut scene = Scene::new();
    for number in 0..10_000u32 {
        let request = scene.request(1, number.into());
        drop(request.served_and_closed());
    }
    scene.wait(SECOND);
    assert_eq!(scene.correlator().requests.len(), 0);
    assert!(scene.correlator().settling.is_empty());
}

#[test]
fn lines_that_nobody_claims_are_forgotten() {
    let mut scene = Scene::new();
    for connection in 0..100_000 {
        let at = scene.now;
        scene.feed(Event::LogLine(LogLine {
            at,
            connection,
            message: "x".repeat(900),
            ..LogLine::default()
        }));
    }
    // 6 MiB of lines of 1 KiB.
    assert!((3000..=6200).contains(&scene.correlator().lines.len()));
    scene.wait(6 * SECOND);
    assert_eq!(scene.correlator().lines.len(), 0);
}
