//! What a reader refuses, and that nothing a live run writes is among it.

use proptest::prelude::*;
use serde_json::json;
use tracer_ebpf::abi;

use super::{file, header, read};
use crate::{
    capture::{
        file::{File, Framed},
        frame,
        header::{Header, Nginx},
        page::{self, Page},
        rows::{self, Unread},
    },
    event::{
        Event, Fact, Failure, LogLine, Question, RequestId, RouteLookup, Time, Upstream, decode,
        fact::{Finding, Listener, ListenerView, Owner},
    },
};

proptest! {
    /// Also where every text of it is full, of bytes that grow in the file: no UTF-8, or escaped.
    #[test]
    fn whatever_the_kernel_side_writes_is_read(fill in prop::sample::select(vec![0xff, 1, b'"', b'A']), tag in 0..64u16) {
        let mut record = vec![fill; 8192];
        record[..2].copy_from_slice(&tag.to_ne_bytes());
        record[2..4].copy_from_slice(&8192u16.to_ne_bytes());
        if let Ok(event) = decode::record(&record, &decode::KernelNames::default()) {
            let read = read(&file(&[std::slice::from_ref(&event)])).unwrap();
            prop_assert!(read.damage.is_none(), "{:?}: {event:?}", read.damage);
            prop_assert_eq!(read.events, [event]);
        }
    }
}

#[test]
fn the_longest_path_and_the_fullest_answer_are_read() {
    let path = format!("@{}", "\u{fffd}".repeat(abi::SOCKADDR_LEN));
    let failure = Event::Failure(Failure {
        start: Time(1),
        at: Time(2),
        worker: 7,
        request: RequestId(5),
        upstream: Some(Upstream::Unix(path)),
        source: None,
        block: None,
        code: -1,
        errno: 2,
        syn_sent: false,
        routes: RouteLookup::default(),
    });
    let owner = Owner {
        is_left: false,
        descriptors: None,
        pid: 1,
        name: "\u{fffd}".repeat(abi::COMM_LEN),
        since: Time(0),
        unit: Some("u".repeat(255)),
    };
    let listener = Listener {
        others: Vec::new(),
        address: None,
        v6_only: false,
        queue: 0,
        limit: 0,
        owner: Some(owner.clone()),
    };
    // As many as the host's answer holds, see `source::host::listener`.
    let view = ListenerView {
        exact: vec![listener.clone(); 64],
        same_port: vec![listener.clone(); 64],
        bound: vec![owner; 64],
        nearby: vec![listener; 5],
        ..ListenerView::default()
    };
    let fact = Event::Fact(Box::new(Fact {
        at: Time(3),
        question: Question::Listener {
            worker: 7,
            address: ([127, 0, 0, 1], 80).into(),
        },
        finding: Ok(Finding::Listener(view)),
    }));
    let line = Event::LogLine(LogLine {
        message: "\x1b".repeat(64 << 10),
        ..LogLine::default()
    });
    let read = read(&file(&[&[failure.clone(), fact.clone(), line]])).unwrap();
    assert!(read.damage.is_none(), "{:?}", read.damage);
    assert_eq!(read.events[..2], [failure, fact]);
    // nginx writes 2 KiB; the rest is another's.
    assert!(matches!(&read.events[2], Event::LogLine(line) if line.message == "\x1b".repeat(4096)));
}

#[test]
fn a_row_of_more_than_that_is_damaged() {
    let call = |text: usize| {
        json!({
            "at": 20, "worker": 7, "level": 4, "errno": 111, "connection": 4, "request": 5, "stream": false,
            "format": "connect() failed", "resolved": null, "text": "A".repeat(text),
        })
    };
    let hooks = |count: usize| json!({"at": 1, "absent": vec![""; count]});
    let read = |kind, row: serde_json::Value| rows::read(kind, row.to_string().as_bytes());
    for (kind, fits, exceeds) in [
        (rows::kind::LOG_CALL, call(2000), call(2048)),
        (rows::kind::HOOKS, hooks(2000), hooks(3000)),
        (rows::kind::HOOKS, hooks(2000), hooks(200_000)),
    ] {
        assert!(read(kind, fits).is_ok());
        assert!(matches!(read(kind, exceeds), Err(Unread::Damaged)));
    }
}

#[test]
fn a_page_has_no_more_events_and_texts_than_a_live_one() {
    let open = |events, texts: u64, length: usize| {
        let mut section = vec![];
        crate::capture::cells::put(&mut section, 0);
        crate::capture::cells::put(&mut section, texts);
        for _ in 0..texts {
            crate::capture::cells::put(&mut section, length as u64);
            section.extend(vec![b'a'; length]);
        }
        let mut payload = vec![2];
        crate::capture::cells::put(&mut payload, section.len() as u64);
        payload.extend(section);
        page::Reader::open(payload, events).is_some()
    };
    assert!(open(1 << 18, 1 << 16, 1) && open(1, 1, 512));
    assert!(!open((1 << 18) + 1, 1, 1));
    assert!(!open(1, (1 << 16) + 1, 1));
    assert!(!open(1, 1, 513));
}

#[test]
fn more_events_than_any_stream_packs_into_so_few_bytes_are_missing() {
    let ticks = |count: u64| -> Vec<Event> {
        let times = (0..count).map(|tick| Time(tick * 20_000_000));
        times.map(Event::Tick).collect()
    };
    // A minute of nothing.
    let minute = read(&file(&[&ticks(3000)])).unwrap();
    assert!(minute.damage.is_none() && minute.events.len() == 3000);
    let many = read(&file(&[&ticks(16_000)])).unwrap();
    assert_eq!((many.events.len(), many.damage.missing_events), (0, 16_000));
}

#[test]
fn a_header_s_lists_are_as_long_as_a_host_s() {
    let mut long = header();
    long.nginx = vec![Nginx::default(); 5000];
    long.command = vec![String::new(); 5000];
    let mut bytes = Vec::new();
    long.write(&mut bytes).unwrap();
    let (read, _) = Header::read(&mut bytes.as_slice()).unwrap();
    assert_eq!((read.nginx.len(), read.command.len()), (1024, 1024));
}

#[test]
fn the_end_of_a_file_of_many_frames_is_no_larger_than_a_reader_takes() {
    let mut bytes = Vec::new();
    let mut file = File::begin(&mut bytes, &header()).unwrap();
    let page = Page {
        events: 1000,
        times: (Time(u64::MAX / 2), Time(u64::MAX / 2)),
        payload: Vec::new(),
    };
    let frames = 300_000u64;
    let mut framed = Framed::events(&page, 0).unwrap();
    framed.bytes.clear();
    for frame in 0..frames {
        let entry = framed.entry.as_mut().unwrap();
        entry.sequence = (1 << 40) + frame * 1000;
        file.write(&framed).unwrap();
    }
    let at = file.written() as usize;
    file.end(Some(Time(9))).unwrap();
    let frame::Found::Head(head) = frame::head(&bytes[at..]) else {
        panic!("the end is no frame");
    };
    assert_eq!(head.sequence, (1 << 40) + frames * 1000);
}
