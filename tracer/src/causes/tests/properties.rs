//! Whatever is seen, judging it is total and claims no more than was seen.

use std::fmt;

use proptest::{collection::vec, option, prelude::*};

use super::{
    connected::{followed, masked},
    *,
};
use crate::{
    causes::catalogue,
    event::{
        Death, Dns, DnsStep, Holder, Icmp, LogLine, PeerClosed, Signal,
        fact::{ConfinementView, Inode, Inside, PathKind, PeerSocketView, UnixPathView},
    },
    verdict::Verdict,
};

/// Times near each other, and the odd ones.
fn time() -> impl Strategy<Value = Time> {
    prop_oneof![
        1 => Just(Time(0)),
        1 => Just(Time(u64::MAX)),
        50 => (1u64..200 * SECOND).prop_map(Time),
        1 => any::<u64>().prop_map(Time)
    ]
}

fn errno() -> impl Strategy<Value = u32> {
    prop_oneof![
        19 => prop::sample::select(vec![
            0, 1, 2, 11, 13, 20, 22, 23, 24, 91, 97, 98, 99, 101, 104, 110, 111, 113
        ]),
        1 => any::<u32>()
    ]
}

fn remote() -> impl Strategy<Value = SocketAddr> {
    prop::sample::select(vec![
        "127.0.0.1:3000",
        "10.0.0.5:80",
        "255.255.255.255:1",
        "224.0.0.1:9",
        "0.0.0.0:0",
        "[::1]:3000",
        "[fe80::1]:80",
        "[ff02::1]:80",
        "[2001:db8::5]:443",
    ])
    .prop_map(address)
}

fn upstream() -> impl Strategy<Value = Upstream> {
    prop_oneof![
        3 => remote().prop_map(Upstream::Inet),
        1 => ".{0,8}".prop_map(Upstream::Unix),
    ]
}

fn packet_drop() -> impl Strategy<Value = Drop> {
    let reason = prop::sample::select(vec![
        "NETFILTER_DROP",
        "NO_SOCKET",
        "NEIGH_FAILED",
        "BPF_CGROUP_EGRESS",
        "TCP_LISTEN_OVERFLOW",
        "QUEUE_PURGE",
        "IP_RPFILTER",
    ]);
    (time(), reason, any::<u8>(), any::<bool>(), any::<u32>()).prop_map(
        |(at, reason, tcp_flags, from_upstream, count)| Drop {
            at,
            reason: reason.to_owned(),
            tcp_flags,
            from_upstream,
            count,
        },
    )
}

fn lookups() -> impl Strategy<Value = RouteLookup> {
    let error = prop::sample::select(vec![0, -11, -13, -22, -101, -113, i32::MIN]);
    (0u32..3, error, 0u8..10).prop_map(|(lookups, error, kind)| RouteLookup {
        lookups,
        error,
        kind,
        security: None,
        unseen: false,
    })
}

fn failure() -> BoxedStrategy<Failure> {
    let code = prop_oneof![8 => Just(-5), 2 => Just(-1), 1 => Just(-3), 1 => Just(0)];
    let source = option::of(remote());
    (
        time(),
        time(),
        option::of(upstream()),
        source,
        code,
        errno(),
        any::<bool>(),
        lookups(),
    )
        .prop_map(
            |(start, at, upstream, source, code, errno, syn_sent, routes)| Failure {
                start,
                at,
                worker: 7,
                request: RequestId::default(),
                upstream,
                source,
                block: None,
                code,
                errno,
                syn_sent,
                routes,
            },
        )
        .boxed()
}

