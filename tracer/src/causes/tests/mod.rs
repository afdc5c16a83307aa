//! Verdicts on cases made by hand: each cause, and what looks like it.

mod after_connect;
mod at_once;
mod catalogue;
mod connected;
mod denied;
mod died;
mod ended;
mod handshakes;
mod keepalive;
mod limits;
mod no_connect;
mod programs;
mod properties;
mod requests;
mod responses;
mod tls;
mod unix;
mod waiting;

use std::net::SocketAddr;

use super::{
    catalogue::{Place, Shown, behind},
    judge,
};
use crate::{
    correlate::{Attempt, Case, Course, Facts},
    event::{
        Connection, Drop, Failure, LogCall, RequestId, RouteLookup, RstSent, Said, Skipped, Time,
        Upstream,
        fact::{Listener, ListenerView, Owner},
    },
    verdict::{
        Confidence::{self, Inferred, Proven, Unknown},
        Verdict,
    },
};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
/// When attempts begin.
const START: Time = Time(100 * SECOND);

fn after(nanoseconds: u64) -> Time {
    START.plus(nanoseconds)
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A SYN was sent; 80 µs later nginx closed the socket. The rest is the test's.
fn handshake(remote: &str) -> Connection {
    Connection {
        socket: 0xffff_8880_0000_0001,
        worker: 1234,
        request: Some(RequestId(7)),
        start: START,
        closed: after(80_000),
        local: Some(address("10.0.0.1:40000")),
        remote: Upstream::Inet(address(remote)),
        netns: 4_026_531_840,
        established: None,
        first_byte: None,
        status: None,
        fin_received: None,
        rst_received: None,
        rst_in_syn_sent: false,
        error: None,
        state: 7,
        syn_retransmits: 0,
        last_retransmit: None,
        bytes_received: 0,
        bytes_sent: 0,
        unread: 0,
        asked: 0,
        last_sent: None,
        last_received: None,
        end_read: None,
        transfer_error: None,
        first_sent: None,
        first_received: None,
        tls_alert: None,
        tls_data: false,
        broke_off: false,
        whole: false,
        body: None,
        listener_pid: None,
        accepted: None,
        holder: None,
        open: false,
        reuses: 0,
        reused_at: None,
        idle: None,
        rst_sent: None,
        drops: Vec::new(),
        icmp_sent: None,
        full_queue: None,
        translated: None,
        routes: RouteLookup {
            lookups: 1,
            error: 0,
            kind: 0,
            security: None,
            unseen: false,
        },
    }
}

/// A RST answered, `connect()` was refused.
fn refused(remote: &str) -> Connection {
    Connection {
        rst_received: Some(after(70_000)),
        rst_in_syn_sent: true,
        error: Some((111, after(80_000))),
        ..handshake(remote)
    }
}

/// … by this host, for want of a socket.
fn no_socket(remote: &str) -> Connection {
    let reason = Some("NO_SOCKET".to_owned());
    Connection {
        rst_sent: Some(RstSent {
            at: after(60_000),
            reason,
        }),
        ..refused(remote)
    }
}

/// nginx's timer ended it after three SYNs.
fn silent(remote: &str) -> Connection {
    Connection {
        state: 2,
        closed: after(5 * SECOND),
        syn_retransmits: 2,
        last_retransmit: Some(after(3 * SECOND)),
        ..handshake(remote)
    }
}

fn drop(reason: &str, tcp_flags: u8, count: u32) -> Drop {
    let from_upstream = tcp_flags & 0x10 != 0;
    Drop {
        at: after(20_000),
        reason: reason.to_owned(),
        tcp_flags,
        from_upstream,
        count,
    }
}

/// `connect()` failed at once.
fn declined(upstream: Upstream, errno: u32, routes: RouteLookup) -> Failure {
    Failure {
        start: START,
        at: after(30_000),
        worker: 1234,
        request: RequestId(7),
        upstream: Some(upstream),
        source: None,
        block: None,
        code: -5,
        errno,
        syn_sent: false,
        routes,
    }
}

fn inet(remote: &str, errno: u32, routes: RouteLookup) -> Failure {
    declined(Upstream::Inet(address(remote)), errno, routes)
}

fn routes(lookups: u32, error: i32, kind: u8) -> RouteLookup {
    RouteLookup {
        lookups,
        error,
        kind,
        security: None,
        unseen: false,
    }
}

fn attempt(course: impl Into<Course>, facts: Facts) -> Attempt {
    let course = course.into();
    let (upstream, start, end) = match &course {
        Course::FailedAtOnce(f) => (f.upstream.clone(), f.start, f.at),
        Course::Connection(c) => (Some(c.remote.clone()), c.start, c.closed),
        Course::Succeeded | Course::Logged => (
            Some(Upstream::Inet(address("10.0.0.9:80"))),
            after(SECOND),
            after(2 * SECOND),
        ),
    };
    Attempt {
        upstream,
        start,
        end,
        reused: false,
        course,
        peer_closed: None,
        deaths: Vec::new(),
        facts,
    }
}

impl From<Failure> for Course {
    fn from(failure: Failure) -> Self {
        Self::FailedAtOnce(failure)
    }
}

impl From<Connection> for Course {
    fn from(connection: Connection) -> Self {
        Self::Connection(Box::new(connection))
    }
}

fn request(status: u16, attempts: Vec<Attempt>) -> Case {
    Case {
        is_alone: false,
        time: attempts.last().map_or(START, |attempt| attempt.end),
        worker: 1234,
        identity: None,
        connection: Some(67890),
        client: Some(address("192.168.1.1:51000")),
        head: None,
        names: None,
        status: Some(status),
        client_status: None,
        masked: false,
        cut_short: false,
        host: Box::default(),
        has_upstream: true,
        is_returned: false,
        looped: None,
        attempts,
        log_calls: Vec::new(),
        earlier: Vec::new(),
        dns: Vec::new(),
        log_lines: Vec::new(),
        lost_events: 0,
        skipped: Vec::new(),
        absent_hooks: Vec::new(),
    }
}

/// A request with that one attempt: 504 for a socket that nginx's timer closed, else 502.
fn one(course: impl Into<Course>, facts: Facts) -> Case {
    let attempt = attempt(course, facts);
    let by_timer = matches!(&attempt.course, Course::Connection(c) if c.state <= 2 && c.error.is_none() && c.icmp_sent.is_none());
    request(if by_timer { 504 } else { 502 }, vec![attempt])
}

fn log_call(format: &str, errno: u32) -> LogCall {
    LogCall {
        at: after(10_000),
        worker: 1234,
        level: 4,
        errno,
        connection: 67890,
        request: None,
        stream: false,
        format: format.into(),
        unread: None,
        text: None,
        number: None,
        resolved: None,
    }
}

fn verdict(case: &Case) -> Verdict {
    let verdict = judge(case).expect("a verdict");
    fits_its_lines(case, &verdict);
    verdict
}

/// Whatever is said on a request can be behind the lines that nginx logged of it, as `tracer causes
/// LINE` has it.
fn fits_its_lines(case: &Case, verdict: &Verdict) {
    let places = case
        .attempts
        .iter()
        .filter_map(|attempt| attempt.upstream.as_ref());
    let places: Vec<Place> = places.map(Place::of).collect();
    let possible = |call: &LogCall| {
        let said = match call.said() {
            Said::OpenSsl => call.text_said(),
            said => said,
        };
        let behind_at = |place: Option<Place>| {
            behind(&Shown {
                said: Some(said),
                errno: Some(call.errno).filter(|&errno| errno != 0),
                doing: None,
                place,
            })
        };
        let places = places.iter().map(|place| Some(*place));
        let all = places.chain(case.attempts.is_empty().then_some(None));
        all.flat_map(behind_at)
            .map(|cause| cause.id)
            .collect::<Vec<_>>()
    };
    // What came of another request's failure says nothing of it.
    let is_own = |call: &&LogCall| call.said() != Said::AuthStatus && !call.said().is_of_slice();
    let logged = case.log_calls.iter().filter(is_own).map(possible);
    let logged: Vec<Vec<&str>> = logged.collect();
    let has_line = logged.iter().any(|causes| !causes.is_empty());
    let is_without = ["unexplained", "passed-through", "returned-by-config"];
    assert!(
        !has_line
            || is_without.contains(&verdict.cause)
            || logged.iter().any(|causes| causes.contains(&verdict.cause)),
        "{} is not among {logged:?} of {:?}",
        verdict.cause,
        case.log_calls
    );
}

/// Cause and confidence.
fn judged(case: &Case) -> (&'static str, Confidence) {
    let verdict = verdict(case);
    (verdict.cause, verdict.confidence)
}

fn without(mut case: Case, hook: &str) -> Case {
    case.absent_hooks.push(hook.to_owned());
    case
}

fn lossy(mut case: Case) -> Case {
    case.lost_events = 12;
    case
}

/// The kernel skipped runs of a hook meanwhile.
fn skipping(mut case: Case) -> Case {
    case.skipped.push(Skipped {
        hook: "set_state".to_owned(),
        runs: 2,
        since: Time(0),
    });
    case
}

fn view(local: bool) -> ListenerView {
    ListenerView {
        local,
        somaxconn: Some(4096),
        ..ListenerView::default()
    }
}

fn listening(view: ListenerView) -> Facts {
    Facts {
        listener: Some(view),
        ..Facts::default()
    }
}

/// The address is this host's own, or not.
fn local(local: bool) -> Facts {
    listening(view(local))
}

fn node() -> Owner {
    Owner {
        is_left: false,
        descriptors: None,
        pid: 4242,
        name: "node".to_owned(),
        since: Time(75 * SECOND),
        unit: None,
    }
}

fn listener(at: &str, queue: u32, limit: u32) -> Listener {
    Listener {
        others: Vec::new(),
        address: Some(address(at)),
        v6_only: false,
        queue,
        limit,
        owner: Some(node()),
    }
}
