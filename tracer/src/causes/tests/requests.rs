//! Which attempt speaks for the request, and which requests are ours.

use super::*;
use crate::event::{
    LogLine, RequestHead,
    fact::{ConfigLine, ReturnsView},
};

fn refused_here() -> Attempt {
    attempt(no_socket("127.0.0.1:3000"), local(true))
}

fn busy() -> Attempt {
    let failure = Failure {
        upstream: None,
        code: -3,
        errno: 0,
        ..inet("0.0.0.0:0", 0, routes(0, 0, 0))
    };
    attempt(failure, Facts::default())
}

#[test]
fn the_last_attempt_speaks_for_the_request() {
    let case = request(
        502,
        vec![attempt(silent("10.0.0.5:80"), local(false)), refused_here()],
    );
    let verdict = verdict(&case);
    assert_eq!(verdict.cause, "no-listener");
    let causes: Vec<_> = verdict
        .attempts
        .iter()
        .map(|attempt| attempt.cause)
        .collect();
    assert_eq!(causes, [Some("syn-timeout"), Some("no-listener")]);
    assert!(
        verdict
            .evidence
            .iter()
            .any(|e| e.text == "nginx tries 10.0.0.5:80: syn-timeout")
    );
}

#[test]
fn a_masked_failure_is_the_failed_attempts() {
    let mut case = request(
        200,
        vec![refused_here(), attempt(Course::Succeeded, Facts::default())],
    );
    case.masked = true;
    let verdict = verdict(&case);
    assert_eq!(
        (verdict.cause, verdict.status, verdict.masked),
        ("no-listener", Some(200), true)
    );
    assert_eq!(verdict.upstream.as_deref(), Some("127.0.0.1:3000"));
    assert_eq!(verdict.attempts[1].cause, None);
    case.attempts.remove(0);
    assert_eq!(judge(&case), None);
}

#[test]
fn a_skipped_run_of_a_hook_lowers_what_rests_on_all_and_is_named() {
    let verdict = verdict(&skipping(request(502, vec![busy()])));
    assert_eq!(
        (verdict.cause, verdict.confidence),
        ("no-live-upstreams", Inferred)
    );
    let said = verdict.evidence.iter().find(|one| one.event == "skipped");
    let text = &said.expect("it is said").text;
    assert!(text.contains("2 runs of the hook set_state"), "{text}");
}

#[test]
fn a_served_request_whose_first_byte_was_skipped_did_not_fail() {
    let case = |bytes_received| {
        let c = Connection {
            bytes_received,
            ..connected::closed("127.0.0.1:3000")
        };
        let mut case = request(
            200,
            vec![attempt(Course::Connection(Box::new(c)), Facts::default())],
        );
        case.masked = true;
        case
    };
    assert!(judge(&case(60)).is_some());
    assert_eq!(judge(&skipping(case(60))), None);
    assert!(judge(&skipping(case(0))).is_some());

    // The same, by the client's reply.
    let mut replied = skipping(case(60));
    (replied.masked, replied.client_status) = (false, Some(200));
    assert_eq!(judge(&replied), None);
    replied.client_status = Some(502);
    assert!(judge(&replied).is_some());
    // Unless nginx says that it failed.
    let mut logged = skipping(case(60));
    let words = "upstream prematurely closed connection";
    logged.log_calls.push(log_call(words, 0));
    assert!(judge(&logged).is_some());
}

#[test]
fn no_live_upstream_is_the_cause_where_nginx_never_connected() {
    assert_eq!(
        judged(&request(502, vec![busy()])),
        ("no-live-upstreams", Proven)
    );
    assert_eq!(
        judged(&lossy(request(502, vec![busy()]))),
        ("no-live-upstreams", Inferred)
    );
    let after_a_failure = verdict(&request(502, vec![refused_here(), busy()]));
    assert_eq!(after_a_failure.cause, "no-listener");
    assert_eq!(after_a_failure.attempts[1].cause, Some("no-live-upstreams"));
    let mut logged = request(502, vec![]);
    logged.log_calls.push(log_call("no live upstreams", 0));
    assert_eq!(judged(&logged), ("no-live-upstreams", Proven));
}

#[test]
fn an_answer_without_upstream_is_the_configuration() {
    let mut case = request(502, vec![]);
    case.has_upstream = false;
    // Nobody read the configuration: a script may have answered.
    assert_eq!(judged(&case), ("returned-by-config", Inferred));
    let line = |line, text: &str| ConfigLine {
        file: "/etc/nginx/nginx.conf".to_owned(),
        line,
        text: text.to_owned(),
        location: None,
    };
    let view = |lines: Vec<ConfigLine>, scripted| Some(ReturnsView { lines, scripted });
    let lines = vec![line(7, "limit_req_status 502"), line(12, "return 502")];
    case.host.returns = view(lines, false);
    let v = verdict(&case);
    assert_eq!((v.confidence, v.upstream), (Proven, None));
    assert_eq!(
        judged(&lossy(case.clone())),
        ("returned-by-config", Inferred)
    );
    assert!(
        v.summary.contains("return 502 (/etc/nginx/nginx.conf:12)"),
        "{}",
        v.summary
    );
    let mut limited = case.clone();
    limited.log_calls.push(log_call("limiting requests%s", 0));
    let v = verdict(&limited);
    assert!(
        v.summary
            .contains("limit_req_status 502 (/etc/nginx/nginx.conf:7)"),
        "{}",
        v.summary
    );
    // No line says so: it is not known what answered.
    for scripted in [true, false] {
        case.host.returns = view(Vec::new(), scripted);
        assert_eq!(judged(&case), ("returned-by-config", Inferred));
    }
    // A `return` that ran was seen, whatever its status: no limit answered, no script, nor what
    // nginx logged before.
    for status in [500, 503, 507] {
        let mut returned = case.clone();
        returned.status = Some(status);
        returned.is_returned = true;
        let text = format!("return {status}");
        returned.host.returns = view(vec![line(7, "try_files /a =503"), line(12, &text)], true);
        returned.log_calls.push(log_call("limiting requests%s", 0));
        let v = verdict(&returned);
        assert_eq!((v.cause, v.confidence), ("returned-by-config", Proven));
        assert!(v.summary.contains("nginx.conf:12)"), "{}", v.summary);
    }
    // Its upstream was not seen, and nginx speaks of one.
    case.log_calls.push(log_call("upstream timed out", 110));
    assert_eq!(judged(&case), ("unexplained", Unknown));
}