fn connection() -> BoxedStrategy<Connection> {
    let ends = (time(), time(), upstream(), option::of(remote()));
    let life = (
        option::of(time()),
        option::of(time()),
        option::of(time()),
        option::of(time()),
        any::<bool>(),
        option::of((errno(), time())),
    );
    let counts = (
        0u8..13,
        0u32..8,
        0u64..3,
        0u64..3,
        0u32..2,
        option::of(any::<u16>()),
    );
    let answers = (
        option::of(time()),
        vec(packet_drop(), 0..3),
        option::of((prop::sample::select(vec![1, 3, 11]), 0u8..15, time())),
    );
    let first = option::of(prop::sample::select(vec![1, b'H', b'P', 0x15, 0x16]));
    let transfers = (
        option::of(time()),
        option::of(time()),
        option::of((prop::sample::select(vec![32, 104, 110]), time())),
        first.clone(),
        first,
        option::of(time()),
        option::of(any::<u64>()),
    );
    let all = (ends, life, counts, answers, transfers);
    all.prop_map(|(ends, life, counts, answers, transfers)| Connection {
        last_sent: transfers.0,
        end_read: transfers.1,
        transfer_error: transfers.2,
        first_sent: transfers.3,
        first_received: transfers.4,
        tls_data: transfers.0.is_some_and(|at| at.0 % 2 == 0),
        broke_off: false,
        whole: false,
        body: None,
        reused_at: transfers.5,
        idle: transfers.6,
        listener_pid: Some(4242),
        accepted: transfers.1.map(|at| at.0 % 2 == 0),
        holder: transfers.5.map(|at| Holder {
            signal: None,
            pid: 4242 + (at.0 % 2) as u32,
            name: "node".to_owned(),
        }),
        start: ends.0,
        closed: ends.1,
        remote: ends.2,
        local: ends.3,
        established: life.0,
        first_byte: life.1,
        fin_received: life.2,
        rst_received: life.3,
        rst_in_syn_sent: life.4,
        error: life.5,
        state: counts.0,
        syn_retransmits: counts.1,
        bytes_received: counts.2,
        bytes_sent: counts.3,
        reuses: counts.4,
        status: counts.5,
        rst_sent: answers.0.map(|at| RstSent { at, reason: None }),
        drops: answers.1,
        icmp_sent: answers.2,
        ..handshake("10.0.0.5:80")
    })
    .boxed()
}

fn a_listener() -> impl Strategy<Value = Listener> {
    (
        option::of(remote()),
        any::<u32>(),
        any::<u32>(),
        any::<bool>(),
    )
        .prop_map(|(address, queue, limit, owned)| Listener {
            others: Vec::new(),
            address,
            v6_only: false,
            queue,
            limit,
            owner: owned.then(node),
        })
}

fn a_view() -> impl Strategy<Value = ListenerView> {
    (
        any::<bool>(),
        vec(a_listener(), 0..2),
        vec(a_listener(), 0..2),
        vec(a_listener(), 0..2),
        any::<bool>(),
        (any::<bool>(), any::<bool>()),
        option::of(prop::sample::select(vec![13, 22, 101, 113])),
    )
        .prop_map(
            |(local, exact, same_port, nearby, bound, (contained, unclear), route_error)| {
                ListenerView {
                    silent_neighbor: None,
                    route_error,
                    container: (local && contained).then(node),
                    translated: None,
                    forwarder: None,
                    unclear: !local && unclear,
                    local,
                    exact,
                    same_port,
                    bound: if bound { vec![node()] } else { Vec::new() },
                    nearby,
                    somaxconn: None,
                }
            },
        )
}

fn path_view() -> impl Strategy<Value = UnixPathView> {
    let kind = prop::sample::select(vec![PathKind::Missing, PathKind::Socket, PathKind::Other]);
    let inside = option::of(
        (option::of(any::<u32>()), option::of(any::<u32>()))
            .prop_map(|(uid, gid)| Inside { uid, gid }),
    );
    let inode = (".{0,8}", any::<u32>(), inside.clone()).prop_map(|(path, mode, inside)| Inode {
        path,
        mode,
        uid: 0,
        gid: 0,
        user: None,
        group: None,
        inside,
    });
    (
        kind,
        option::of(inode),
        option::of(a_listener()),
        option::of(".{0,8}"),
        inside,
    )
        .prop_map(
            |(kind, blocked, listener, missing, worker_inside)| UnixPathView {
                unseen: None,
                kind,
                file: blocked.clone(),
                missing,
                blocked,
                listener,
                worker_uid: 0,
                worker_gid: 0,
                worker_user: None,
                worker_group: None,
                worker_inside,
                somaxconn: None,
            },
        )
}

