//! Lines of nginx's log find their requests.

use super::*;
use crate::event::{Answer, Event, LogCall, LogLine, RequestHead};

fn lines(scene: Scene) -> Vec<(Option<u64>, Vec<String>)> {
    let cases = scene.cases();
    cases
        .into_iter()
        .map(|case| {
            let lines = case.log_lines.into_iter();
            (
                case.connection,
                lines.filter_map(|line| line.request).collect(),
            )
        })
        .collect()
}

#[test]
fn requests_of_a_kept_alive_client_have_their_own_lines_in_order() {
    let mut scene = Scene::new();
    for name in ["GET /a", "GET /b", "GET /c"] {
        scene
            .request(1, 5)
            .line(name)
            .fails(Refused)
            .fails(NoRoute)
            .answers(502);
    }
    let of = |name: &str| (Some(5), vec![name.to_owned(); 2]);
    assert_eq!(lines(scene), [of("GET /a"), of("GET /b"), of("GET /c")]);
}

#[test]
fn workers_with_the_same_connection_number_have_their_own_lines() {
    let mut scene = Scene::new();
    scene
        .request(1, 5)
        .line("GET /a")
        .fails(Refused)
        .answers(502);
    scene
        .request(2, 5)
        .line("GET /b")
        .fails(Refused)
        .answers(502);
    let of = |name: &str| (Some(5), vec![name.to_owned()]);
    assert_eq!(lines(scene), [of("GET /a"), of("GET /b")]);
}

#[test]
fn a_masked_failure_has_its_line() {
    let mut scene = Scene::new();
    let served = scene.request(1, 5).fails(Refused).served();
    drop(served);
    assert_eq!(lines(scene), [(Some(5), vec!["GET /5".to_owned()])]);
}

/// A line of request `GET /5` of connection 5, as worker 1 prints its pid.
fn line(workers: Option<Vec<u32>>, host: &str) -> LogLine {
    LogLine {
        pid: 10_001,
        connection: 5,
        message: "connect() failed (111: Connection refused) while connecting to upstream"
            .to_owned(),
        client: Some("192.0.2.1".to_owned()),
        host: Some(host.to_owned()),
        request: Some("GET /5 HTTP/1.1".to_owned()),
        upstream: Some("http://127.0.0.1:9/5".to_owned()),
        workers,
        ..LogLine::default()
    }
}

/// The hosts of the lines that a refused request of worker 1, connection 5, gets of these. It has a
/// log call for each.
fn hosts(logged: &[LogLine], client: Option<&str>, head: Option<&str>) -> Vec<String> {
    let mut scene = Scene::new();
    let mut request = scene.request(1, 5).under();
    scene.play(&mut request, Act::Begin);
    for line in logged {
        let at = scene.now;
        scene.feed(Event::LogLine(LogLine { at, ..line.clone() }));
        scene.feed(Event::LogCall(LogCall {
            at,
            worker: 1,
            level: 4,
            errno: 111,
            connection: 5,
            request: Some(request.request),
            stream: false,
            format: "connect() failed".into(),
            unread: None,
            text: None,
            number: None,
            resolved: None,
        }));
    }
    scene.play(&mut request, Act::Record(Refused));
    let at = scene.now;
    scene.feed(Event::Answer(Answer {
        server_port: None,
        at,
        worker: 1,
        status: 502,
        request: Some(request.request),
        client: client.map(|client| client.parse().unwrap()),
        connection: Some(5),
        head: head.map(|line| RequestHead {
            line: line.to_owned(),
            host: Some("a.test".to_owned()),
        }),
        names: None,
        client_status: None,
        watched: None,
        is_returned: false,
    }));
    let cases = scene.cases();
    assert_eq!(cases.len(), 1);
    let lines = cases[0].log_lines.iter();
    lines.filter_map(|line| line.host.clone()).collect()
}

const CLIENT: Option<&str> = Some("192.0.2.1:5000");
const HEAD: Option<&str> = Some("GET /5 HTTP/1.1");

#[test]
fn a_line_of_another_container_with_the_same_pid_is_not_taken() {
    let other = line(Some(vec![2]), "b.test");
    let own = line(Some(vec![1]), "a.test");
    for head in [None, HEAD] {
        assert_eq!(
            hosts(&[other.clone(), own.clone()], CLIENT, head),
            ["a.test"]
        );
        assert!(hosts(std::slice::from_ref(&other), CLIENT, head).is_empty());
    }
}

#[test]
fn a_line_of_doubtful_origin_must_agree_with_what_was_seen() {
    for workers in [vec![1, 2], vec![]] {
        let shared = |host| line(Some(workers.clone()), host);
        assert_eq!(hosts(&[shared("a.test")], CLIENT, HEAD), ["a.test"]);
        assert!(hosts(&[shared("b.test")], CLIENT, HEAD).is_empty());
        assert!(hosts(&[shared("a.test")], CLIENT, Some("GET /6 HTTP/1.1")).is_empty());
        // Without the request in memory: client, upstream and message.
        assert_eq!(hosts(&[shared("b.test")], CLIENT, None), ["b.test"]);
        assert!(hosts(&[shared("b.test")], Some("192.0.2.2:5000"), None).is_empty());
        assert!(hosts(&[shared("b.test")], None, None).is_empty());
        for change in [
            |line: &mut LogLine| line.upstream = Some("http://127.0.0.1:4000/5".to_owned()),
            |line: &mut LogLine| {
                line.message = "upstream timed out (110: Connection timed out)".to_owned()
            },
            |line: &mut LogLine| {
                line.message = "connect() failed (113: No route to host)".to_owned()
            },
        ] {
            let mut line = shared("b.test");
            change(&mut line);
            assert!(hosts(&[line], CLIENT, None).is_empty());
        }
    }
    // It may be that of two others.
    assert!(hosts(&[line(Some(vec![2, 3]), "a.test")], CLIENT, HEAD).is_empty());
}

#[test]
fn a_line_of_a_capture_of_before_is_joined_by_its_printed_pid() {
    assert_eq!(hosts(&[line(None, "a.test")], CLIENT, HEAD), ["a.test"]);
    assert_eq!(hosts(&[line(None, "b.test")], None, None), ["b.test"]);
}
