//! One request, one case: what is in it, and what makes none.

use super::*;
use crate::correlate::Course;
use crate::event::{Answer, Event, Lost};

#[test]
fn a_refused_request_is_one_case_with_its_listener_and_its_log_line() {
    let mut scene = Scene::new();
    scene.request(1, 5).fails(Refused).answers(502);
    let cases = scene.cases();
    let [case] = &cases[..] else {
        panic!("{cases:#?}");
    };
    assert_eq!(
        (case.worker, case.connection, case.status, case.masked),
        (1, Some(5), Some(502), false)
    );
    let [attempt] = &case.attempts[..] else {
        panic!("{case:#?}");
    };
    assert!(matches!(attempt.course, Course::Connection(_)));
    assert!(
        attempt
            .facts
            .listener
            .as_ref()
            .is_some_and(|view| view.local)
    );
    assert_eq!(case.log_calls.len(), 1);
    assert_eq!(case.log_lines.len(), 1);
    assert_eq!(case.log_lines[0].request.as_deref(), Some("GET /5"));
}

#[test]
fn an_answer_without_upstream_is_a_case_of_its_own() {
    let mut scene = Scene::new();
    let at = scene.now;
    scene.feed(Event::Answer(Answer {
        server_port: None,
        at,
        worker: 1,
        status: 502,
        request: None,
        client: None,
        connection: Some(9),
        head: None,
        names: None,
        client_status: None,
        watched: None,
        is_returned: false,
    }));
    let verdicts = scene.verdicts();
    assert_eq!(verdicts.len(), 1);
    assert_eq!(
        (verdicts[0].cause, verdicts[0].upstream.as_deref()),
        ("returned-by-config", None)
    );
}

#[test]
fn a_failure_at_once_is_explained_with_what_the_host_says() {
    for (kind, cause, upstream) in [
        (SocketMissing, "unix-socket-missing", "unix:/run/app.sock"),
        (NoRoute, "no-route", "10.0.0.6:80"),
        (OutOfFiles, "fd-limit", "10.0.0.13:80"),
    ] {
        let mut scene = Scene::new();
        scene.request(1, 5).fails(kind).answers(kind.status());
        let verdicts = scene.verdicts();
        assert_eq!(verdicts.len(), 1);
        assert_eq!(verdicts[0].cause, cause);
        assert_eq!(verdicts[0].upstream.as_deref(), Some(upstream));
    }
}

#[test]
fn equal_numbers_of_two_workers_are_not_mixed() {
    let mut scene = Scene::new();
    // Each worker numbers its own.
    let mut first = scene.request(1, 5).fails(Refused).under();
    scene.renumber();
    scene.request(2, 6).fails(NoRoute).answers(502);
    scene.play(&mut first, Act::Answer(502));
    let verdicts = scene.verdicts();
    let mut judged: Vec<_> = verdicts
        .iter()
        .map(|v| (v.worker, v.connection, v.cause, v.attempts.len()))
        .collect();
    judged.sort_unstable();
    assert_eq!(
        judged,
        [(1, Some(5), "no-listener", 1), (2, Some(6), "no-route", 1)]
    );
}

#[test]
fn requests_of_one_http2_connection_are_distinguished() {
    let mut scene = Scene::new();
    let mut begun = scene.request(1, 5).line("GET /a").fails(Refused).under();
    scene
        .request(1, 5)
        .line("GET /b")
        .fails(NoRoute)
        .answers(502);
    scene.play(&mut begun, Act::Answer(502));
    let verdicts = scene.verdicts();
    let judged: Vec<_> = verdicts
        .iter()
        .map(|v| (v.connection, v.cause, v.attempts.len()))
        .collect();
    assert_eq!(
        judged,
        [(Some(5), "no-route", 1), (Some(5), "no-listener", 1)]
    );
}

#[test]
fn a_client_that_goes_away_leaves_nothing() {
    let mut scene = Scene::new();
    let aborted = scene.request(1, 5).fails(Refused).fails(Aborted);
    drop(aborted);
    assert_eq!(scene.cases(), []);
}

#[test]
fn a_healthy_request_makes_nothing_and_asks_nothing() {
    let mut scene = Scene::new();
    let served = scene.request(1, 5).served_and_closed();
    drop(served);
    assert_eq!(scene.asked, []);
    assert_eq!(scene.cases(), []);
}

#[test]
fn an_answer_of_the_backend_itself_is_found_in_its_connection() {
    let mut scene = Scene::new();
    scene
        .request(1, 5)
        .closes(Served, |connection| connection.status = Some(502))
        .answers(502);
    let verdicts = scene.verdicts();
    assert_eq!(verdicts.len(), 1);
    assert_eq!(verdicts[0].cause, "passed-through");
}

#[test]
fn lost_events_are_counted_in_every_later_case() {
    let mut scene = Scene::new();
    let at = scene.now;
    scene.request(1, 5).fails(Refused).answers(502);
    scene.wait(SECOND);
    scene.feed(Event::Lost(Lost {
        at,
        events: 3,
        ..Lost::default()
    }));
    scene.feed(Event::Lost(Lost {
        at,
        events: 4,
        ..Lost::default()
    }));
    scene.request(1, 6).fails(Refused).answers(502);
    let lost: Vec<u64> = scene.cases().iter().map(|case| case.lost_events).collect();
    assert_eq!(lost, [0, 7]);
}
