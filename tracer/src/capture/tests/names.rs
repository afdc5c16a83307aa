//! The names in the rows are the file's contract, and the documentation is the program's.

use super::{examples, file, read};
use crate::capture::{
    connections,
    rows::{self, Unread},
};
use crate::event::{
    Event, Fact, LogLine, Lost, Notice, Question, Signal, Skipped, Strain, Time,
    fact::{
        Finding, Inode, Inside, Listener, ListenerView, Owner, PathKind, SilentNeighbor,
        UnixPathView,
    },
};

const GOLDEN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/golden/capture-rows.jsonl"
);
const DOCUMENTED: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../docs/capture-format.md"
));
/// A capture of format 1.0, as it was written then.
const FIRST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/capture-1.0.trc");

fn written() -> String {
    let mut text = String::new();
    for event in examples::rows().into_iter().chain(examples::later()) {
        let mut row = Vec::new();
        let kind = rows::write(&event, &mut row).unwrap();
        text += &format!("{kind} {}\n", String::from_utf8(row).unwrap());
    }
    text
}

#[test]
fn the_rows_have_the_names_that_they_always_had() {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(GOLDEN, written()).unwrap();
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap();
    assert_eq!(
        written(),
        golden,
        "members may be added (with a default): then BLESS=1; none may go or change its name"
    );
}

#[test]
fn the_documentation_has_every_kind_and_column() {
    let (_, pages) = DOCUMENTED.split_once("## Pages").unwrap();
    let (kinds, columns) = pages.split_once("### Connections").unwrap();
    for row in written().lines() {
        let (kind, _) = row.split_once(' ').unwrap();
        assert!(kinds.contains(&format!("| {kind} | ")), "kind {kind}");
    }
    for column in 1..connections::COLUMNS {
        assert!(columns.contains(&format!("| {column} ")), "column {column}");
    }
}

#[test]
fn what_a_later_version_says_anew_is_unknown_and_not_damaged() {
    let row = |row: &str| rows::read(rows::kind::PROCESS, row.as_bytes());
    let known = r#"{"at":21,"pid":7,"kind":"Executed"}"#;
    assert!(row(known).is_ok());
    let new = known.replace("Executed", "Frozen");
    assert!(matches!(row(&new), Err(Unread::Unknown)), "{new}");
    let cut = &known[..20];
    assert!(matches!(row(cut), Err(Unread::Damaged)), "{cut}");
}

#[test]
fn a_capture_of_the_first_version_is_read() {
    if std::env::var_os("BLESS").is_some() && !std::path::Path::new(FIRST).exists() {
        std::fs::write(FIRST, file(&[&examples::all()])).unwrap();
    }
    let bytes = std::fs::read(FIRST).unwrap();
    let read = read(&bytes).unwrap();
    assert!(read.damage.is_none(), "{:?}", read.damage);
    assert_eq!(read.events, examples::all());
}

#[test]
fn what_the_kernel_skipped_is_kept() {
    let row = br#"{"at":21,"events":0,"skipped":[{"hook":"sent","runs":2,"since":20}]}"#;
    let skipped = Skipped {
        hook: "sent".to_owned(),
        runs: 2,
        since: Time(20),
    };
    let lost = Event::Lost(Lost {
        at: Time(21),
        skipped: vec![skipped],
        ..Lost::default()
    });
    assert!(matches!(rows::read(rows::kind::LOST, row), Ok(event) if event == lost));
    let events = [lost, Event::Tick(Time(22))];
    assert_eq!(read(&file(&[&events])).unwrap().events, events);
}

#[test]
fn where_an_address_is_is_kept() {
    let container = Owner {
        pid: 42,
        name: "app".to_owned(),
        since: Time(3),
        unit: Some("1f0c".to_owned()),
        descriptors: None,
        is_left: false,
    };
    let events = [
        Event::Fact(Box::new(Fact {
            at: Time(21),
            question: Question::Listener {
                worker: 7,
                address: "10.0.0.9:80".parse().unwrap(),
            },
            finding: Ok(Finding::Listener(ListenerView {
                silent_neighbor: Some(SilentNeighbor {
                    address: "10.0.0.9".parse().unwrap(),
                    source: "10.0.0.1".parse().unwrap(),
                }),
                container: Some(container),
                translated: "10.88.0.2:8080".parse().ok(),
                unclear: true,
                ..ListenerView::default()
            })),
        })),
        Event::Tick(Time(22)),
    ];
    assert_eq!(read(&file(&[&events])).unwrap().events, events);
}

