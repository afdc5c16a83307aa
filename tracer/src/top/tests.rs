//! Counts, keys and the picture, at both ends of usual sizes.

use std::{net::SocketAddr, path::Path, sync::Arc};

use jiff::tz::TimeZone;
use ratatui::{Terminal, backend::TestBackend, style::Color};

use super::{
    keys::{Key, Keys},
    model::Model,
    snapshot::Snapshot,
    state::{Focus, State, Wish},
    view::{Look, draw, sparkline},
};
use crate::{
    engine::{Played, Replay},
    event::{Clock, Connection, Event, Fact, Question, Time, Upstream, fact},
    verdict::{AttemptVerdict, Confidence, Evidence, Request, Verdict},
};

const SECOND: u64 = 1_000_000_000;
/// 2026-11-20T10:15:23Z is second 1000 since boot.
const CLOCK: Clock = Clock {
    boot: 1000 * SECOND,
    wall: 1_795_169_723_000_000_000,
};

fn at(seconds: u64) -> Time {
    Time((1000 + seconds) * SECOND)
}

fn verdict(seconds: u64, cause: &'static str, upstream: &str) -> Verdict {
    let time = at(seconds);
    Verdict {
        time,
        status: Some(502),
        masked: false,
        cause,
        confidence: Confidence::Proven,
        worker: 7,
        unit: None,
        connection: Some(seconds),
        request: Some(Request {
            line: Some(format!("GET /{seconds} HTTP/1.1")),
            ..Request::default()
        }),
        upstream: Some(upstream.to_owned()),
        upstream_name: None,
        errno: None,
        attempts: vec![AttemptVerdict {
            upstream: Some(upstream.to_owned()),
            cause: Some(cause),
            errno: None,
            reused: false,
            start: time,
            end: time,
        }],
        summary: format!("nothing listens on {upstream}"),
        evidence: vec![Evidence {
            time: Some(time),
            event: "connect",
            text: "worker 7 connects".to_owned(),
        }],
        advice: vec!["start the backend".to_owned()],
        lost_events: 0,
    }
}

/// A connection of the committed capture, as another.
fn connection(seconds: u64, upstream: &str, reuses: u32, first_byte_ms: Option<u64>) -> Event {
    let mut connection = one_of_the_capture();
    let remote: SocketAddr = upstream.parse().expect("an address");
    connection.remote = Upstream::Inet(remote);
    connection.start = at(seconds);
    connection.closed = at(seconds).plus(SECOND / 2);
    connection.reused_at = None;
    connection.reuses = reuses;
    connection.open = false;
    connection.first_byte = first_byte_ms.map(|ms| at(seconds).plus(ms * 1_000_000));
    Event::Connection(connection)
}

fn one_of_the_capture() -> Box<Connection> {
    let mut found = None;
    play(|event| {
        if let Event::Connection(connection) = event
            && connection.request.is_some()
        {
            found = Some(connection.clone());
        }
    });
    found.expect("a connection")
}

fn play(mut take: impl FnMut(&Event)) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/capture-1.0.trc");
    let mut replay = Replay::open([path]).expect("a capture");
    let mut step = |_: &_, played: Played<'_>| {
        if let Played::Event(event) = played {
            take(event);
        }
        Ok(())
    };
    while replay.step(&mut step).expect("it is read") {}
}

fn queue(address: &str, queue: u32, limit: u32) -> Event {
    let address: SocketAddr = address.parse().expect("an address");
    let listener = fact::Listener {
        others: Vec::new(),
        address: Some(address),
        v6_only: false,
        queue,
        limit,
        owner: None,
    };
    let view = fact::ListenerView {
        exact: vec![listener],
        ..fact::ListenerView::default()
    };
    Event::Fact(Box::new(Fact {
        at: at(3),
        question: Question::Listener { worker: 7, address },
        finding: Ok(fact::Finding::Listener(view)),
    }))
}

