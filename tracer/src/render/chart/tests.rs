//! Every chart, in both sizes, of very different captures: readable, whole, harmless.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{
    drawing::{Anchor, Label, Rect, Shape},
    *,
};
use crate::{
    event::{
        Clock, Connection, Event, Fact, Question, RequestId, Time, Upstream,
        fact::{Finding, Listener, ListenerView},
    },
    verdict::{AttemptVerdict, Confidence, Verdict},
};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
/// Second 0 since boot is 2026-11-20T10:00:00Z.
const CLOCK: Clock = Clock {
    boot: 0,
    wall: 1_795_168_800 * SECOND,
};

/// The stream of a made-up run.
#[derive(Default)]
struct Run {
    series: Series,
    /// Changes with each use: durations and times that differ.
    dice: u64,
}

impl Run {
    fn roll(&mut self, sides: u64) -> u64 {
        self.dice = self
            .dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 13) % sides.max(1)
    }

    fn upstream(n: u64) -> Upstream {
        let [_, _, high, low] = (n as u32).to_be_bytes();
        Upstream::Inet(SocketAddr::new(
            IpAddr::V4(Ipv4Addr::new(10, 0, high, low)),
            8080,
        ))
    }

    fn connection(&mut self, remote: Upstream, start: u64) -> Connection {
        let took = 40_000 + self.roll(200_000);
        let answered = took + MS + self.roll(80) * MS;
        Connection {
            request: Some(RequestId(1)),
            start: Time(start),
            established: Some(Time(start + took)),
            first_byte: Some(Time(start + answered)),
            bytes_received: 200,
            closed: Time(start + answered + MS),
            ..blank(remote)
        }
    }

    fn serve(&mut self, remote: Upstream, start: u64) {
        let connection = self.connection(remote, start);
        self.series
            .event(&Event::Connection(Box::new(connection)), &CLOCK);
    }

    fn refuse(&mut self, remote: Upstream, start: u64, cause: &'static str) {
        let connection = Connection {
            established: None,
            first_byte: None,
            bytes_received: 0,
            rst_received: Some(Time(start + 50_000)),
            rst_in_syn_sent: true,
            closed: Time(start + 60_000),
            ..self.connection(remote.clone(), start)
        };
        self.series
            .event(&Event::Connection(Box::new(connection)), &CLOCK);
        self.series
            .verdict(&verdict(cause, start + 70_000, &remote.to_string()), &CLOCK);
    }

    fn reuse(&mut self, remote: Upstream, at: u64, idle: u64, raced: bool) {
        let served = self.connection(remote.clone(), at.saturating_sub(idle + SECOND));
        let connection = Connection {
            reuses: 1,
            reused_at: Some(Time(at)),
            idle: Some(idle),
            first_byte: (!raced).then_some(Time(at + 2 * MS)),
            fin_received: raced.then_some(Time(at)),
            closed: Time(at + 3 * MS),
            ..served
        };
        self.series
            .event(&Event::Connection(Box::new(connection)), &CLOCK);
        if raced {
            self.series
                .verdict(&verdict("keepalive-race", at, &remote.to_string()), &CLOCK);
        }
    }

    fn queue(&mut self, address: SocketAddr, at: u64, queue: u32, limit: u32) {
        let listener = Listener {
            others: Vec::new(),
            address: Some(address),
            v6_only: false,
            queue,
            limit,
            owner: None,
        };
        let view = ListenerView {
            exact: vec![listener],
            ..ListenerView::default()
        };
        let question = Question::Listener { worker: 7, address };
        let fact = Fact {
            at: Time(at),
            question,
            finding: Ok(Finding::Listener(view)),
        };
        self.series.event(&Event::Fact(Box::new(fact)), &CLOCK);
    }
}

fn blank(remote: Upstream) -> Connection {
    Connection {
        socket: 1,
        worker: 7,
        request: None,
        start: Time(0),
        closed: Time(0),
        local: None,
        remote,
        netns: 1,
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
        accepted: None,
        holder: None,
        tls_data: false,
        broke_off: false,
        whole: false,
        body: None,
        listener_pid: None,
        open: false,
        reuses: 0,
        reused_at: None,
        idle: None,
        rst_sent: None,
        drops: vec![],
        icmp_sent: None,
        full_queue: None,
        translated: None,
        routes: crate::event::RouteLookup::default(),
    }
}