fn confinement() -> impl Strategy<Value = ConfinementView> {
    let modules = prop::sample::subsequence(
        vec!["selinux", "apparmor", "landlock", "bpf", "tomoyo"],
        0..4,
    );
    let programs = option::of(prop::sample::subsequence(
        vec!["connect4 a", "connect6 b"],
        0..2,
    ));
    (
        modules,
        programs,
        option::of(any::<bool>()),
        any::<bool>(),
        0u32..3,
    )
        .prop_map(
            |(modules, programs, enforcing, no_new_privs, seccomp)| ConfinementView {
                modules: modules.into_iter().map(str::to_owned).collect(),
                label: None,
                enforcing,
                cgroup: None,
                cgroup_programs: programs.map(|all| all.into_iter().map(str::to_owned).collect()),
                seccomp,
                no_new_privs,
            },
        )
}

fn icmp() -> impl Strategy<Value = Icmp> {
    (time(), any::<u8>(), any::<u8>(), remote()).prop_map(|(at, kind, code, sender)| Icmp {
        at,
        netns: 1,
        kind,
        code,
        sender: sender.ip(),
        source: sender,
        destination: sender,
    })
}

fn a_signal() -> impl Strategy<Value = Signal> {
    let one = || {
        (time(), any::<u8>(), any::<i32>(), 0u32..4).prop_map(|(at, number, code, sender)| Signal {
            before: None,
            number: number % 32,
            code: code % 4,
            sender,
            sender_name: "sh".to_owned(),
            at,
        })
    };
    (one(), option::of(one())).prop_map(|(signal, before)| Signal {
        before: before.map(Box::new),
        ..signal
    })
}

fn a_death() -> impl Strategy<Value = Death> {
    let signal = a_signal();
    (
        time(),
        0u32..4,
        any::<u32>(),
        option::of(signal),
        any::<bool>(),
    )
        .prop_map(|(at, pid, code, signal, oom)| Death {
            at,
            pid,
            parent: 1,
            name: "app".to_owned(),
            unit: None,
            code,
            signal,
            oom,
            cgroup: "/".to_owned(),
            limit: None,
        })
}

fn peer_closed() -> impl Strategy<Value = PeerClosed> {
    let reset = prop::sample::select(vec!["TCP_ABORT_ON_CLOSE", "TCP_STATE", "RST"]);
    let signal = option::of(a_signal());
    (time(), option::of(reset), option::of(a_death()), signal).prop_map(
        |(at, reset, death, signal)| PeerClosed {
            signal,
            translated: false,
            unread: 0,
            at,
            local: address("10.0.0.1:40000"),
            remote: address("10.0.0.5:80"),
            netns: 1,
            pid: 7,
            name: "app".to_owned(),
            parent: 6,
            reset: reset.map(str::to_owned),
            death,
        },
    )
}

fn peer_socket() -> impl Strategy<Value = PeerSocketView> {
    (any::<bool>(), any::<bool>(), any::<u32>(), any::<bool>()).prop_map(
        |(found, accepted, unread, owned)| PeerSocketView {
            translated: None,
            found,
            accepted,
            unread,
            owner: owned.then(node),
            retransmits: u8::from(unread % 7 == 0),
        },
    )
}

fn a_dns_step() -> impl Strategy<Value = Dns> {
    let step = prop_oneof![
        Just(DnsStep::Asked),
        Just(DnsStep::Truncated),
        (any::<u8>(), 0u16..3).prop_map(|(rcode, answers)| DnsStep::Answered { rcode, answers }),
        errno().prop_map(|errno| DnsStep::Failed { errno }),
    ];
    let asked = (any::<bool>(), 0u16..3, ".{0,3}");
    (time(), remote(), step, asked).prop_map(|(at, server, step, (over_tcp, id, name))| Dns {
        at,
        worker: 7,
        server,
        over_tcp,
        step,
        id,
        name,
    })
}