fn model(is_live: bool) -> Model {
    let mut model = Model::new(is_live);
    let host: Arc<str> = Arc::from("web1");
    model.event(&Event::Tick(at(0)), &CLOCK);
    for seconds in 0..10 {
        let healthy = connection(seconds, "10.0.0.1:80", 1, Some(1 + seconds));
        model.event(&healthy, &CLOCK);
        model.event(&connection(seconds, "127.0.0.1:3000", 0, None), &CLOCK);
    }
    for seconds in [2, 4, 6] {
        model.verdict(
            &verdict(seconds, "no-listener", "127.0.0.1:3000"),
            &host,
            &CLOCK,
        );
    }
    model.event(&queue("10.0.0.1:80", 129, 128), &CLOCK);
    model.event(&queue("10.0.0.1:80", 5, 128), &CLOCK);
    model.notice("nginx's listen queue overflows".to_owned());
    model
}

#[test]
fn upstreams_are_in_the_order_of_their_failures() {
    for is_live in [true, false] {
        let shown = model(is_live).snapshot();
        let rows: Vec<_> = shown
            .upstreams
            .iter()
            .map(|row| {
                (
                    row.upstream.as_str(),
                    row.attempts,
                    row.failed,
                    row.failed_share,
                )
            })
            .collect();
        assert_eq!(
            rows,
            [
                ("127.0.0.1:3000", 10, 3, Some(0.3)),
                ("10.0.0.1:80", 20, 0, Some(0.0)),
            ]
        );
        assert_eq!(
            (shown.attempts, shown.failed_attempts, shown.failed_requests),
            (30, 3, 3)
        );
        let causes: Vec<_> = shown
            .causes
            .iter()
            .map(|row| (row.cause, row.count))
            .collect();
        assert_eq!(causes, [("no-listener", 3)]);
        let healthy = &shown.upstreams[1];
        assert!((9.0..12.0).contains(&healthy.first_byte_p99_ms.expect("a latency")));
        assert!(healthy.first_byte_p95_ms.iter().flatten().count() >= 10);
    }
}

#[test]
fn a_queue_is_shown_as_it_is_and_as_it_was_at_its_fullest() {
    let shown = model(true).snapshot();
    let [queue] = shown.queues.as_slice() else {
        panic!("{:?}", shown.queues);
    };
    assert_eq!(queue.listener, "10.0.0.1:80");
    assert_eq!((queue.queue, queue.limit, queue.fullest), (5, 128, 129));
}

#[test]
fn a_live_picture_is_of_the_last_minute_and_a_captures_of_all() {
    let (mut live, mut capture) = (model(true), model(false));
    for model in [&mut live, &mut capture] {
        model.event(&Event::Tick(at(65)), &CLOCK);
    }
    let (live, capture) = (live.snapshot(), capture.snapshot());
    assert_eq!(
        (live.attempts, live.failed_attempts, live.failed_requests),
        (12, 1, 3)
    );
    assert_eq!((capture.attempts, capture.failed_attempts), (30, 3));
    assert!((live.window_seconds - 60.0).abs() < 0.1);
    assert!((capture.window_seconds - 65.0).abs() < 0.1);
    let mut model = model(true);
    model.event(&Event::Tick(at(1000)), &CLOCK);
    let quiet = model.snapshot();
    assert!(quiet.upstreams.is_empty() && quiet.causes.is_empty());
    assert_eq!(quiet.verdicts.len(), 3);
}

#[test]
fn memory_does_not_grow_with_what_comes() {
    let mut model = Model::new(true);
    let host: Arc<str> = Arc::from("web1");
    for number in 0..2000u64 {
        let upstream = format!("10.0.{}.{}:80", number / 250, number % 250);
        model.verdict(
            &verdict(number / 100, "no-listener", &upstream),
            &host,
            &CLOCK,
        );
        model.event(&queue(&upstream, 1, 2), &CLOCK);
        model.notice(format!("notice {number}"));
    }
    assert!(model.upstreams.len() <= 512 && model.queues.len() <= 128);
    assert!(model.verdicts.len() <= 200 && model.notices.len() <= 10);
    let shown = model.snapshot();
    assert_eq!(shown.upstreams.len(), 100);
    assert_eq!(shown.more_upstreams, 412);
}

