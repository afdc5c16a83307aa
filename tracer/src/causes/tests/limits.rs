//! Something ran out, or nginx may not bind.

use super::*;
use crate::event::fact::{DescriptorsView, PortsView};

const REMOTE: &str = "10.0.0.5:80";

fn before_connect(errno: u32) -> Failure {
    Failure {
        code: -1,
        ..inet(REMOTE, errno, routes(0, 0, 0))
    }
}

fn failed(failure: Failure, facts: Facts) -> Case {
    request(500, vec![attempt(failure, facts)])
}

#[test]
fn ports_run_out_after_syn_sent() {
    let ports = PortsView {
        range: (32768, 33767),
        connected: 10,
        time_wait: 990,
        tw_reuse: Some(2),
    };
    let facts = Facts {
        ports: Some(ports),
        ..Facts::default()
    };
    let failure = Failure {
        syn_sent: true,
        ..inet(REMOTE, 99, routes(2, 0, 0))
    };
    let verdict = verdict(&one(failure.clone(), facts));
    assert_eq!(
        (verdict.cause, verdict.confidence),
        ("ports-exhausted", Proven)
    );
    let ports = verdict
        .evidence
        .iter()
        .find(|e| e.event == "ports")
        .expect("the ports");
    assert_eq!(
        ports.text,
        "range 32768-33767 (1000 ports); to this upstream: 10 connected, 990 in TIME_WAIT"
    );
    assert_eq!(verdict.advice.len(), 4);
    let fixed = Failure {
        source: Some(address("10.0.0.1:7000")),
        ..failure
    };
    let fixed = super::verdict(&one(fixed, Facts::default()));
    assert!(
        fixed.summary.contains("10.0.0.1:7000, the one local port"),
        "{}",
        fixed.summary
    );
}

#[test]
fn descriptors_run_out_by_worker_or_host() {
    let limits = DescriptorsView {
        open: 1024,
        soft_limit: 1024,
        hard_limit: 4096,
        host_open: 9,
        host_limit: 99,
    };
    let facts = Facts {
        descriptors: Some(limits),
        ..Facts::default()
    };
    let worker = verdict(&failed(before_connect(24), facts.clone()));
    assert_eq!(
        (worker.cause, worker.confidence, worker.status),
        ("fd-limit", Proven, Some(500))
    );
    assert!(
        worker
            .evidence
            .iter()
            .any(|e| e.text == "worker 1234 holds 1024 of 1024 (hard limit 4096)")
    );
    let host = verdict(&failed(before_connect(23), facts));
    assert!(
        host.evidence
            .iter()
            .any(|e| e.text == "9 of 99 on this host")
    );
}

#[test]
fn slots_run_out_by_nginx_word_alone() {
    // The errno is what an earlier call left behind.
    let mut case = failed(before_connect(24), Facts::default());
    case.log_calls
        .push(log_call("%ui worker_connections are not enough", 0));
    assert_eq!(judged(&case), ("worker-connections", Proven));
    assert_eq!(
        judged(&failed(before_connect(0), Facts::default())),
        ("unexplained", Unknown)
    );
}

#[test]
fn a_source_address_that_is_not_ours_fails_to_bind() {
    let failure = Failure {
        source: Some(address("10.9.9.9:0")),
        ..before_connect(99)
    };
    let verdict = verdict(&failed(failure, Facts::default()));
    assert_eq!((verdict.cause, verdict.confidence), ("bind-failed", Proven));
    assert_eq!(
        verdict.summary,
        "nginx cannot bind to 10.9.9.9, it is no address of this host (EADDRNOTAVAIL)"
    );
    // The errno from nginx's own log call serves where the thread's was not read.
    let mut case = failed(before_connect(0), Facts::default());
    case.log_calls.push(log_call("bind(%V) failed", 13));
    assert_eq!(judged(&case), ("bind-failed", Proven));
}