fn facts() -> BoxedStrategy<Facts> {
    (
        option::of(a_view()),
        option::of(a_view()),
        option::of(path_view()),
        option::of(confinement()),
        option::of(icmp()),
        option::of(peer_socket()),
    )
        .prop_map(
            |(listener, queue_at_retransmit, unix_path, confinement, icmp, peer_socket)| Facts {
                peer_socket,
                listener,
                queue_at_retransmit: queue_at_retransmit.map(Box::new),
                unix_path: unix_path.map(Box::new),
                confinement,
                icmp,
                ..Facts::default()
            },
        )
        .boxed()
}

/// Boxed: the strategies of a whole case are too large for a test's stack.
fn an_attempt() -> BoxedStrategy<Attempt> {
    let course = prop_oneof![
        3 => failure().prop_map(Course::FailedAtOnce),
        5 => any_connection().prop_map(Course::from),
        1 => Just(Course::Succeeded),
    ];
    let around = (option::of(peer_closed()), vec(a_death(), 0..3));
    (course, facts(), any::<bool>(), around)
        .prop_map(|(course, facts, reused, (peer_closed, deaths))| Attempt {
            reused,
            peer_closed: peer_closed.map(Box::new),
            deaths,
            ..attempt(course, facts)
        })
        .boxed()
}

fn a_case() -> BoxedStrategy<Case> {
    let status = prop::sample::select(vec![None, Some(200), Some(500), Some(502), Some(504)]);
    let hooks = prop::sample::subsequence(
        vec![
            "send_reset_plain",
            "received",
            "sent",
            "receive_reset",
            "drop_packet",
            "retransmit",
            "icmp_send",
            "route_lookup",
        ],
        0..4,
    );
    let calls = vec(
        prop::sample::select(vec![
            "connect() failed",
            "bind(%V) failed",
            "upstream timed out",
            "no live upstreams",
            "%ui worker_connections are not enough",
            "%V could not be resolved (%i: %s)",
            "upstream prematurely closed connection",
            "upstream sent too big header",
            "upstream sent \"Content-Length\" and \"%*s",
            "peer closed connection in SSL handshake",
            "%*s",
        ]),
        0..3,
    );
    let around = (
        vec(an_attempt(), 0..3),
        vec(a_dns_step(), 0..4),
        ".{0,4}",
        any::<u32>(),
    );
    (
        vec(an_attempt(), 0..3),
        status,
        any::<bool>(),
        any::<bool>(),
        0u64..2,
        hooks,
        calls,
        around,
    )
        .prop_map(
            |(mut attempts, status, masked, has_upstream, lost_events, hooks, calls, around)| {
                // What hid the failure: most often the next upstream.
                if masked && around.3 % 4 != 0 {
                    attempts.push(attempt(Course::Succeeded, Facts::default()));
                }
                Case {
                    is_alone: false,
                    cut_short: !masked && around.3 % 4 == 0,
                    earlier: vec![request(502, around.0)],
                    dns: around.1,
                    status,
                    masked,
                    has_upstream,
                    lost_events,
                    absent_hooks: hooks.into_iter().map(str::to_owned).collect(),
                    log_calls: calls
                        .into_iter()
                        .map(|format| LogCall {
                            text: Some(match format {
                                "%*s" => format!("SSL_do_handshake() failed (SSL: {})", around.2),
                                _ => around.2.clone(),
                            }),
                            resolved: format
                                .contains("resolved")
                                .then(|| (around.2.clone(), around.3)),
                            ..log_call(format, 111)
                        })
                        .collect(),
                    ..request(502, attempts)
                }
            },
        )
        .boxed()
}