#[test]
fn listeners_of_upstreams_in_use_are_asked_about() {
    let model = model(true);
    let asked = model.questions(CLOCK.unix_nanos(at(10)));
    let address = "10.0.0.1:80".parse().expect("an address");
    let worker = one_of_the_capture().worker;
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0], Question::Listener { worker, address });
    assert!(model.questions(CLOCK.unix_nanos(at(60))).is_empty());
}

#[test]
fn the_object_has_the_names_of_the_contract() {
    let shown = model(true).snapshot();
    let mut out = Vec::new();
    shown.json(&mut out).expect("memory");
    let object: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
    let mut names: Vec<&str> = object
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "attempts",
            "causes",
            "failed_attempts",
            "failed_requests",
            "kind",
            "lost_events",
            "masked_requests",
            "more_upstreams",
            "notices",
            "queues",
            "since",
            "source",
            "time",
            "upstreams",
            "verdicts",
            "window_seconds"
        ]
    );
    assert_eq!(object["since"], "2026-11-20T10:15:23.000Z");
    assert_eq!(object["verdicts"][0]["cause"], "no-listener");
    assert_eq!(object["verdicts"][0]["host"], "web1");
}

#[test]
fn keys_come_in_one_piece_or_several_at_once() {
    let read = |bytes: &[u8]| Keys::default().read(bytes);
    assert_eq!(
        read(b"\x1b[A\x1bOB\x1b[5~j"),
        [Key::Up, Key::Down, Key::PageUp, Key::Down]
    );
    assert_eq!(read(b"\x1b"), [Key::Back]);
    assert_eq!(read(b"\r\tq"), [Key::Enter, Key::Switch, Key::Quit]);
    assert_eq!(read(b"\x03"), [Key::Quit]);
    // A mouse, a paste, a focus, letters: nothing.
    assert_eq!(read(b"\x1b[<0;1;1M\x1b[200~xyz\x1b[I"), []);
    assert_eq!(read(b"\x1b["), []);
}

fn screen(
    shown: &Snapshot,
    state: &mut State,
    (width, height): (u16, u16),
    color: bool,
) -> (String, Vec<Color>) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("memory");
    let look = Look {
        color,
        zone: TimeZone::UTC,
        title: "live: 2 workers of nginx 1.22.1 (master 812)".to_owned(),
    };
    let drawn = terminal
        .draw(|frame| draw(frame, shown, state, &look))
        .expect("memory");
    let mut page = String::new();
    for row in drawn.buffer.content().chunks(usize::from(width).max(1)) {
        let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        page.push_str(line.trim_end());
        page.push('\n');
    }
    let cells = drawn.buffer.content().iter();
    (page, cells.flat_map(|cell| [cell.fg, cell.bg]).collect())
}

/// Compared with the committed picture; `BLESS=1` writes it.
fn golden(name: &str, is: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, is).expect("the golden file is writable");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(is, expected, "{name}: BLESS=1 cargo test -p tracer");
}

const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (200, 50);

