//! What clients really got where an attempt failed.

use super::{super::replies::Replies, playing::Playing, *};
use crate::event::{Answer, ClientRequest, Event, FirstByte, LogCall, Reply, RequestId, Time};

fn judged(scene: Scene) -> Vec<(&'static str, Option<u16>, bool, usize)> {
    let verdicts = scene.verdicts();
    let judged = verdicts.iter().map(|verdict| {
        let attempts = verdict.attempts.len();
        (verdict.cause, verdict.status, verdict.masked, attempts)
    });
    judged.collect()
}

#[test]
fn an_error_page_of_another_status_hides_the_failure() {
    for (status, masked) in [(200, true), (404, true), (502, false), (503, false)] {
        let mut scene = Scene::new();
        scene
            .request(1, 5)
            .watched()
            .fails(Refused)
            .acts(&[Act::Answer(502)])
            .replies(status);
        let right = ("no-listener", Some(status), masked, 1);
        assert_eq!(judged(scene), [right]);
    }
}

#[test]
fn the_verdict_waits_for_the_reply_and_no_longer() {
    let mut scene = Scene::new();
    let request = scene
        .request(1, 5)
        .watched()
        .fails(Refused)
        .acts(&[Act::Answer(502)])
        .waits(20 * SECOND)
        .under();
    assert_eq!(scene.so_far(), [], "a slow page may still come");
    scene.play(&mut { request }, Act::Reply(Some(200)));
    assert_eq!(scene.so_far().len(), 1);
    assert_eq!(scene.so_far()[0].client_status, Some(200));
    assert!(
        scene.so_far()[0].attempts[0].facts.listener.is_some(),
        "the host was asked at the failure"
    );
}

#[test]
fn a_client_that_left_got_what_nginx_began_with() {
    let mut scene = Scene::new();
    let _ = scene
        .request(1, 5)
        .watched()
        .fails(Refused)
        .acts(&[Act::Answer(502), Act::Reply(None)]);
    assert_eq!(judged(scene), [("no-listener", Some(502), false, 1)]);
}

#[test]
fn a_reply_that_is_never_seen_costs_no_verdict() {
    let mut scene = Scene::new();
    scene.request(1, 5).watched().fails(Refused).answers(502);
    assert_eq!(judged(scene), [("no-listener", Some(502), false, 1)]);
}

#[test]
fn a_fallback_that_answers_is_an_attempt_of_the_same_request() {
    let mut scene = Scene::new();
    scene
        .request(1, 5)
        .watched()
        .fails(Refused)
        .acts(&[Act::Answer(502)])
        .led_on()
        .served()
        .replies(200);
    assert_eq!(judged(scene), [("no-listener", Some(200), true, 2)]);
}

#[test]
fn a_fallback_that_fails_too_makes_one_verdict() {
    let mut scene = Scene::new();
    scene
        .request(1, 5)
        .watched()
        .fails(Refused)
        .acts(&[Act::Answer(502)])
        .led_on()
        .fails(ClosedEarly)
        .acts(&[Act::Answer(502)])
        .replies(502);
    let right = ("backend-closed-early", Some(502), false, 2);
    assert_eq!(judged(scene), [right]);
}

#[test]
fn attempts_are_in_the_order_of_time_whichever_case_waited_longer() {
    let mut scene = Scene::new();
    scene.request(1, 5).fails(Refused).answers(502);
    scene.request(1, 6).fails(ClosedEarly).answers(502);
    let cases = scene.cases();
    let client_request = ClientRequest {
        address: 1,
        connection: 5,
    };
    for order in [[0, 1], [1, 0]] {
        let (mut replies, mut joined) = (Replies::default(), Vec::new());
        let ticket = replies.expect(1, client_request, Time(1));
        assert_eq!(
            replies.expect_more(1, client_request, Time(2)),
            Some(ticket)
        );
        for place in order {
            replies.explained(ticket, None, cases[place].clone(), &mut joined);
        }
        assert!(replies.replied(1, client_request, Some(200), &mut joined));
        let starts: Vec<Time> = joined[0].attempts.iter().map(|one| one.start).collect();
        let right = [&cases[0], &cases[1]].map(|case| case.attempts[0].start);
        assert_eq!(starts, right);
    }
}

#[test]
fn requests_after_each_other_in_the_same_memory_are_two() {
    let mut scene = Scene::new();
    for _ in 0..2 {
        scene
            .request(1, 5)
            .watched()
            .fails(Refused)
            .acts(&[Act::Answer(502)])
            .replies(502);
    }
    let right = ("no-listener", Some(502), false, 1);
    assert_eq!(judged(scene), [right, right]);
}

