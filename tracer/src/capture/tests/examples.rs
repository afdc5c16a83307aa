//! One event of each kind, every member set.

use crate::event::{
    Answer, ClientRequest, Connection, Death, Dns, DnsStep, Drop, Event, Fact, Failure, FirstByte,
    Holder, Hooks, Icmp, LogCall, LogLine, Lost, MemoryLimit, Notice, PeerClosed, Process,
    ProcessKind, Question, Reply, RequestHead, RequestId, RequestNames, Retransmit, Retry,
    RouteLookup, RstSent, Signal, Strain, Time, Upstream,
    fact::{
        BlockServer, BlockView, ConfigLine, ConfinementView, DescriptorsView, Finding, FolderView,
        Inode, Listener, ListenerView, NameView, NamesView, Owner, PathKind, PeerSocketView,
        PortsView, ReturnsView, Room, UnixPathView, Worker,
    },
};

const REQUEST: RequestId = RequestId(5_000_000_900);
const CLIENTS: ClientRequest = ClientRequest {
    address: 0x5581_0100,
    connection: 4,
};
const ROUTES: RouteLookup = RouteLookup {
    lookups: 2,
    error: -13,
    kind: 8,
    security: None,
    unseen: false,
};

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn head() -> Option<RequestHead> {
    Some(RequestHead {
        line: "GET /a HTTP/1.1".to_owned(),
        host: text("shop.test"),
    })
}

/// A connection that the columns can say.
pub(super) fn healthy() -> Connection {
    Connection {
        socket: 0xffff_8881_0000_4c00,
        worker: 7,
        request: Some(REQUEST),
        start: Time(5_000_000_100),
        closed: Time(5_000_900_000),
        local: Some("127.0.0.1:40000".parse().unwrap()),
        remote: Upstream::Inet("127.0.0.1:8000".parse().unwrap()),
        netns: 4_026_531_840,
        established: Some(Time(5_000_040_000)),
        first_byte: Some(Time(5_000_400_000)),
        status: Some(200),
        fin_received: Some(Time(5_000_500_000)),
        rst_received: None,
        rst_in_syn_sent: false,
        error: None,
        state: 8,
        syn_retransmits: 0,
        last_retransmit: None,
        bytes_received: 613,
        bytes_sent: 71,
        unread: 0,
        asked: 0,
        last_sent: Some(Time(5_000_060_000)),
        last_received: Some(Time(5_000_400_000)),
        end_read: Some(Time(5_000_510_000)),
        transfer_error: None,
        first_sent: Some(b'G'),
        first_received: Some(b'H'),
        tls_alert: None,
        tls_data: false,
        broke_off: false,
        whole: false,
        body: None,
        accepted: None,
        holder: None,
        listener_pid: None,
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
            kind: 1,
            security: None,
            unseen: false,
        },
    }
}

/// One that only a row can say.
fn dropped() -> Connection {
    Connection {
        rst_received: Some(Time(6)),
        rst_in_syn_sent: true,
        error: Some((111, Time(7))),
        last_retransmit: Some(Time(8)),
        transfer_error: Some((104, Time(9))),
        tls_alert: Some(40),
        tls_data: true,
        broke_off: false,
        whole: false,
        body: None,
        accepted: Some(true),
        holder: Some(Holder {
            signal: None,
            pid: 4,
            name: "gunicorn".to_owned(),
        }),
        listener_pid: Some(3),
        open: true,
        reuses: 1,
        reused_at: Some(Time(10)),
        idle: Some(11),
        rst_sent: Some(RstSent {
            at: Time(12),
            reason: text("NO_SOCKET"),
        }),
        drops: vec![Drop {
            at: Time(13),
            reason: "NETFILTER_DROP".to_owned(),
            tcp_flags: 2,
            from_upstream: false,
            count: 3,
        }],
        icmp_sent: Some((3, 1, Time(14))),
        full_queue: None,
        translated: None,
        routes: ROUTES,
        ..healthy()
    }
}

fn owner() -> Option<Owner> {
    Some(Owner {
        is_left: false,
        descriptors: None,
        pid: 42,
        name: "node".to_owned(),
        since: Time(1),
        unit: text("app.service"),
    })
}

