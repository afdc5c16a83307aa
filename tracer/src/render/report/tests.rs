//! The page, of made-up verdicts: what it says, and that nothing of others gets through.

use jiff::tz::TimeZone;

use super::*;
use crate::{
    event::{Clock, Time},
    verdict::{AttemptVerdict, Confidence, Evidence, Request, Verdict},
};

const SECOND: u64 = 1_000_000_000;
/// Second 0 since boot is 2026-11-20T10:00:00Z.
const CLOCK: Clock = Clock {
    boot: 0,
    wall: 1_795_168_800 * SECOND,
};

fn verdict(at: u64, cause: &'static str, upstream: &str, line: &str) -> Verdict {
    let at = Time(at);
    Verdict {
        time: at,
        status: Some(502),
        masked: false,
        cause,
        confidence: Confidence::Proven,
        worker: 812,
        unit: None,
        connection: Some(4),
        request: Some(Request {
            client: Some("192.0.2.7".to_owned()),
            host: Some("shop.test".to_owned()),
            line: Some(line.to_owned()),
            ..Request::default()
        }),
        upstream: Some(upstream.to_owned()),
        errno: None,
        attempts: vec![AttemptVerdict {
            upstream: Some(upstream.to_owned()),
            cause: Some(cause),
            errno: None,
            reused: false,
            start: at,
            end: at,
        }],
        summary: format!("nothing listens on {upstream}"),
        evidence: vec![
            Evidence {
                time: Some(at),
                event: "connect",
                text: format!("worker 812 connects to {upstream}"),
            },
            Evidence {
                time: Some(at.plus(60_000)),
                event: "error",
                text: "connect fails".to_owned(),
            },
        ],
        advice: vec![format!("start the backend on {upstream}")],
        upstream_name: None,
        lost_events: 0,
    }
}

fn page_of(verdicts: &[Verdict], change: impl FnOnce(&mut Source)) -> String {
    let mut series = Series::default();
    let mut incident = Incident::new(CLOCK);
    for verdict in verdicts {
        series.verdict(verdict, &CLOCK);
        incident.verdict(verdict);
    }
    incident.finish();
    let mut source = Source {
        host: "web1".to_owned(),
        kernel: "6.18.0 x86_64".to_owned(),
        nginx: vec!["nginx 1.22.1, /usr/sbin/nginx (master 800, 2 workers)".to_owned()],
        hooks: "22 hooks attached, 1 fallback".to_owned(),
        tracer: "0.1.0".to_owned(),
        command: "tracer record -o incident.trc".to_owned(),
        began: CLOCK.wall,
        ended: CLOCK.wall + 60 * SECOND,
        events: 1234,
        ..Source::default()
    };
    series.seen(source.began);
    series.seen(source.ended);
    change(&mut source);
    let report = Report {
        sources: vec![source],
        series: &series,
        incident: &incident,
        files: vec!["incident.trc".to_owned()],
        zone: TimeZone::UTC,
    };
    report.page().expect("a page")
}

fn page(verdicts: &[Verdict]) -> String {
    page_of(verdicts, |_| {})
}