/// Arbitrary connections seldom look like a handshake that did not end: most of these do.
fn any_connection() -> BoxedStrategy<Connection> {
    (connection(), 0u8..8, any::<bool>())
        .prop_map(|(c, shape, timer)| {
            if shape == 0 {
                return c;
            }
            if shape == 7 {
                return silent_since(stood(c));
            }
            if shape >= 4 {
                return stood(c);
            }
            let kept = if shape == 1 {
                c.drops.clone()
            } else {
                Vec::new()
            };
            Connection {
                established: None,
                first_byte: None,
                fin_received: None,
                bytes_received: 0,
                reuses: 0,
                state: if timer { 2 } else { 7 },
                start: START,
                closed: c.closed.max(START),
                rst_in_syn_sent: c.rst_in_syn_sent && !timer,
                rst_received: c.rst_received.filter(|_| c.rst_in_syn_sent && !timer),
                rst_sent: c.rst_sent.clone().filter(|_| shape == 2),
                icmp_sent: c.icmp_sent.filter(|_| shape == 3),
                drops: kept,
                remote: Upstream::Inet(address("10.0.0.5:80")),
                ..c
            }
        })
        .boxed()
}

/// An established one, with its times in a plausible order.
fn stood(c: Connection) -> Connection {
    let order = |time: Option<Time>| time.map(|at| after(at.0 % (50 * MS)));
    Connection {
        start: START,
        established: Some(after(50_000)),
        reused_at: c.reused_at.filter(|_| c.reuses > 0).map(|_| after(60_000)),
        last_sent: order(c.last_sent),
        first_byte: order(c.first_byte),
        fin_received: order(c.fin_received),
        rst_received: order(c.rst_received),
        end_read: order(c.end_read),
        transfer_error: c.transfer_error.map(|(e, at)| (e, after(at.0 % (50 * MS)))),
        rst_in_syn_sent: false,
        closed: after(51 * MS),
        ..c
    }
}

/// One on which nginx wrote, and nothing came back.
fn silent_since(c: Connection) -> Connection {
    Connection {
        bytes_sent: c.bytes_sent.max(1),
        bytes_received: 0,
        first_byte: None,
        first_received: None,
        status: None,
        fin_received: None,
        rst_received: None,
        end_read: None,
        transfer_error: None,
        error: None,
        ..c
    }
}

type Remove = fn(&mut Case);

/// What each kind of event left in a case, and how it looks without.
const EVENTS: [(&str, Remove); 16] = [
    ("nginx's log calls", |case| case.log_calls.clear()),
    ("steps of the resolver", |case| case.dns.clear()),
    ("earlier requests", |case| case.earlier.clear()),
    ("the answer", |case| case.status = None),
    ("how the attempt failed at once", |case| {
        failures(case, |f| (f.code, f.errno) = (0, 0));
    }),
    ("route lookups", |case| {
        failures(case, |f| f.routes = routes(0, 0, 0));
    }),
    // A RST, a FIN and the read that fails by it show one thing.
    ("how the upstream ended it", |case| {
        connections(case, |c| {
            (c.rst_received, c.rst_in_syn_sent) = (None, false);
            (c.fin_received, c.end_read) = (None, None);
            (c.transfer_error, c.error, c.tls_alert) = (None, None, None);
        });
    }),
    ("a RST that was sent", |case| {
        connections(case, |c| c.rst_sent = None);
    }),
    ("the first byte", |case| {
        connections(case, |c| {
            (c.first_byte, c.first_received, c.last_received) = (None, None, None);
            (c.status, c.bytes_received) = (None, 0);
        });
    }),
    ("the handshake", |case| {
        connections(case, |c| c.established = None);
    }),
    ("dropped packets", |case| {
        connections(case, |c| c.drops.clear())
    }),
    ("a full queue", |case| {
        connections(case, |c| c.full_queue = None);
    }),
    ("ICMP errors", |case| {
        connections(case, |c| c.icmp_sent = None);
        attempts(case, |attempt| attempt.facts.icmp = None);
    }),
    ("the connection's state", |case| {
        connections(case, |c| c.state = 7);
    }),
    ("who closed the other end", |case| {
        attempts(case, |attempt| {
            attempt.peer_closed = None;
            attempt.deaths.clear();
        });
    }),
    ("what the host said", |case| {
        attempts(case, |attempt| attempt.facts = Facts::default());
    }),
];