#[test]
fn a_stale_answer_hides_the_failure_whichever_is_reported_first() {
    for acts in [
        [Act::Record(Refused), Act::Reply(Some(200))],
        [Act::Reply(Some(200)), Act::Record(Refused)],
    ] {
        let mut scene = Scene::new();
        let _ = scene
            .request(1, 5)
            .watched()
            .acts(&[Act::Begin, Act::Log(Refused)])
            .acts(&acts);
        assert_eq!(judged(scene), [("no-listener", Some(200), true, 1)]);
    }
}

/// What nginx logs after it began its error answer.
fn logs(scene: &mut Scene, request: Option<u64>, connection: u64, format: &str) {
    let at = scene.now;
    scene.feed(Event::LogCall(LogCall {
        at,
        worker: 1,
        level: 4,
        errno: 2,
        connection,
        request: request.map(RequestId),
        stream: false,
        format: format.into(),
        unread: None,
        text: Some("302".to_owned()),
        number: None,
        resolved: None,
    }));
}

#[test]
fn a_page_that_fails_after_the_answer_belongs_to_it() {
    // At once, or when all else is known: the worker had no CPU in between.
    for wait in [0, 3 * SECOND] {
        let mut scene = Scene::new();
        let request = scene
            .request(1, 5)
            .watched()
            .fails(Refused)
            .acts(&[Act::Answer(502)])
            .waits(wait)
            .under();
        logs(&mut scene, Some(request.request.0), 5, "%s \"%s\" failed");
        Playing::new(&mut scene, request).replies(404);
        assert_eq!(judged(scene), [("no-listener", Some(404), false, 1)]);
    }
}

#[test]
fn a_slice_that_fails_cuts_its_response_short() {
    let mut scene = Scene::new();
    let request = scene.request(1, 5).fails(Refused).under();
    let at = scene.now;
    scene.feed(Event::Answer(Answer {
        server_port: None,
        at,
        worker: 1,
        status: 502,
        request: Some(request.request),
        client: None,
        connection: Some(5),
        head: None,
        names: None,
        client_status: Some(200),
        watched: None,
        is_returned: false,
    }));
    logs(
        &mut scene,
        Some(request.request.0),
        5,
        "unexpected status code %ui in slice response",
    );
    assert_eq!(judged(scene), [("no-listener", Some(200), false, 1)]);
}

#[test]
fn what_auth_request_was_answered_belongs_to_the_request() {
    let mut scene = Scene::new();
    logs(&mut scene, None, 5, "auth request unexpected status: %ui");
    let at = scene.now;
    scene.feed(Event::Answer(Answer {
        server_port: None,
        at,
        worker: 1,
        status: 500,
        request: None,
        client: None,
        connection: Some(5),
        head: None,
        names: None,
        client_status: None,
        watched: None,
        is_returned: false,
    }));
    assert_eq!(judged(scene), [("response-rejected", Some(500), false, 0)]);
}

#[test]
fn a_subrequests_own_502_belongs_to_the_request() {
    assert_eq!(
        after_a_502(false),
        [("passed-through", Some(500), false, 1)]
    );
}

/// A client's next request may lie where the one before did.
#[test]
fn a_502_that_a_client_got_is_no_subrequests() {
    let judged = after_a_502(true);
    assert!(
        judged.contains(&("response-rejected", Some(500), false, 0)),
        "{judged:?}"
    );
}

/// An upstream's own 502, got by the client or not, and then a 500 of nginx's for its
/// `auth_request`.
fn after_a_502(is_got: bool) -> Vec<(&'static str, Option<u16>, bool, usize)> {
    let mut scene = Scene::new();
    let (at, request) = (scene.now, scene.next_request());
    let client = ClientRequest {
        address: 0xc11e,
        connection: 5,
    };
    scene.feed(Event::FirstByte(Box::new(FirstByte {
        server_port: None,
        local: None,
        at,
        worker: 1,
        socket: 2,
        request,
        remote: Refused.upstream(),
        status: Some(502),
        connection: Some(5),
        client: None,
        head: None,
        names: None,
        start: at,
        client_request: Some(client),
    })));
    let reply = |status, request| {
        Event::Reply(Reply {
            at,
            worker: 1,
            client_request: client,
            request,
            status: Some(status),
            is_earlier: false,
        })
    };
    if is_got {
        scene.feed(reply(502, Some(request)));
    }
    logs(&mut scene, None, 5, "auth request unexpected status: %ui");
    scene.feed(Event::Answer(Answer {
        server_port: None,
        at,
        worker: 1,
        status: 500,
        request: None,
        client: None,
        connection: Some(5),
        head: None,
        names: None,
        client_status: None,
        watched: Some(client),
        is_returned: false,
    }));
    scene.feed(reply(500, None));
    judged(scene)
}