#[test]
fn all_of_it_fits_both_sizes() {
    let shown = model(true).snapshot();
    for (size, name) in [(SMALL, "top-80x24.txt"), (LARGE, "top-200x50.txt")] {
        let (page, _) = screen(&shown, &mut State::default(), size, true);
        for part in [
            "no-listener",
            "127.0.0.1:3000",
            "30.0 %",
            "5 of 128",
            "129 of 128",
            "GET /6",
            "q quit",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        golden(name, &page);
    }
}

#[test]
fn enter_opens_a_verdict_and_escape_goes_back() {
    let shown = model(true).snapshot();
    let mut state = State::default();
    let before = screen(&shown, &mut state, SMALL, false).0;
    assert_eq!(state.take(b"\x1b[B\r", &shown), Wish::Draw);
    let (page, _) = screen(&shown, &mut state, SMALL, false);
    for part in [
        "GET /4",
        "no-listener, proven",
        "worker 7 connects",
        "fix  start the backend",
        "Esc back",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    golden("top-verdict.txt", &page);
    state.take(b"\x1b", &shown);
    state.take(b"\x1b[H", &shown);
    assert_eq!(screen(&shown, &mut state, SMALL, false).0, before);
    // Of an upstream: its newest verdict.
    state.take(b"\t\r", &shown);
    assert_eq!(state.focus, Focus::Upstreams);
    assert!(
        screen(&shown, &mut state, SMALL, false)
            .0
            .contains("GET /6")
    );
    assert_eq!(state.take(b"q", &shown), Wish::Quit);
}

#[test]
fn the_selection_stays_with_its_verdict() {
    let mut model = model(true);
    let mut state = State::default();
    let shown = model.snapshot();
    state.take(b"j", &shown);
    let selected = |state: &State, shown: &Snapshot| {
        shown.verdicts[state.selected_verdict(shown)]
            .verdict
            .connection
    };
    assert_eq!(selected(&state, &shown), Some(4));
    model.verdict(
        &verdict(8, "syn-timeout", "10.0.0.9:1"),
        &Arc::from("web1"),
        &CLOCK,
    );
    let later = model.snapshot();
    assert_eq!(selected(&state, &later), Some(4));
    state.take(b"g", &later);
    assert_eq!(selected(&state, &later), Some(8));
    state.take(b"GGjj", &later);
    assert_eq!(selected(&state, &later), Some(2));
}

#[test]
fn only_the_terminals_own_colours_are_used_and_none_if_so_asked() {
    let shown = model(true).snapshot();
    let own = [Color::Reset, Color::Red, Color::Green, Color::Yellow];
    let (_, colors) = screen(&shown, &mut State::default(), SMALL, true);
    assert!(colors.iter().all(|color| own.contains(color)));
    assert!(colors.contains(&Color::Red));
    let (_, colors) = screen(&shown, &mut State::default(), SMALL, false);
    assert!(colors.iter().all(|color| *color == Color::Reset));
}

#[test]
fn no_size_and_nothing_to_show_make_it_fail() {
    let full = model(true).snapshot();
    let empty = Model::new(true).snapshot();
    for shown in [&full, &empty] {
        for size in [
            (1, 1),
            (0, 0),
            (39, 24),
            (80, 9),
            (80, 10),
            (500, 3),
            (41, 11),
        ] {
            for keys in [&b""[..], b"\r", b"\t\r", b"\x1b[6~\r\x1b[6~\x1b[F"] {
                let mut state = State::default();
                screen(shown, &mut state, size, true);
                state.take(keys, shown);
                screen(shown, &mut state, size, true);
            }
        }
    }
    let (page, _) = screen(&empty, &mut State::default(), SMALL, true);
    assert!(
        page.contains("no verdict so far") && page.contains("no attempt in this time"),
        "{page}"
    );
}

#[test]
fn words_of_others_are_shown_not_obeyed() {
    let mut model = Model::new(true);
    let mut hostile = verdict(1, "no-listener", "unix:/a\x1b[2J\u{202e}b");
    hostile.request = Some(Request {
        line: Some("GET /\x1b]0;x\x07 HTTP/1.1".to_owned()),
        ..Request::default()
    });
    model.verdict(&hostile, &Arc::from("web1"), &CLOCK);
    model.notice("\x1b[31m".to_owned());
    let shown = model.snapshot();
    let mut state = State::default();
    for keys in [&b""[..], b"\r"] {
        state.take(keys, &shown);
        let (page, _) = screen(&shown, &mut state, LARGE, true);
        assert!(!page.contains(['\x1b', '\x07', '\u{202e}']), "{page}");
        assert!(page.contains("\\x1b"), "{page}");
    }
    let mut out = Vec::new();
    shown.json(&mut out).expect("memory");
    assert!(out.is_ascii() && !out.contains(&0x1b));
}

#[test]
fn a_sparkline_has_the_newest_at_the_right() {
    assert_eq!(sparkline(&[Some(1.0), None, Some(8.0)], 5), "  ▂ █");
    assert_eq!(sparkline(&[Some(0.0)], 2), " ▁");
    let many: Vec<Option<f64>> = (0..60).map(|n| Some(f64::from(n))).collect();
    assert_eq!(sparkline(&many, 9).chars().count(), 9);
    assert_eq!(sparkline(&[], 3), "   ");
}