#[test]
fn who_asked_a_backend_to_stop_is_kept() {
    let order = Signal {
        number: 12,
        code: 0,
        sender: 2,
        sender_name: "kill".to_owned(),
        at: Time(14),
        before: None,
    };
    let signal = Some(Signal {
        number: 15,
        before: Some(Box::new(order.clone())),
        ..order
    });
    let mut events = examples::all();
    let mut members = 0;
    for event in &mut events {
        match event {
            Event::PeerClosed(closed) => {
                closed.signal.clone_from(&signal);
                members += 1;
            }
            Event::Connection(connection) => {
                if let Some(holder) = &mut connection.holder {
                    holder.signal.clone_from(&signal);
                    members += 1;
                }
            }
            _ => {}
        }
    }
    assert_eq!(members, 2);
    assert_eq!(read(&file(&[&events])).unwrap().events, events);
}

#[test]
fn who_shares_a_listener_is_kept() {
    let owner = Owner {
        pid: 9,
        name: "app".to_owned(),
        since: Time(1),
        unit: None,
        descriptors: Some((1024, 1024)),
        is_left: true,
    };
    let listener = Listener {
        address: None,
        v6_only: false,
        queue: 1,
        limit: 128,
        owner: Some(owner.clone()),
        others: vec![owner],
    };
    let events = [
        Event::Fact(Box::new(Fact {
            at: Time(21),
            question: Question::Listener {
                worker: 7,
                address: "10.0.0.9:80".parse().unwrap(),
            },
            finding: Ok(Finding::Listener(ListenerView {
                exact: vec![listener],
                ..ListenerView::default()
            })),
        })),
        Event::Tick(Time(22)),
    ];
    assert_eq!(read(&file(&[&events])).unwrap().events, events);
}

#[test]
fn what_was_left_out_is_kept_beside_what_was_lost() {
    let row = br#"{"at":21,"events":3,"healthy":20,"bare":7,"unexplained":5}"#;
    let lost = Event::Lost(Lost {
        at: Time(21),
        events: 3,
        healthy: 20,
        bare: 7,
        unexplained: 5,
        skipped: Vec::new(),
    });
    assert!(matches!(rows::read(rows::kind::LOST, row), Ok(event) if event == lost));
    let events = [lost, Event::Tick(Time(22))];
    assert_eq!(read(&file(&[&events])).unwrap().events, events);
}

#[test]
fn whose_a_log_line_may_be_is_kept() {
    let line = br#"{"at":21,"pid":3,"connection":4,"message":"x","client":null,"host":null,"request":null,"upstream":null,"workers":[7,8]}"#;
    let expected = Event::LogLine(LogLine {
        at: Time(21),
        pid: 3,
        connection: 4,
        message: "x".to_owned(),
        workers: Some(vec![7, 8]),
        ..LogLine::default()
    });
    assert!(matches!(rows::read(rows::kind::LOG_LINE, line), Ok(event) if event == expected));
    let strains = [Strain::LogSkipped { bytes: 1 << 20 }, Strain::LogStalled];
    let notices = strains.map(|strain| {
        Event::Notice(Notice {
            at: Time(21),
            pid: 7,
            strain,
            is_over: false,
        })
    });
    let mut events = vec![expected];
    events.extend(notices);
    events.push(Event::Tick(Time(22)));
    assert_eq!(read(&file(&[&events])).unwrap().events, events);
}

#[test]
fn what_a_user_namespace_numbers_is_kept() {
    let row = br#"{"at":21,"question":{"UnixPath":{"worker":7,"path":"/a"}},"finding":{"Ok":{"UnixPath":{"kind":"Socket",
        "file":null,"missing":null,"blocked":{"path":"/a","mode":384,"uid":100000,"gid":0,"user":"root","group":null,
        "inside":{"uid":0,"gid":null}},"listener":null,"worker_uid":100033,"worker_gid":100033,"worker_user":"www-data",
        "worker_group":"www-data","worker_inside":{"uid":33,"gid":33},"somaxconn":null}}}}"#;
    let view = UnixPathView {
        unseen: None,
        kind: PathKind::Socket,
        file: None,
        missing: None,
        blocked: Some(Inode {
            path: "/a".to_owned(),
            mode: 0o600,
            uid: 100_000,
            gid: 0,
            user: Some("root".to_owned()),
            group: None,
            inside: Some(Inside {
                uid: Some(0),
                gid: None,
            }),
        }),
        listener: None,
        worker_uid: 100_033,
        worker_gid: 100_033,
        worker_user: Some("www-data".to_owned()),
        worker_group: Some("www-data".to_owned()),
        worker_inside: Some(Inside {
            uid: Some(33),
            gid: Some(33),
        }),
        somaxconn: None,
    };
    let fact = Event::Fact(Box::new(Fact {
        at: Time(21),
        question: Question::UnixPath {
            worker: 7,
            path: "/a".to_owned(),
        },
        finding: Ok(Finding::UnixPath(Box::new(view))),
    }));
    assert!(matches!(rows::read(rows::kind::FACT, row), Ok(event) if event == fact));
    let events = [fact, Event::Tick(Time(22))];
    assert_eq!(read(&file(&[&events])).unwrap().events, events);
}
