//! What the host is asked, and how long a case waits for it.

use super::*;
use crate::{
    correlate::PATIENCE,
    event::{Death, Event, Fact, Icmp, PeerClosed, Question, Signal, Upstream, fact::Finding},
};

/// Longer than a case waits.
const TOO_LATE: u64 = 2 * PATIENCE;

#[test]
fn a_late_answer_within_patience_is_used() {
    let mut scene = Scene::new();
    scene.delay = 200 * MS;
    scene.request(1, 5).fails(RefusedByPeer).answers(502);
    let cases = scene.cases();
    assert_eq!(cases.len(), 1);
    assert!(cases[0].attempts[0].facts.listener.is_some());
}

#[test]
fn after_patience_a_case_closes_without_the_answer() {
    let mut scene = Scene::new();
    scene.delay = TOO_LATE;
    scene.request(1, 5).fails(RefusedByPeer).answers(502);
    scene.wait(PATIENCE + 50 * MS);
    let [case] = scene.so_far() else {
        panic!("{:#?}", scene.so_far());
    };
    let facts = &case.attempts[0].facts;
    assert_eq!(facts.listener, None);
    assert_eq!(facts.unanswered.len(), 1);
}

#[test]
fn a_case_closes_with_the_batch_that_answers_it() {
    let mut scene = Scene::new();
    scene.delay = MS;
    scene.request(1, 5).fails(RefusedByPeer).answers(502);
    // Each batch of events ends in a tick; here one comes every 20 ms.
    scene.wait(21 * MS);
    assert_eq!(scene.so_far().len(), 1);
}

#[test]
fn the_same_failure_just_after_asks_no_more_and_has_the_answer() {
    let mut scene = Scene::new();
    for connection in 5..15 {
        scene
            .request(1, connection)
            .fails(RefusedByPeer)
            .answers(502);
        scene.wait(10 * MS);
    }
    assert_eq!(scene.asked_listeners().len(), 1);
    let cases = scene.cases();
    assert_eq!(cases.len(), 10);
    assert!(
        cases
            .iter()
            .all(|case| case.attempts[0].facts.listener.is_some())
    );
}

#[test]
fn a_retransmit_asks_for_the_queue_and_the_fullest_view_counts() {
    let mut scene = Scene::new();
    let begun = scene.request(1, 5).acts(&[Act::Begin]);
    let start = begun.under();
    for queue in [3, 129, 7] {
        scene.wait(SECOND);
        scene.queue = queue;
        scene.play(&mut start.clone(), Act::Retransmit(QueueFull));
    }
    scene.wait(SECOND);
    scene.queue = 0;
    let mut under = start;
    scene.play(&mut under, Act::Record(QueueFull));
    scene.play(&mut under, Act::Answer(504));
    assert_eq!(scene.asked_listeners().len(), 4);
    let cases = scene.cases();
    let facts = &cases[0].attempts[0].facts;
    let queue = |view: &crate::event::fact::ListenerView| view.exact[0].queue;
    let at_retransmit = facts.queue_at_retransmit.as_deref();
    assert_eq!(at_retransmit.map(queue), Some(129));
    assert_eq!(facts.listener.as_ref().map(queue), Some(0));
    let verdict = crate::causes::judge(&cases[0]).expect("a verdict");
    assert_eq!(verdict.cause, "accept-queue-full");
}

#[test]
fn an_own_address_is_known_without_the_host() {
    let mut scene = Scene::new();
    scene.delay = TOO_LATE;
    scene.request(1, 5).fails(QueueFull).answers(504);
    let verdicts = scene.verdicts();
    assert_eq!(
        verdicts[0].cause, "unexplained",
        "silence of an own address may be its queue"
    );
}

/// What a worker saw at the path of a unix socket that is missing, or why it can not be asked.
fn path(scene: &mut Scene, worker: u32, finding: Result<Finding, String>) {
    let path = "/run/app.sock".to_owned();
    scene.feed(Event::Fact(Box::new(Fact {
        at: scene.now,
        question: Question::UnixPath { worker, path },
        finding,
    })));
}

fn gone() -> Result<Finding, String> {
    Err("it has ended".to_owned())
}