fn attempts(case: &mut Case, change: impl Fn(&mut Attempt)) {
    case.attempts.iter_mut().for_each(change);
}

fn connections(case: &mut Case, change: impl Fn(&mut Connection)) {
    attempts(case, |attempt| {
        if let Course::Connection(connection) = &mut attempt.course {
            change(connection);
        }
    });
}

fn failures(case: &mut Case, change: impl Fn(&mut Failure)) {
    attempts(case, |attempt| {
        if let Course::FailedAtOnce(failure) = &mut attempt.course {
            change(failure);
        }
    });
}

/// Rest on complete records, all of them: what was established, and what was never connected.
const NEVER_PROVEN_WITH_LOSS: [&str; 13] = [
    "backend-closed-early",
    "backend-reset",
    "backend-died",
    "backend-oom-killed",
    "keepalive-race",
    "backend-slow",
    "backend-not-accepting",
    "response-rejected",
    "response-truncated",
    "tls-handshake-failed",
    "passed-through",
    "no-live-upstreams",
    "dns-failed",
];
/// Their proof is that something was not seen: with records lost it is none.
const PROVEN_BY_SILENCE: [&str; 2] = ["refused-by-peer", "syn-timeout"];
/// The kernel does not say who refused: never proven (a drop that names its reason apart).
const NEVER_PROVEN: [&str; 1] = ["lsm-denied"];

/// Of each property; a hunt for rare ones sets `PROPTEST_CASES`.
fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES");
    asked.map_or(2000, |asked| asked.parse().expect("a number"))
}

/// What the proof in a case rests on: the events without which it is none, where the others that
/// show the same are taken away, too. An error, in words, where nothing is left and it still is.
fn events_needed(case: &Case) -> Result<Vec<&'static str>, String> {
    let proof = |case: &Case| judge(case).filter(|verdict| verdict.confidence == Proven);
    let Some(before) = proof(case) else {
        return Ok(Vec::new());
    };
    let (mut left, mut last, mut needed) = (case.clone(), before.clone(), Vec::new());
    for (event, remove) in EVENTS {
        let mut without = left.clone();
        remove(&mut without);
        match proof(&without).filter(|after| after.cause == before.cause) {
            Some(after) => (left, last) = (without, after),
            None => needed.push(event),
        }
    }
    if needed.is_empty() {
        let (cause, seen) = (before.cause, before.summary);
        return Err(format!(
            "{cause} is proven by no event\n  as seen: {seen}\n  with every event taken away: {}",
            last.summary
        ));
    }
    Ok(needed)
}

/// A case that prints in one line, without what is empty or zero.
struct Made(Case);

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = format!("{:#?}", self.0);
        let is_empty = |line: &&str| {
            let value = line.rsplit_once(": ").map(|(_, value)| value);
            matches!(value, Some("None," | "[]," | "false," | "0,"))
        };
        let fields: Vec<&str> = all
            .lines()
            .map(str::trim)
            .filter(|line| !is_empty(line))
            .collect();
        f.write_str(&fields.join(" ").replace("( ", "(").replace(", )", ")"))
    }
}

