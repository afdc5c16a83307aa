//! An nginx whose functions cannot be hooked: the kernel and its log tell alone.

use super::{
    kinds::Kind::{self, *},
    scene::{MS, SECOND, Scene},
};
use crate::{
    event::{Connection, Coverage, Event, LogLine, Upstream, coverage::Change},
    verdict::{Confidence, Verdict},
};

/// A stage where that is so of workers 1 to 3.
fn stage() -> Scene {
    let mut scene = Scene::new();
    let change = Change::Alone {
        pid: 100,
        program: "nginx".to_owned(),
        why: "it shows nothing".to_owned(),
    };
    let at = scene.now;
    scene.feed(Event::Coverage(Coverage { at, change }));
    scene
}

/// A connection of worker 1's that ended so, of no known request.
fn connection(scene: &mut Scene, kind: Kind, change: impl FnOnce(&mut Connection)) -> Upstream {
    let request = scene.request(1, 7).under();
    let mut connection = kind.connection(&request, scene.now);
    connection.request = None;
    change(&mut connection);
    let upstream = connection.remote.clone();
    scene.feed(Event::Connection(Box::new(connection)));
    upstream
}

fn line(message: &str, upstream: Option<String>) -> LogLine {
    LogLine {
        pid: 10_001,
        connection: 7,
        message: message.to_owned(),
        client: Some("192.0.2.1".to_owned()),
        host: Some("a.test".to_owned()),
        request: Some("GET /7 HTTP/1.1".to_owned()),
        upstream,
        workers: Some(vec![1]),
        ..LogLine::default()
    }
}

fn log(scene: &mut Scene, line: LogLine) {
    let at = scene.now;
    scene.feed(Event::LogLine(LogLine { at, ..line }));
}

fn only(scene: Scene) -> Verdict {
    let mut verdicts = scene.verdicts();
    assert_eq!(verdicts.len(), 1, "{verdicts:?}");
    verdicts.remove(0)
}

#[test]
fn a_refused_connection_takes_the_line_about_it() {
    let mut scene = stage();
    let upstream = connection(&mut scene, Refused, |_| {});
    let message = "connect() failed (111: Connection refused) while connecting to upstream";
    log(
        &mut scene,
        line(message, Some(format!("http://{upstream}/7"))),
    );
    scene.wait(3 * SECOND);
    let verdict = only(scene);
    assert_eq!((verdict.cause, verdict.status), ("no-listener", None));
    assert_eq!(verdict.confidence, Confidence::Inferred);
    assert_eq!(verdict.connection, Some(7));
    assert!(
        verdict
            .request
            .is_some_and(|it| it.host.as_deref() == Some("a.test"))
    );
}

#[test]
fn a_refused_connection_needs_no_line() {
    let mut scene = stage();
    connection(&mut scene, Refused, |_| {});
    scene.wait(3 * SECOND);
    let verdict = only(scene);
    assert_eq!((verdict.cause, verdict.status), ("no-listener", None));
    assert_eq!(verdict.confidence, Confidence::Inferred);
}

#[test]
fn a_line_without_a_connection_tells_alone() {
    let mut scene = stage();
    let message = "connect() to unix:/run/app.sock failed (2: No such file or directory) while connecting to upstream";
    log(
        &mut scene,
        line(message, Some("http://unix:/run/app.sock:/7".to_owned())),
    );
    scene.wait(4 * SECOND);
    let verdict = only(scene);
    assert_eq!(verdict.upstream.as_deref(), Some("unix:/run/app.sock"));
    assert_eq!(verdict.cause, "unix-socket-missing");
    assert_eq!(verdict.confidence, Confidence::Inferred);
}

#[test]
fn what_served_and_what_its_client_left_is_no_failure() {
    let mut scene = stage();
    // nginx closed it: there was no answer yet, and nothing says that it failed.
    connection(&mut scene, Refused, |connection| {
        connection.established = Some(connection.start);
        connection.error = None;
        connection.rst_received = None;
        connection.end_read = None;
    });
    let served = connection(&mut scene, Refused, |connection| {
        connection.first_byte = Some(connection.closed);
    });
    let message = "an upstream response is buffered to a temporary file /a while reading upstream";
    log(&mut scene, line(message, Some(format!("http://{served}/"))));
    scene.wait(4 * SECOND);
    assert_eq!(scene.verdicts(), []);
}

#[test]
fn of_other_nginx_a_connection_of_no_request_tells_nothing() {
    let mut scene = Scene::new();
    connection(&mut scene, Refused, |_| {});
    scene.wait(3 * SECOND + MS);
    assert_eq!(scene.verdicts(), []);
}

#[test]
fn what_the_kernel_shows_nothing_wrong_with_is_the_log_s_word() {
    for (message, cause) in [
        (
            "upstream sent invalid header while reading response header from upstream",
            "response-rejected",
        ),
        (
            "upstream prematurely closed connection while reading upstream",
            "response-truncated",
        ),
        (
            "SSL_do_handshake() failed (SSL: error:0A00010B) while SSL handshaking to upstream",
            "tls-handshake-failed",
        ),
    ] {
        let mut scene = stage();
        log(
            &mut scene,
            line(message, Some("http://127.0.0.1:9/7".to_owned())),
        );
        scene.wait(4 * SECOND);
        let verdict = only(scene);
        assert_eq!(
            (verdict.cause, verdict.confidence),
            (cause, Confidence::Inferred)
        );
        assert_eq!(verdict.upstream.as_deref(), Some("127.0.0.1:9"));
    }
}

#[test]
fn an_upstream_s_own_502_is_passed_through() {
    let mut scene = stage();
    connection(&mut scene, Refused, |connection| {
        connection.established = Some(connection.start);
        connection.first_byte = Some(connection.closed);
        connection.error = None;
        connection.rst_received = None;
        connection.rst_sent = None;
        connection.status = Some(502);
    });
    scene.wait(3 * SECOND);
    let verdict = only(scene);
    assert_eq!(
        (verdict.cause, verdict.status),
        ("passed-through", Some(502))
    );
    assert_eq!(verdict.confidence, Confidence::Inferred);
}