fn verdict(cause: &'static str, at: u64, upstream: &str) -> Verdict {
    Verdict {
        time: Time(at),
        status: Some(502),
        masked: false,
        cause,
        confidence: Confidence::Proven,
        worker: 7,
        unit: None,
        connection: None,
        request: None,
        upstream: Some(upstream.to_owned()),
        errno: None,
        attempts: vec![AttemptVerdict {
            upstream: Some(upstream.to_owned()),
            cause: Some(cause),
            errno: None,
            reused: true,
            start: Time(at),
            end: Time(at),
        }],
        summary: String::new(),
        evidence: vec![],
        advice: vec![],
        upstream_name: None,
        lost_events: 0,
    }
}

fn burst() -> Run {
    let mut run = Run::default();
    for i in 0..400 {
        run.serve(Run::upstream(1), i * 20 * MS);
    }
    for i in 0..600 {
        run.refuse(Run::upstream(2), 3 * SECOND + i * 4 * MS, "no-listener");
    }
    run
}

fn mixed() -> Run {
    let mut run = Run::default();
    let causes = [
        "no-listener",
        "refused-by-peer",
        "firewall-reject",
        "syn-timeout",
        "accept-queue-full",
        "backend-reset",
        "backend-died",
        "response-rejected",
        "route-unreachable",
    ];
    for i in 0..2000 {
        let (at, n) = (run.roll(600 * SECOND), run.roll(9));
        run.serve(Run::upstream(n), at);
        if i % 9 == 0 {
            run.refuse(Run::upstream(20 + n), at, causes[n as usize]);
        }
        if i % 50 == 0 {
            let queue = run.roll(130) as u32;
            run.queue(
                SocketAddr::from(([127, 0, 0, 1], 3000 + n as u16)),
                at,
                queue,
                128,
            );
        }
    }
    run
}

fn races() -> Run {
    let mut run = Run::default();
    for _ in 0..3000 {
        let (at, idle) = (60 * SECOND + run.roll(600 * SECOND), run.roll(4990 * MS));
        run.reuse(Run::upstream(1), at, idle, false);
    }
    for i in 0..40 {
        let idle = 4995 * MS + run.roll(10 * MS);
        run.reuse(Run::upstream(1), (70 + i * 12) * SECOND, idle, true);
    }
    run
}

fn quiet_hour() -> Run {
    let mut run = Run::default();
    for _ in 0..20_000 {
        let (at, n) = (run.roll(3600 * SECOND), run.roll(4));
        run.serve(Run::upstream(n), at);
    }
    run
}

fn thousand() -> Run {
    let mut run = Run::default();
    for i in 0..60_000 {
        let (at, n) = (run.roll(900 * SECOND), run.roll(1000));
        run.serve(Run::upstream(n), at);
        if i % 97 == 0 {
            run.refuse(Run::upstream(n % 300), at, "refused-by-peer");
        }
    }
    run
}

/// One of each, at one moment; strings that others chose.
fn hostile() -> Run {
    let mut run = Run::default();
    let name = format!(
        "/<script>alert(1)</script>\u{1b}[2J\u{202e}\u{ffff}&\"'{}",
        "x".repeat(65_536)
    );
    run.refuse(
        Upstream::Unix(name.clone()),
        5 * SECOND,
        "unix-socket-stale",
    );
    run.serve(Upstream::Unix(name), 5 * SECOND);
    run
}

fn runs() -> Vec<(&'static str, Run)> {
    vec![
        ("empty", Run::default()),
        ("burst", burst()),
        ("mixed", mixed()),
        ("races", races()),
        ("quiet", quiet_hour()),
        ("thousand", thousand()),
        ("hostile", hostile()),
    ]
}

fn each(mut look: impl FnMut(&str, &Drawing)) {
    for (name, run) in runs() {
        for chart in Chart::ALL {
            for size in Size::ALL {
                let drawing = chart.draw(&run.series, size, &TimeZone::UTC);
                look(&format!("{name}, {}, {size:?}", chart.name()), &drawing);
            }
        }
    }
}

fn labels(drawing: &Drawing) -> Vec<&Label> {
    let mut labels = Vec::new();
    for shape in &drawing.shapes {
        if let Shape::Text(label) = shape {
            labels.push(label);
        }
    }
    labels
}

/// What a text covers.
fn covered(label: &Label) -> Rect {
    let length = font::width(&label.text, label.size, label.bold);
    let (x, y) = label.at;
    let before = match label.anchor {
        Anchor::Left => 0,
        Anchor::Middle => length / 2,
        Anchor::Right => length,
    };
    let half = label.size / 2;
    if label.upright {
        Rect {
            left: x - half,
            top: y + before - length,
            right: x + half,
            bottom: y + before,
        }
    } else {
        Rect {
            left: x - before,
            top: y - half,
            right: x - before + length,
            bottom: y + half,
        }
    }
}