#[test]
fn what_a_worker_saw_just_before_it_ended_stands() {
    let mut scene = Scene::new();
    scene.request(1, 5).fails(SocketMissing).answers(502);
    scene.wait(100 * MS);
    path(&mut scene, 1, gone());
    scene.request(1, 6).fails(SocketMissing).answers(502);
    scene.wait(SECOND);
    path(&mut scene, 1, gone());
    scene.delay = TOO_LATE;
    scene.request(1, 7).fails(SocketMissing).answers(502);
    let cases = scene.cases();
    let seen = cases
        .iter()
        .map(|case| case.attempts[0].facts.unix_path.is_some());
    assert_eq!(seen.collect::<Vec<_>>(), [true, true, false]);
}

/// A hash map's order is another each time: a replay would tell otherwise.
#[test]
fn for_a_worker_that_has_ended_its_sibling_s_last_view_counts() {
    for _ in 0..16 {
        let mut scene = Scene::new();
        scene.delay = TOO_LATE;
        for worker in [3, 2] {
            path(&mut scene, worker, Ok(records::missing(worker)));
            scene.wait(MS);
        }
        path(&mut scene, 1, gone());
        scene.request(1, 5).fails(SocketMissing).answers(502);
        let cases = scene.cases();
        let view = cases[0].attempts[0].facts.unix_path.as_ref();
        assert_eq!(view.map(|view| view.worker_uid), Some(2));
    }
}

#[test]
fn an_end_in_another_namespace_with_the_same_addresses_is_not_taken() {
    for (netns, is_taken) in [(1, true), (2, false), (0, true)] {
        assert_eq!(peer_closed(&[(netns, 0)]).is_some(), is_taken, "{netns}");
    }
    assert_eq!(peer_closed(&[(1, 0), (2, 1)]), Some(7));
}

/// The port is free as soon as nginx has closed.
#[test]
fn an_end_of_the_next_connection_from_that_port_is_not_taken() {
    assert_eq!(peer_closed(&[(1, 0), (1, 2)]), Some(7));
    assert_eq!(peer_closed(&[(1, 2), (1, 3)]), Some(9));
}

/// Of upstream's ends of a namespace and so many ms after the connection's beginning (it ends
/// within the second), by pids from 7 on: whose is taken?
fn peer_closed(ends: &[(u32, u64)]) -> Option<u32> {
    peer_closed_beside(ends, 0, None)
}

/// The same where so many other connections end after it, and one of nginx's end towards elsewhere
/// so many ms after.
fn peer_closed_beside(ends: &[(u32, u64)], others: u32, elsewhere: Option<u64>) -> Option<u32> {
    let mut scene = Scene::new();
    let mut request = scene.request(1, 5).under();
    scene.play(&mut request, Act::Begin);
    let Some(Upstream::Inet(remote)) = RefusedByPeer.upstream() else {
        panic!("not an address");
    };
    let begin = scene.now;
    let end = |local: &str, (index, &(netns, after)): (usize, &(u32, u64))| {
        Event::PeerClosed(Box::new(PeerClosed {
            translated: false,
            signal: None,
            at: begin.plus(after * MS),
            local: local.parse().unwrap(),
            remote,
            netns,
            unread: 0,
            pid: 7 + after as u32,
            name: format!("app{index}"),
            parent: 1,
            reset: None,
            death: None,
        }))
    };
    scene.wait(MS);
    for one in ends.iter().enumerate() {
        scene.feed(end("10.0.0.100:40000", one));
    }
    if let Some(after) = elsewhere
        && let Event::PeerClosed(mut closed) = end("10.0.0.100:40000", (0, &(1, after)))
    {
        closed.remote = "10.0.0.77:6379".parse().unwrap();
        closed.translated = true;
        scene.feed(Event::PeerClosed(closed));
    }
    for number in 0..others {
        let local = format!(
            "10.0.1.{}:{}",
            number >> 12 & 0xff,
            10_000 + (number & 0xfff)
        );
        scene.feed(end(&local, (0, &(1, 2))));
    }
    scene.play(&mut request, Act::Record(RefusedByPeer));
    scene.play(&mut request, Act::Answer(502));
    let cases = scene.cases();
    let closed = cases[0].attempts[0].peer_closed.as_deref();
    closed.map(|closed| closed.pid)
}