fn listener() -> Listener {
    Listener {
        others: Vec::new(),
        address: Some("[::1]:3000".parse().unwrap()),
        v6_only: true,
        queue: 1,
        limit: 2,
        owner: owner(),
    }
}

fn inode() -> Option<Inode> {
    Some(Inode {
        path: "/run/app.sock".to_owned(),
        mode: 0o660,
        uid: 0,
        gid: 33,
        user: text("root"),
        group: text("www-data"),
        inside: None,
    })
}

fn death() -> Death {
    Death {
        at: Time(15),
        pid: 9,
        parent: 8,
        name: "app".to_owned(),
        unit: text("app.service"),
        code: 9,
        signal: Some(Signal {
            before: None,
            number: 9,
            code: 128,
            sender: 1,
            sender_name: "systemd".to_owned(),
            at: Time(16),
        }),
        oom: true,
        cgroup: "/system.slice/app.service".to_owned(),
        limit: Some(MemoryLimit {
            cgroup: "app.service".to_owned(),
            bytes: 1 << 26,
            used: (1 << 26) - 4096,
        }),
    }
}

fn facts() -> Vec<Event> {
    let (worker, remote) = (7, "127.0.0.1:3000".parse().unwrap());
    let local = "127.0.0.1:40000".parse().unwrap();
    let path = "/run/app.sock".to_owned();
    let answers = [
        (
            Question::Listener {
                worker,
                address: remote,
            },
            Ok(Finding::Listener(ListenerView {
                silent_neighbor: None,
                route_error: None,
                local: true,
                container: None,
                translated: None,
                unclear: false,
                exact: vec![listener()],
                same_port: vec![listener()],
                bound: owner().into_iter().collect(),
                nearby: vec![listener()],
                somaxconn: Some(4096),
                forwarder: None,
            })),
        ),
        (
            Question::UnixPath { worker, path },
            Ok(Finding::UnixPath(Box::new(UnixPathView {
                unseen: None,
                kind: PathKind::Socket,
                file: inode(),
                missing: text("/run"),
                blocked: inode(),
                listener: Some(Listener {
                    address: None,
                    ..listener()
                }),
                worker_uid: 33,

                worker_gid: 33,
                worker_user: text("www-data"),
                worker_group: None,
                worker_inside: None,
                somaxconn: None,
            }))),
        ),
        (
            Question::PeerSocket {
                worker,
                local,
                remote,
            },
            Ok(Finding::PeerSocket(PeerSocketView {
                translated: None,
                retransmits: 0,
                found: true,
                accepted: false,
                unread: 5,
                owner: owner(),
            })),
        ),
        (
            Question::Ports { worker, remote },
            Ok(Finding::Ports(PortsView {
                range: (32768, 60999),
                connected: 1,
                time_wait: 2,
                tw_reuse: Some(2),
            })),
        ),
        (
            Question::Descriptors { worker },
            Ok(Finding::Descriptors(DescriptorsView {
                open: 1,
                soft_limit: 2,
                hard_limit: 3,
                host_open: 4,
                host_limit: 5,
            })),
        ),
        (
            Question::Confinement { worker },
            Ok(Finding::Confinement(ConfinementView {
                modules: vec!["selinux".to_owned()],
                label: text("httpd_t"),
                enforcing: Some(true),
                cgroup: text("/system.slice"),
                cgroup_programs: Some(vec!["connect4 sd_fw_egress".to_owned()]),
                seccomp: 2,
                no_new_privs: true,
            })),
        ),
        (Question::Log { worker }, Ok(Finding::Log)),
        (Question::Log { worker }, Err("it vanished".to_owned())),
    ];
    answered(answers)
}

/// What no capture of the first version has.
pub(super) fn later() -> Vec<Event> {
    let mut rows = later_answers();
    rows.extend(named());
    rows
}