fn overlap(one: &Rect, other: &Rect) -> bool {
    one.left < other.right
        && other.left < one.right
        && one.top < other.bottom
        && other.top < one.bottom
}

#[test]
fn no_text_is_clipped_or_covered_by_another() {
    each(|which, drawing| {
        let labels = labels(drawing);
        for (i, label) in labels.iter().enumerate() {
            let rect = covered(label);
            assert!(
                rect.left >= 0
                    && rect.top >= 0
                    && rect.right <= drawing.width
                    && rect.bottom <= drawing.height,
                "{which}: {label:?} {rect:?}"
            );
            for other in &labels[i + 1..] {
                assert!(
                    !overlap(&rect, &covered(other)),
                    "{which}: {label:?} {other:?}"
                );
            }
        }
    });
}

#[test]
fn every_shape_is_on_the_sheet() {
    each(|which, drawing| {
        for shape in &drawing.shapes {
            let points = match shape {
                Shape::Rectangle(rect, _) => {
                    vec![(rect.left, rect.top), (rect.right - 1, rect.bottom - 1)]
                }
                Shape::Line(points, _, _) => points.clone(),
                Shape::Dot(at, _, _) => vec![*at],
                Shape::Text(_) => vec![],
            };
            for (x, y) in points {
                let inside = (0..drawing.width).contains(&x) && (0..drawing.height).contains(&y);
                assert!(inside, "{which}: {shape:?}");
            }
        }
    });
}

#[test]
fn an_empty_capture_gives_charts_that_say_so() {
    for chart in Chart::ALL {
        for size in Size::ALL {
            let drawing = chart.draw(&Series::default(), size, &TimeZone::UTC);
            let said: Vec<&str> = labels(&drawing)
                .iter()
                .map(|label| label.text.as_str())
                .collect();
            assert!(
                said.join(" ").contains("in this capture"),
                "{chart:?}: {said:?}"
            );
        }
    }
}

#[test]
fn documents_are_bounded_and_harmless() {
    each(|which, drawing| {
        let document = svg(drawing).expect("an SVG");
        assert!(
            document.len() < 600_000,
            "{which}: {} bytes",
            document.len()
        );
        assert!(!document.contains("<script"), "{which}");
        let harmless = |c: char| {
            c == '\n' || !(c.is_control() || matches!(c, '\u{202e}' | '\u{fffe}' | '\u{ffff}'))
        };
        assert!(document.chars().all(harmless), "{which}");
        assert_eq!(document.matches("<svg").count(), 1);
        assert!(document.trim_end().ends_with("</svg>"));
    });
}

#[test]
fn pictures_are_twice_as_dense() {
    let drawing = Chart::Failures.draw(&burst().series, Size::Small, &TimeZone::UTC);
    let file = png(&drawing).expect("a PNG");
    let decoder = png::Decoder::new(std::io::Cursor::new(&file));
    let mut reader = decoder.read_info().expect("a PNG");
    let (width, height) = (reader.info().width, reader.info().height);
    assert_eq!(
        (width as i32, height as i32),
        (drawing.width * 2, drawing.height * 2)
    );
    let mut pixels = vec![0; reader.output_buffer_size().expect("it fits")];
    reader.next_frame(&mut pixels).expect("pixels");
    let (red, green, blue) = theme::Ink::Category(0).rgb();
    assert!(
        pixels.chunks(3).any(|pixel| pixel == [red, green, blue]),
        "no bar"
    );
    let inked = pixels
        .chunks(3)
        .take((width * 40) as usize)
        .filter(|pixel| pixel[0] < 0x80)
        .count();
    assert!(inked > 200, "no letters in the title");
}

#[test]
fn the_failures_chart_counts_every_verdict() {
    let drawing = Chart::Failures.draw(&mixed().series, Size::Wide, &TimeZone::UTC);
    let said: Vec<&str> = labels(&drawing)
        .iter()
        .map(|label| label.text.as_str())
        .collect();
    assert!(said.contains(&"223 failed requests"), "{said:?}");
    let counted: u64 = said
        .iter()
        .filter_map(|text| {
            text.strip_suffix(')')?
                .rsplit_once('(')?
                .1
                .parse::<u64>()
                .ok()
        })
        .sum();
    assert_eq!(counted, 223);
}