#[test]
fn a_name_that_does_not_resolve_is_nginx_word() {
    let mut case = request(502, vec![]);
    assert_eq!(judged(&case), ("unexplained", Unknown));
    case.log_calls
        .push(log_call("%V could not be resolved (%i: %s)", 0));
    assert_eq!(judged(&case), ("dns-failed", Inferred));
}

#[test]
fn a_500_of_another_origin_is_not_ours() {
    assert_eq!(judge(&request(500, vec![])), None);
    assert_eq!(judge(&request(500, vec![refused_here()])), None);
    let mut limit = request(500, vec![]);
    limit
        .log_calls
        .push(log_call("%ui worker_connections are not enough", 0));
    assert_eq!(judged(&limit), ("worker-connections", Proven));
}

#[test]
fn the_request_has_its_names_from_its_log_lines() {
    let mut case = request(502, vec![refused_here()]);
    let unnamed = verdict(&case)
        .request
        .expect("the client's socket is known");
    assert_eq!(
        (unnamed.client.as_deref(), unnamed.line),
        (Some("192.168.1.1"), None)
    );
    case.log_lines.push(LogLine {
        client: Some("203.0.113.9".to_owned()),
        host: Some("shop.example.com".to_owned()),
        request: Some("GET /api/cart HTTP/1.1".to_owned()),
        upstream: Some("fastcgi://127.0.0.1:3000".to_owned()),
        ..LogLine::default()
    });
    let named = verdict(&case);
    let request = named.request.expect("a request");
    assert_eq!(request.host.as_deref(), Some("shop.example.com"));
    assert_eq!(request.line.as_deref(), Some("GET /api/cart HTTP/1.1"));
}

#[test]
fn what_was_seen_goes_before_what_the_log_says() {
    let mut case = request(502, vec![refused_here()]);
    case.head = Some(RequestHead {
        line: "POST /api/cart HTTP/1.1".to_owned(),
        host: Some("shop.example.com".to_owned()),
    });
    let plain = verdict(&case);
    case.log_lines.push(LogLine {
        client: Some("203.0.113.9".to_owned()),
        host: Some("forged.example.com".to_owned()),
        request: Some("POST /api/cart HTTP/1.1 forged".to_owned()),
        ..LogLine::default()
    });
    let verdict = verdict(&case);
    assert_eq!(verdict.request, plain.request);
    let notes = verdict.evidence.iter().filter(|one| one.event == "log");
    let notes: Vec<&str> = notes.map(|one| one.text.as_str()).collect();
    assert_eq!(
        notes,
        [
            "the error log names another client: 203.0.113.9",
            "the error log names another host: forged.example.com"
        ]
    );
}

#[test]
fn a_request_line_that_was_cut_is_completed_by_the_log() {
    let mut case = request(502, vec![refused_here()]);
    case.head = Some(RequestHead {
        line: "GET /long".to_owned(),
        host: None,
    });
    let line = |text: &str| LogLine {
        request: Some(text.to_owned()),
        ..LogLine::default()
    };
    case.log_lines = vec![line("GET /other HTTP/1.1"), line("GET /longer HTTP/1.1")];
    let request = verdict(&case).request.expect("a request");
    assert_eq!(request.line.as_deref(), Some("GET /longer HTTP/1.1"));
}

#[test]
fn names_that_may_be_another_worker_s_are_marked() {
    for (workers, reason) in [
        (vec![], "no followed worker holds the log that it is from"),
        (
            vec![7, 8],
            "2 workers with the pid that it prints share that log",
        ),
    ] {
        let mut case = request(502, vec![refused_here()]);
        case.log_lines.push(LogLine {
            host: Some("shop.example.com".to_owned()),
            workers: Some(workers),
            ..LogLine::default()
        });
        let doubtful = verdict(&case);
        let text = format!(
            "the request's names are from a log line that may be another worker's: {reason}"
        );
        assert!(doubtful.evidence.iter().any(|one| one.text == text));
        // Nothing is to be doubted where a line is surely its own, or memory says it.
        case.log_lines[0].workers = Some(vec![1234]);
        let sure = verdict(&case);
        assert!(sure.evidence.iter().all(|one| one.event != "log"));
    }
}
