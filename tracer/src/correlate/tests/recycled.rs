//! nginx recycles peer objects, also within the millisecond that names a request together with them.

use super::*;

/// Connection, cause, masked, attempts.
fn told(scene: Scene) -> Vec<(Option<u64>, &'static str, bool, usize)> {
    let verdicts = scene.verdicts();
    verdicts
        .iter()
        .map(|v| (v.connection, v.cause, v.masked, v.attempts.len()))
        .collect()
}

#[test]
fn in_another_millisecond_it_is_another_request() {
    let mut scene = Scene::new();
    let aborted = scene.request(1, 0xa, 5).fails(Refused);
    drop(aborted);
    scene
        .request(1, 0xa, 6)
        .begun(8)
        .tries(2)
        .fails(NoRoute)
        .answers(502);
    assert_eq!(told(scene), [(Some(6), "no-route", false, 1)]);
}

#[test]
fn tries_that_rise_or_stay_begin_another_request() {
    for tries in [2, 3] {
        let mut scene = Scene::new();
        let aborted = scene.request(1, 0xa, 5).tries(2).fails(Refused);
        drop(aborted);
        scene
            .request(1, 0xa, 6)
            .tries(tries)
            .fails(NoRoute)
            .answers(502);
        assert_eq!(told(scene), [(Some(6), "no-route", false, 1)]);
    }
}

#[test]
fn tries_that_stay_after_a_stale_connection_are_the_same_request() {
    let mut scene = Scene::new();
    scene
        .request(1, 0xa, 5)
        .tries(1)
        .fails(Stale)
        .fails(Refused)
        .answers(502);
    assert_eq!(told(scene), [(Some(5), "no-listener", false, 2)]);
}

#[test]
fn a_recycled_peer_ends_a_masked_request_as_masked() {
    let mut scene = Scene::new();
    let served = scene.request(1, 0xa, 5).fails(Refused).served();
    drop(served);
    scene.request(1, 0xa, 6).fails(NoRoute).answers(502);
    let mut told = told(scene);
    told.sort_unstable();
    assert_eq!(
        told,
        [
            (Some(5), "no-listener", true, 2),
            (Some(6), "no-route", false, 1)
        ]
    );
}

#[test]
fn a_recycled_peer_is_seen_after_a_stale_connection_too() {
    let mut scene = Scene::new();
    let served = scene
        .request(1, 0xa, 5)
        .fails(Refused)
        .fails(Stale)
        .served();
    drop(served);
    scene
        .request(1, 0xa, 6)
        .tries(2)
        .fails(NoRoute)
        .answers(502);
    let mut told = told(scene);
    told.sort_unstable();
    assert_eq!(
        told,
        [
            (Some(5), "keepalive-race", true, 3),
            (Some(6), "no-route", false, 1)
        ]
    );
}

#[test]
fn what_a_recycled_peer_logs_first_is_its_own() {
    let mut scene = Scene::new();
    // One client connection, one peer object, one millisecond; the second request logs before its record comes.
    let served = scene
        .request(1, 0xa, 5)
        .line("GET /a")
        .fails(Refused)
        .served();
    drop(served);
    scene
        .request(1, 0xa, 5)
        .line("GET /b")
        .fails(NoRoute)
        .answers(502);
    let mut cases = scene.cases();
    cases.sort_by_key(|case| case.masked);
    let formats: Vec<Vec<&str>> = cases
        .iter()
        .map(|case| case.log_calls.iter().map(|call| &*call.format).collect())
        .collect();
    assert_eq!(
        formats,
        [vec!["connect() to %V failed"], vec!["connect() failed"]]
    );
}

#[test]
fn an_answer_to_another_client_does_not_take_what_came_before() {
    let mut scene = Scene::new();
    let served = scene.request(1, 0xa, 5).fails(Refused).served();
    drop(served);
    // Of the second request nothing came but its answer.
    scene.request(1, 0xa, 6).answers(502);
    let mut told = told(scene);
    told.sort_unstable();
    assert_eq!(
        told,
        [
            (Some(5), "no-listener", true, 2),
            (Some(6), "unexplained", false, 0)
        ]
    );
}

#[test]
fn a_masked_request_that_logged_nothing_has_no_number_of_the_next() {
    let mut scene = Scene::new();
    // error_log lets nothing of the first through.
    let served = scene
        .request(1, 0xa, 5)
        .acts(&[Act::Begin, Act::Record(Refused)])
        .served();
    drop(served);
    scene
        .request(1, 0xa, 6)
        .acts(&[Act::Begin, Act::Log(NoRoute)])
        .waits(SECOND)
        .acts(&[Act::Record(NoRoute)])
        .answers(502);
    assert_eq!(
        told(scene),
        [
            (None, "no-listener", true, 2),
            (Some(6), "no-route", false, 1)
        ]
    );
}