/// What a person reads of it.
fn text(page: &str) -> String {
    let body = page.split("<body>").nth(1).unwrap_or(page);
    let mut text = String::new();
    let mut inside = false;
    for c in body.chars() {
        match c {
            '<' => inside = true,
            '>' => inside = false,
            _ if !inside => text.push(c),
            _ => {}
        }
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace("&#39;", "'")
}

#[test]
fn three_sentences_say_what_happened_why_and_what_to_do() {
    let verdicts: Vec<Verdict> = (0..30)
        .map(|i| {
            verdict(
                (10 + i / 10) * SECOND,
                "no-listener",
                "127.0.0.1:3000",
                "GET /api HTTP/1.1",
            )
        })
        .chain([verdict(
            20 * SECOND,
            "backend-reset",
            "127.0.0.1:4000",
            "GET / HTTP/1.1",
        )])
        .collect();
    let text = text(&page(&verdicts));
    assert!(
        text.contains(
            "31 requests failed on web1 between 10:00:10 and 10:00:20 UTC on 2026-11-20. The most frequent cause is \
             no-listener, 30 requests: nothing listens on the address nginx connects to, and the address is this host's \
             own, all at 127.0.0.1:3000; one other cause is below. Fix: start the backend on 127.0.0.1:3000."
        ),
        "{text}"
    );
    assert!(
        text.contains("29 more like this until 10:00:12.000"),
        "{text}"
    );
    assert!(text.contains("first no-listener, 127.0.0.1:3000"));
    assert!(
        text.contains("Nothing was lost, all hooks were attached, and every verdict is proven.")
    );
}

#[test]
fn a_quiet_capture_says_so() {
    let text = text(&page(&[]));
    assert!(
        text.starts_with("No failed request No request failed in the 1 min recorded on web1."),
        "{text}"
    );
    assert!(!text.contains("Causes"));
}

#[test]
fn what_was_lost_or_out_of_sight_is_named() {
    let mut inferred = verdict(SECOND, "syn-timeout", "10.0.0.1:80", "GET / HTTP/1.1");
    inferred.confidence = Confidence::Inferred;
    inferred.evidence.push(Evidence {
        time: None,
        event: "unseen",
        text: "the other host".to_owned(),
    });
    let text = text(&page_of(&[inferred], |source| {
        source.lost = 7;
        source.absent = vec!["icmp_send".to_owned()];
        source.damages = vec!["incident.trc has no end".to_owned()];
    }));
    for said in [
        "web1: 7 kernel records lost; failures may be missing here.",
        "web1: not attached: icmp_send; tracer doctor there says what that costs.",
        "web1: incident.trc has no end.",
        "1 verdict is inferred: the only cause that fits what was seen.",
        "Not visible for 1 verdict: the other host.",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn what_others_wrote_is_text_only() {
    let hostile = format!(
        "/<script>alert(1)</script><img src=x onerror=y>\u{1b}[2J\u{202e}\u{0}\u{ffff}\"'&{}",
        "x".repeat(65_536)
    );
    let mut one = verdict(
        SECOND,
        "no-listener",
        &hostile,
        &format!("GET {hostile} HTTP/1.1"),
    );
    one.unit = Some(hostile.clone());
    one.summary.clone_from(&hostile);
    one.advice = vec![hostile.clone()];
    let request = one.request.as_mut().expect("a request");
    (request.client, request.host) = (Some(hostile.clone()), Some(hostile.clone()));
    let page = page_of(&[one], |source| {
        source.host.clone_from(&hostile);
        source.kernel.clone_from(&hostile);
        source.command.clone_from(&hostile);
        source.nginx = vec![hostile.clone()];
        source.absent = vec![hostile.clone()];
        source.damages = vec![hostile.clone()];
        source.tracer.clone_from(&hostile);
    });
    assert!(!page.contains("<script") && !page.contains("<img"));
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    let harmless = |c: char| c == '\n' || !(c.is_control() || matches!(c, '\u{202e}' | '\u{ffff}'));
    assert!(page.chars().all(harmless));
    assert!(page.len() < 200_000, "{} bytes", page.len());
}

#[test]
fn the_page_needs_nothing_else() {
    let page = page(&[verdict(
        SECOND,
        "no-listener",
        "127.0.0.1:3000",
        "GET / HTTP/1.1",
    )]);
    assert!(page.contains("default-src 'none'"));
    let links: Vec<&str> = page
        .match_indices("http")
        .map(|(at, _)| &page[at..(at + 27).min(page.len())])
        .collect();
    let allowed = |link: &&str| {
        link.starts_with("http://www.w3.org/2000/svg") || link.starts_with("http-equiv")
    };
    assert!(links.iter().all(allowed), "{links:?}");
    assert!(!page.contains(" src=") && !page.contains("@import") && !page.contains("url("));
}

#[test]
fn many_kinds_are_bounded_and_the_rest_is_counted() {
    let verdicts: Vec<Verdict> = (0..5000)
        .map(|i| {
            verdict(
                i * SECOND / 100,
                "no-listener",
                &format!("10.0.{}.{}:80", i / 250, i % 250),
                "GET / HTTP/1.1",
            )
        })
        .collect();
    let page = page(&verdicts);
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
    assert!(
        text(&page).contains("4,850 further requests not shown"),
        "{}",
        text(&page)
    );
}
