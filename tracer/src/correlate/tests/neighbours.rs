//! Requests one after the other on one worker, the next before the last one settled.

use super::*;

/// Connection, cause, masked, attempts.
fn judged(scene: Scene) -> Vec<(Option<u64>, &'static str, bool, usize)> {
    let verdicts = scene.verdicts();
    verdicts
        .iter()
        .map(|v| (v.connection, v.cause, v.masked, v.attempts.len()))
        .collect()
}

#[test]
fn a_masked_request_stays_masked() {
    let mut scene = Scene::new();
    let served = scene.request(1, 5).fails(Refused).served();
    drop(served);
    scene.request(1, 6).fails(NoRoute).answers(502);
    let mut judged = judged(scene);
    judged.sort_unstable();
    assert_eq!(
        judged,
        [
            (Some(5), "no-listener", true, 2),
            (Some(6), "no-route", false, 1)
        ]
    );
}

#[test]
fn a_stale_connection_before_a_success_stays_its_own() {
    let mut scene = Scene::new();
    let served = scene.request(1, 5).fails(Refused).fails(Stale).served();
    drop(served);
    scene.request(1, 6).fails(NoRoute).answers(502);
    let mut judged = judged(scene);
    judged.sort_unstable();
    assert_eq!(
        judged,
        [
            (Some(5), "keepalive-race", true, 3),
            (Some(6), "no-route", false, 1)
        ]
    );
}

#[test]
fn what_a_request_logs_first_is_its_own() {
    let mut scene = Scene::new();
    // One client connection; the second request logs before its record comes.
    let served = scene.request(1, 5).line("GET /a").fails(Refused).served();
    drop(served);
    scene
        .request(1, 5)
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
    let served = scene.request(1, 5).fails(Refused).served();
    drop(served);
    // Of the second request nothing came but its answer.
    scene.request(1, 6).answers(502);
    let mut judged = judged(scene);
    judged.sort_unstable();
    assert_eq!(
        judged,
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
        .request(1, 5)
        .acts(&[Act::Begin, Act::Record(Refused)])
        .served();
    drop(served);
    scene
        .request(1, 6)
        .acts(&[Act::Begin, Act::Log(NoRoute)])
        .waits(SECOND)
        .acts(&[Act::Record(NoRoute)])
        .answers(502);
    assert_eq!(
        judged(scene),
        [
            (None, "no-listener", true, 2),
            (Some(6), "no-route", false, 1)
        ]
    );
}
