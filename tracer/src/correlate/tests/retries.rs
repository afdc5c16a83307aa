//! Several attempts of one request, and failures that a retry hid.

use super::*;
use crate::correlate::Course;

#[test]
fn retries_are_attempts_in_order_and_the_last_speaks() {
    let mut scene = Scene::new();
    scene
        .request(1, 5)
        .fails(Refused)
        .fails(NoRoute)
        .fails(ClosedEarly)
        .answers(502);
    let verdicts = scene.verdicts();
    assert_eq!(verdicts.len(), 1);
    let causes: Vec<_> = verdicts[0].attempts.iter().map(|a| a.cause).collect();
    assert_eq!(
        causes,
        [
            Some("no-listener"),
            Some("no-route"),
            Some("backend-closed-early")
        ]
    );
    assert_eq!(verdicts[0].cause, "backend-closed-early");
}

#[test]
fn out_of_peers_after_a_failure_is_that_failures() {
    let mut scene = Scene::new();
    scene.request(1, 5).fails(Refused).fails(Busy).answers(502);
    let verdicts = scene.verdicts();
    assert_eq!(verdicts[0].cause, "no-listener");
    assert_eq!(verdicts[0].attempts[1].cause, Some("no-live-upstreams"));
}

#[test]
fn a_retry_whose_connection_closes_masks_the_failure() {
    let mut scene = Scene::new();
    let served = scene.request(1, 5).fails(Refused).served_and_closed();
    drop(served);
    let verdicts = scene.verdicts();
    assert_eq!(verdicts.len(), 1);
    let verdict = &verdicts[0];
    assert_eq!(
        (verdict.cause, verdict.masked, verdict.status),
        ("no-listener", true, Some(200))
    );
    assert_eq!(verdict.connection, Some(5), "by its log call");
    assert_eq!(verdict.attempts.len(), 2);
    assert_eq!(verdict.attempts[1].cause, None);
}

#[test]
fn a_retry_on_a_connection_that_is_kept_alive_masks_by_its_first_byte() {
    let mut scene = Scene::new();
    let served = scene.request(1, 5).fails(Refused).served();
    drop(served);
    scene.wait(90 * MS);
    assert_eq!(scene.so_far(), [], "an error answer may still come");
    scene.wait(100 * MS);
    let cases = scene.cases();
    let [case] = &cases[..] else {
        panic!("{cases:#?}");
    };
    assert!(case.masked);
    assert_eq!(case.status, Some(200));
    assert_eq!(case.attempts.len(), 2);
    assert_eq!(case.attempts[1].course, Course::Succeeded);
    assert_eq!(case.time, case.attempts[1].end);
}

#[test]
fn a_retry_on_a_connection_opened_before_comes_after_what_failed() {
    let mut scene = Scene::new();
    let early = scene.now;
    let served = scene
        .request(1, 5)
        .waits(SECOND)
        .fails(Refused)
        .acts(&[Act::Begin]);
    served.first_byte_of(early);
    let cases = scene.cases();
    assert_eq!(cases.len(), 1);
    let [failed, serving] = &cases[0].attempts[..] else {
        panic!("{cases:#?}");
    };
    assert!(serving.start > failed.end);
    assert!(serving.reused);
}

#[test]
fn an_error_answer_soon_after_the_first_byte_is_no_masked_failure() {
    let mut scene = Scene::new();
    scene
        .request(1, 5)
        .fails(Refused)
        .served()
        .waits(50 * MS)
        .answers(502);
    let cases = scene.cases();
    assert_eq!(cases.len(), 1);
    assert_eq!((cases[0].masked, cases[0].status), (false, Some(502)));
}

#[test]
fn an_attempt_without_a_record_leaves_the_request_unexplained() {
    let mut scene = Scene::new();
    scene
        .request(1, 5)
        .fails(Refused)
        .acts(&[Act::Begin, Act::Log(Slow)])
        .answers(504);
    let verdicts = scene.verdicts();
    assert_eq!(verdicts.len(), 1);
    assert_eq!(verdicts[0].cause, "unexplained");
    assert_eq!(
        verdicts[0].summary,
        "nginx logs the failure of an attempt whose record is missing: upstream timed out (ETIMEDOUT)"
    );
}