/// Requests with the names that they have elsewhere.
fn named() -> Vec<Event> {
    let names = Some(Box::new(RequestNames {
        server: text("shop.test"),
        block: text("app"),
        id: text("5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f"),
        traceparent: text("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    }));
    let mut rows = nginx();
    rows.retain_mut(|row| match row {
        Event::Answer(answer) => {
            answer.names.clone_from(&names);
            true
        }
        Event::FirstByte(first) => {
            first.names.clone_from(&names);
            true
        }
        Event::LogLine(line) => {
            line.server = text("shop.test");
            true
        }
        _ => false,
    });
    rows
}

fn later_answers() -> Vec<Event> {
    let worker = 7;
    answered([
        (
            Question::Folder {
                worker,
                path: "/var/lib/nginx/proxy".to_owned(),
            },
            Ok(Finding::Folder(Box::new(FolderView {
                folder: None,
                missing: text("/var/lib/nginx"),
                blocked: None,
                room: Some(Room {
                    free: 1,
                    size: 2,
                    free_files: Some(3),
                    read_only: true,
                }),
                worker_uid: 33,
                worker_user: text("www-data"),
            }))),
        ),
        (
            Question::Returns {
                worker,
                conf: "/etc/nginx/nginx.conf".to_owned(),
                status: 502,
            },
            Ok(Finding::Returns(ReturnsView {
                lines: vec![ConfigLine {
                    file: "/etc/nginx/nginx.conf".to_owned(),
                    line: 12,
                    text: "return 502".to_owned(),
                    location: None,
                }],
                scripted: true,
            })),
        ),
        (
            Question::Block {
                worker,
                conf: "/etc/nginx/nginx.conf".to_owned(),
                name: "app".to_owned(),
            },
            Ok(Finding::Block(BlockView {
                at: None,
                servers: vec![BlockServer {
                    address: "127.0.0.1:3000".to_owned(),
                    parameters: vec!["down".to_owned()],
                }],
                zone: true,
            })),
        ),
        (
            Question::Names {
                worker,
                conf: "/etc/nginx/nginx.conf".to_owned(),
                port: 3000,
            },
            Ok(Finding::Names(NamesView {
                names: vec![NameView {
                    name: "app".to_owned(),
                    at: ConfigLine::default(),
                    now: vec!["10.0.0.3".parse().unwrap()],
                }],
            })),
        ),
    ])
}

fn answered(answers: impl IntoIterator<Item = (Question, Result<Finding, String>)>) -> Vec<Event> {
    answers
        .into_iter()
        .map(|(question, finding)| {
            Event::Fact(Box::new(Fact {
                at: Time(17),
                question,
                finding,
            }))
        })
        .collect()
}

fn nginx() -> Vec<Event> {
    let (at, worker) = (Time(20), 7);
    vec![
        Event::Failure(Failure {
            start: Time(19),
            at,
            worker,
            request: REQUEST,
            upstream: Some(Upstream::Unix("/run/app.sock".to_owned())),
            source: Some("10.0.0.1:0".parse().unwrap()),
            block: None,
            code: -5,
            errno: 13,
            syn_sent: true,
            routes: ROUTES,
        }),
        Event::Answer(Answer {
            server_port: None,
            at,
            worker,
            status: 502,
            request: Some(REQUEST),
            client: Some("192.0.2.1:5000".parse().unwrap()),
            connection: Some(4),
            head: head(),
            names: None,
            client_status: Some(200),
            watched: Some(CLIENTS),
            is_returned: false,
        }),
        Event::Reply(Reply {
            at,
            worker,
            client_request: CLIENTS,
            request: Some(REQUEST),
            status: Some(200),
            is_earlier: false,
        }),
        Event::Notice(Notice {
            at,
            pid: worker,
            strain: Strain::ListenQueue {
                address: "127.0.0.1:80".parse().unwrap(),
                queue: 512,
                limit: 511,
                somaxconn: Some(4096),
                dropped: 3,
            },
            is_over: true,
        }),
        Event::LogCall(LogCall {
            at,
            worker,
            level: 4,
            errno: 111,
            connection: 4,
            request: Some(REQUEST),
            stream: true,
            format: "connect() failed".into(),
            unread: None,
            text: text("SSL"),
            number: None,
            resolved: Some(("db.test".to_owned(), 3)),
        }),
        Event::Retry(Retry {
            at,
            worker,
            request: REQUEST,
        }),
        Event::Retransmit(Retransmit {
            at,
            worker,
            socket: 5,
            remote: "127.0.0.1:3000".parse().unwrap(),
            count: 1,
        }),
        Event::FirstByte(Box::new(FirstByte {
            server_port: None,
            local: None,
            at,
            worker,
            socket: 5,
            request: REQUEST,
            remote: Some(Upstream::Inet("[fe80::1%2]:80".parse().unwrap())),
            status: Some(200),
            start: Time(18),
            connection: Some(4),
            client: Some("192.0.2.1:5000".parse().unwrap()),
            head: head(),
            names: None,
            client_request: Some(CLIENTS),
        })),
        Event::LogLine(LogLine {
            at,
            pid: 3,
            connection: 4,
            message: "connect() failed (111: Connection refused)".to_owned(),
            client: text("192.0.2.1"),
            host: text("shop.test"),
            request: text("GET /a HTTP/1.1"),
            upstream: text("http://127.0.0.1:3000/a"),
            server: None,
            workers: None,
        }),
        Event::Dns(Dns {
            at,
            worker,
            server: "127.0.0.53:53".parse().unwrap(),
            over_tcp: true,
            step: DnsStep::Answered {
                rcode: 3,
                answers: 0,
            },
            id: 1,
            name: "db.test".to_owned(),
        }),
        Event::Dns(Dns {
            at,
            worker,
            server: "127.0.0.53:53".parse().unwrap(),
            over_tcp: true,
            step: DnsStep::Failed { errno: 111 },
            id: 1,
            name: "db.test".to_owned(),
        }),
        Event::Dns(Dns {
            at,
            worker,
            server: "127.0.0.53:53".parse().unwrap(),
            over_tcp: true,
            step: DnsStep::Asked,
            id: 1,
            name: "db.test".to_owned(),
        }),
    ]
}

fn host() -> Vec<Event> {
    let (at, pid) = (Time(21), 7);
    let process = |kind| Event::Process(Process { at, pid, kind });
    vec![
        Event::Worker(Worker {
            at,
            pid,
            own_pid: 3,
            master: 1,
            uid: 33,
            gid: 33,
            netns: 1,
            unit: text("nginx.service"),
            version: text("nginx/1.22.1"),
            conf: None,
        }),
        process(ProcessKind::Forked { master: 1 }),
        process(ProcessKind::Executed),
        process(ProcessKind::Exited { code: 11 }),
        Event::PeerClosed(Box::new(PeerClosed {
            translated: false,
            signal: None,
            at,
            local: "127.0.0.1:40000".parse().unwrap(),
            remote: "127.0.0.1:3000".parse().unwrap(),
            netns: 0,
            unread: 0,
            pid: 9,
            name: "app".to_owned(),
            parent: 8,
            reset: text("TCP_STATE"),
            death: Some(death()),
        })),
        Event::Death(Box::new(death())),
        Event::Icmp(Icmp {
            at,
            netns: 1,
            kind: 3,
            code: 1,
            sender: "192.0.2.9".parse().unwrap(),
            source: "127.0.0.1:40000".parse().unwrap(),
            destination: "127.0.0.1:3000".parse().unwrap(),
        }),
        Event::Lost(Lost {
            at,
            events: 3,
            ..Lost::default()
        }),
        Event::Hooks(Hooks {
            at,
            absent: vec!["route".to_owned()],
        }),
        Event::Tick(Time(22)),
    ]
}

/// All that are written as rows.
pub(super) fn rows() -> Vec<Event> {
    let mut events = nginx();
    events.extend(facts());
    events.extend(host());
    events.push(Event::Connection(Box::new(dropped())));
    events
}

/// All of them: rows, connections in columns, ticks.
pub(super) fn all() -> Vec<Event> {
    let mut events = rows();
    let mut other = healthy();
    other.remote = Upstream::Unix("/run/app.sock".to_owned());
    other.local = None;
    other.request = None;
    for (index, event) in [healthy(), other].into_iter().enumerate() {
        events.push(Event::Connection(Box::new(event)));
        events.push(Event::Tick(Time(5_020_000_000 + index as u64 * 20_000_000)));
    }
    events
}