/// Found by the property below: the only sign of nginx's timer was that nothing else was left.
#[test]
fn an_attempt_that_nginx_left_is_no_proof_of_its_timer() {
    for (first_sent, accepted, cause) in [
        (0x16, true, "tls-handshake-failed"),
        (b'G', true, "backend-slow"),
        (b'G', false, "backend-not-accepting"),
    ] {
        let silent = Connection {
            first_sent: Some(first_sent),
            accepted: Some(accepted),
            bytes_sent: 1,
            ..handshake("127.0.0.1:3000")
        };
        let ended = Connection {
            end_read: Some(after(70_000)),
            ..silent.clone()
        };
        let left = |c| followed(masked(one(c, Facts::default()), 200));
        assert_eq!(judged(&left(silent)), (cause, Inferred));
        assert_eq!(events_needed(&left(ended)).err(), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn judging_is_total_and_claims_no_more_than_was_seen(case in a_case()) {
        if let Some(verdict) = judge(&case) {
            prop_assert!(catalogue::find(verdict.cause).is_some());
            prop_assert_eq!(verdict.cause == "unexplained", verdict.confidence == Unknown);
            prop_assert!(!verdict.summary.is_empty());
            prop_assert!(verdict.advice.len() <= 4);
            prop_assert_eq!(verdict.attempts.len(), case.attempts.len());
            if verdict.confidence == Proven {
                prop_assert!(!NEVER_PROVEN.contains(&verdict.cause));
                let silent = PROVEN_BY_SILENCE.contains(&verdict.cause);
                let later = NEVER_PROVEN_WITH_LOSS.contains(&verdict.cause);
                prop_assert!(case.lost_events == 0 || !(silent || later));
                prop_assert!(!verdict.evidence.iter().any(|e| matches!(e.event, "unseen" | "lost")));
            }
            if verdict.confidence == Inferred {
                prop_assert!(verdict.evidence.iter().any(|e| matches!(e.event, "unseen" | "lost")));
            }
            let times: Vec<Time> = verdict.evidence.iter().filter_map(|e| e.time).collect();
            prop_assert!(times.is_sorted());
        }
    }

    /// Losing records or hooks never makes a verdict surer, nor turns it into another cause's
    /// proof.
    #[test]
    fn seeing_less_never_proves_another_cause(case in a_case()) {
        let before = judge(&case);
        let after = judge(&lossy(case));
        if let (Some(before), Some(after)) = (before, after) {
            prop_assert!(after.confidence <= before.confidence || after.cause == before.cause || before.cause == "unexplained");
            if after.confidence == Proven {
                prop_assert!(before.confidence == Proven || before.cause == "unexplained");
            }
        }
    }

    /// Each proof rests on an event: with whatever else shows the same taken away, it takes the
    /// proof with it.
    #[test]
    fn a_proof_rests_on_an_event(Made(case) in a_case().prop_map(Made)) {
        if let Err(baseless) = events_needed(&case) {
            return Err(TestCaseError::fail(baseless));
        }
    }

    /// Whoever may append to a log can write any line: it names, and decides nothing.
    #[test]
    fn no_line_of_the_log_decides(case in a_case(), lines in vec(a_line(), 1..4)) {
        let mut without = case.clone();
        without.log_lines = Vec::new();
        let mut with = case;
        with.log_lines = lines;
        match (judge(&without), judge(&with)) {
            (Some(without), Some(with)) => {
                prop_assert_eq!(without.cause, with.cause);
                prop_assert_eq!(without.confidence, with.confidence);
                prop_assert_eq!(&without.errno, &with.errno);
                let causes = |verdict: &Verdict| verdict.attempts.iter().map(|one| one.cause).collect::<Vec<_>>();
                prop_assert_eq!(causes(&without), causes(&with));
            }
            (without, with) => prop_assert_eq!(without.is_some(), with.is_some()),
        }
    }
}

fn a_line() -> impl Strategy<Value = LogLine> {
    let text = |pattern: &'static str| option::of(pattern);
    (
        "(connect\\(\\)|upstream|recv\\(\\)|no live) .{0,20}",
        text("192\\.168\\.1\\.[0-9]|.{0,9}"),
        text("[a-z.]{0,9}"),
        text("(GET|POST) /.{0,9}"),
        text("(http|fastcgi|grpc)://(unix:/run/a:|127\\.0\\.0\\.1:3000)/.{0,4}"),
        option::of(vec(any::<u32>(), 0..3)),
    )
        .prop_map(
            |(message, client, host, request, upstream, workers)| LogLine {
                message,
                client,
                host,
                request,
                upstream,
                workers,
                ..LogLine::default()
            },
        )
}
