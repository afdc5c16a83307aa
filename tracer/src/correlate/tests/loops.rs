//! Requests that nginx passes to itself are one case if they are a loop, and cases of their own if
//! not.

use std::net::SocketAddr;

use super::{kinds::Kind, scene::Scene, *};
use crate::correlate::{Case, Correlator};
use crate::event::{Answer, Event, FirstByte, RequestId, Time, Upstream, fact::Worker};

fn worker(pid: u32, master: u32) -> Event {
    Event::Worker(Worker {
        at: Time(0),
        pid,
        own_pid: pid,
        master,
        uid: 33,
        gid: 33,
        netns: 1,
        unit: None,
        version: None,
        conf: None,
    })
}

fn port(port: u16) -> SocketAddr {
    SocketAddr::new([127, 0, 0, 1].into(), port)
}

/// The 502 that a request from this port got, which was passed from `local` to `remote`.
fn passed(worker: u32, at: u64, [client, local, remote]: [u16; 3]) -> Event {
    Event::FirstByte(Box::new(FirstByte {
        server_port: Some(80),
        at: Time(at * MS),
        worker,
        socket: at,
        request: RequestId(at),
        remote: Some(Upstream::Inet(port(remote))),
        local: Some(port(local)),
        status: Some(502),
        start: Time(MS),
        connection: Some(at),
        client: Some(port(client)),
        head: None,
        names: None,
        client_request: None,
    }))
}

fn cases(events: impl IntoIterator<Item = Event>) -> Vec<Case> {
    let mut correlator = Correlator::default();
    let workers = [worker(1, 9), worker(2, 9), worker(3, 8)];
    let events = workers.into_iter().chain(events);
    let mut cases: Vec<Case> = events
        .flat_map(|event| correlator.feed(event).cases)
        .collect();
    for at in (20..3000).step_by(20) {
        cases.extend(correlator.feed(Event::Tick(Time(at * MS))).cases);
    }
    cases
}

/// The innermost first, as each answer passes the next.
fn chain(length: u16, workers: [u32; 2]) -> impl Iterator<Item = Event> {
    (1..=length).rev().map(move |hop| {
        let worker = workers[usize::from(hop % 2)];
        let at = 10 + u64::from(length - hop);
        passed(worker, at, [4000 + hop, 4001 + hop, 80])
    })
}

#[test]
fn a_loop_is_one_case_that_of_the_client_s_own_request() {
    let cases = cases(chain(6, [1, 2]));
    let [case] = cases.as_slice() else {
        panic!("{} cases", cases.len());
    };
    let looped = case.looped.expect("a loop");
    assert_eq!((looped.passes, looped.to), (6, port(80)));
    assert_eq!((looped.client, case.client), (port(4001), Some(port(4001))));
}

#[test]
fn what_is_passed_on_twice_is_none() {
    let cases = cases(chain(2, [1, 2]));
    assert_eq!(cases.len(), 2);
    assert!(cases.iter().all(|case| case.looped.is_none()));
}

#[test]
fn a_chain_that_leads_elsewhere_is_none() {
    let last = passed(1, 5, [4007, 4100, 9000]);
    let cases = cases([last].into_iter().chain(chain(6, [1, 2])));
    assert_eq!(cases.len(), 7);
    assert!(cases.iter().all(|case| case.looped.is_none()));
}

#[test]
fn another_nginx_with_the_same_addresses_is_no_part_of_it() {
    let cases = cases(chain(6, [1, 3]));
    assert_eq!(cases.len(), 6);
    assert!(cases.iter().all(|case| case.looped.is_none()));
}

/// Requests one after the other, each from the port that the last one's upstream connection had.
fn with_ports_of_the_last(kind: Kind) -> Vec<Case> {
    let mut scene = Scene::new();
    scene.feed(worker(1, 9));
    for number in 0..5 {
        let request = scene.request(1, u64::from(number)).under();
        scene.wait(MS);
        let at = scene.now;
        let mut connection = kind.connection(&request, at);
        connection.local = Some(port(4001 + number));
        scene.feed(Event::Connection(Box::new(connection)));
        scene.feed(Event::Answer(Answer {
            server_port: kind.upstream().and_then(|upstream| match upstream {
                Upstream::Inet(remote) => Some(remote.port()),
                Upstream::Unix(_) => None,
            }),
            at,
            worker: 1,
            status: 502,
            request: Some(request.request),
            client: Some(port(4000 + number)),
            connection: Some(request.connection),
            head: None,
            names: None,
            client_status: None,
            watched: None,
            is_returned: false,
        }));
    }
    scene.cases()
}

#[test]
fn a_port_that_another_client_has_later_leads_to_no_further_hop() {
    for kind in [Refused, ClosedEarly] {
        let cases = with_ports_of_the_last(kind);
        assert_eq!(cases.len(), 5);
        assert!(cases.iter().all(|case| case.looped.is_none()));
    }
}

#[test]
fn a_port_that_leads_to_another_server_at_once_is_no_hop() {
    // Its connections lead to port 81, and the clients with the same ports came to port 80.
    let elsewhere = chain(6, [1, 2]).map(|event| match event {
        Event::FirstByte(mut first) => {
            first.remote = Some(Upstream::Inet(port(81)));
            Event::FirstByte(first)
        }
        other => other,
    });
    let cases = cases(elsewhere);
    assert_eq!(cases.len(), 6);
    assert!(cases.iter().all(|case| case.looped.is_none()));
}