/// Another program of the host may have nginx's end towards elsewhere: what is known to be the
/// upstream's comes first.
#[test]
fn a_translated_end_gives_way_to_the_upstreams_own() {
    assert_eq!(peer_closed_beside(&[(1, 1)], 0, Some(2)), Some(8));
    assert_eq!(peer_closed_beside(&[], 0, Some(2)), Some(9));
}

#[test]
fn a_flood_of_other_endings_leaves_an_attempt_its_own() {
    assert_eq!(peer_closed_beside(&[(1, 1)], 5000, None), Some(8));
}

/// A connection that pid 7 closed unanswered `signal` after it had got that; and its exit, so many
/// ms later. When came the case, in ms after the close, and with how many exits?
fn closed_alive(signal: Option<u8>, exit: Option<u64>) -> (u64, usize) {
    let mut scene = Scene::new();
    let mut request = scene.request(1, 5).under();
    scene.play(&mut request, Act::Begin);
    scene.wait(5 * MS);
    let Some(Upstream::Inet(remote)) = ClosedEarly.upstream() else {
        panic!("not an address");
    };
    let at = scene.now;
    let signal = signal.map(|number| Signal {
        number,
        code: 0,
        sender: 6,
        sender_name: "gunicorn".to_owned(),
        at,
        before: None,
    });
    scene.feed(Event::PeerClosed(Box::new(PeerClosed {
        translated: false,
        unread: 0,
        signal,
        at,
        local: "10.0.0.100:40000".parse().unwrap(),
        remote,
        netns: 1,
        pid: 7,
        name: "gunicorn".to_owned(),
        parent: 6,
        reset: None,
        death: None,
    })));
    scene.play(&mut request, Act::Record(ClosedEarly));
    scene.play(&mut request, Act::Answer(502));
    for after in 1..3000 {
        scene.wait(MS);
        if exit == Some(after) {
            scene.feed(Event::Death(Box::new(Death {
                at: scene.now,
                pid: 7,
                parent: 6,
                name: "gunicorn".to_owned(),
                unit: None,
                cgroup: "/".to_owned(),
                code: 1 << 8,
                signal: None,
                oom: false,
                limit: None,
            })));
        }
        if let Some(case) = scene.so_far().first() {
            return (after, case.attempts[0].deaths.len());
        }
    }
    panic!("no case");
}

#[test]
fn a_case_waits_for_the_exit_of_who_closed() {
    let (after, exits) = closed_alive(Some(6), Some(600));
    assert!((600..630).contains(&after) && exits == 1, "{after} {exits}");
    // Of one that was asked to stop it waits for 2 s, of others a moment.
    let (after, exits) = closed_alive(Some(15), None);
    assert!(
        (1990..2030).contains(&after) && exits == 0,
        "{after} {exits}"
    );
    let (after, exits) = closed_alive(None, Some(50));
    assert!((50..80).contains(&after) && exits == 1, "{after} {exits}");
    let (after, exits) = closed_alive(Some(10), None);
    assert!((490..540).contains(&after) && exits == 0, "{after} {exits}");
}

#[test]
fn an_icmp_error_of_another_namespace_with_the_same_addresses_is_not_taken() {
    for (netns, is_taken) in [(1, true), (2, false), (0, true)] {
        let mut scene = Scene::new();
        let mut request = scene.request(1, 5).under();
        scene.play(&mut request, Act::Begin);
        scene.wait(MS);
        let Some(Upstream::Inet(destination)) = RefusedByPeer.upstream() else {
            panic!("not an address");
        };
        let at = scene.now;
        scene.feed(Event::Icmp(Icmp {
            at,
            netns,
            kind: 3,
            code: 1,
            sender: "10.0.0.1".parse().unwrap(),
            source: "10.0.0.100:40000".parse().unwrap(),
            destination,
        }));
        scene.play(&mut request, Act::Record(RefusedByPeer));
        scene.play(&mut request, Act::Answer(502));
        let cases = scene.cases();
        let icmp = &cases[0].attempts[0].facts.icmp;
        assert_eq!(icmp.is_some(), is_taken, "namespace {netns}");
    }
}
