//! Memory stays bounded, whatever comes.

use super::*;
use crate::{
    correlate::{AT_ONCE, Correlator, OPEN, SETTLING, requests::REQUESTS},
    event::{
        Answer, ClientRequest, Event, Failure, LogCall, LogLine, RequestId, RouteLookup, Time,
        Upstream,
    },
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
    assert_eq!(there + correlator.unreported().forgotten, 100_000);
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

/// A case of a worker without an upstream, which waits for the host.
fn answer(at: u64, watched: Option<u64>) -> Event {
    Event::Answer(Answer {
        server_port: None,
        at: Time(at),
        worker: 1,
        status: 502,
        request: None,
        client: None,
        connection: None,
        head: None,
        names: None,
        client_status: None,
        watched: watched.map(|address| ClientRequest {
            address,
            connection: 1,
        }),
        is_returned: false,
    })
}

/// Feeds all of it, then ends; how many cases came, and how many at most at once.
fn played(correlator: &mut Correlator, events: impl IntoIterator<Item = Event>) -> (usize, usize) {
    let (mut all, mut most, mut last) = (0, 0, Time(0));
    for event in events {
        last = event.at();
        let cases = correlator.feed(event).cases.len();
        (all, most) = (all + cases, most.max(cases));
        assert!(correlator.open_bytes <= OPEN + AT_ONCE);
    }
    loop {
        let cases = correlator.finish(last).len();
        (all, most) = (all + cases, most.max(cases));
        if cases == 0 {
            return (all, most);
        }
    }
}

#[test]
fn cases_that_wait_are_bounded_without_a_tick_and_none_is_lost() {
    let mut correlator = Correlator::default();
    let (cases, most) = played(&mut correlator, (1..300_000).map(|at| answer(at, None)));
    assert_eq!(cases, 299_999);
    assert!(most < 100_000, "{most} at once");
    assert_eq!(correlator.open_bytes, 0);
}

#[test]
fn cases_that_wait_for_a_reply_are_bounded_without_a_tick() {
    let mut correlator = Correlator::default();
    let waits = (1..200_000u64).flat_map(|number| {
        let at = number * 2 * SECOND;
        [
            answer(at, Some(number)),
            Event::Tick(Time(at + SECOND + 100 * MS)),
        ]
    });
    let (cases, _) = played(&mut correlator, waits);
    assert_eq!(cases, 199_999);
}

#[test]
fn large_requests_give_way_before_there_are_many() {
    let mut correlator = Correlator::default();
    let count = 600_000u64;
    for number in 0..count {
        correlator.feed(Event::LogCall(LogCall {
            at: Time(1000 + number),
            worker: 1,
            level: 4,
            errno: 0,
            connection: 1,
            request: Some(RequestId(1000 + number / 32)),
            stream: false,
            format: "f".repeat(200).into(),
            unread: None,
            text: Some("t".repeat(200)),
            number: None,
            resolved: None,
        }));
    }
    // Half of the 340 MB that they would be.
    let kept = correlator.requests.len() as u64;
    assert!((2000..count / 32 / 2).contains(&kept), "{kept}");
}

#[test]
fn a_request_that_settles_at_many_times_is_queued_once() {
    let mut correlator = Correlator::default();
    let upstream = Upstream::Unix("/a".to_owned());
    for number in 0..500_000u64 {
        correlator.feed(Event::Failure(Failure {
            start: Time(number),
            at: Time(1000 + number % 2),
            worker: 1,
            request: RequestId(7),
            upstream: Some(upstream.clone()),
            source: None,
            block: None,
            code: -1,
            errno: 111,
            syn_sent: false,
            routes: RouteLookup::default(),
        }));
    }
    assert!(correlator.settling.len() <= SETTLING + 2);
}
