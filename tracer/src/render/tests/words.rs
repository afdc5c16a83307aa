//! Golden words.

use jiff::tz::{Offset, TimeZone};

use super::*;
use crate::render::{
    Summary, json,
    text::{self, Style},
};

#[test]
fn a_verdict_reads_as_it_should() {
    let style = Style::default();
    let all = [refused(), masked(), untried(), streamed()];
    golden(
        "verdicts.txt",
        &printed(|out| {
            all.iter()
                .try_for_each(|v| text::verdict(out, v, &CLOCK, &style))
        }),
    );
}

#[test]
fn a_narrow_terminal_wraps_below_the_text() {
    let style = Style {
        width: 60,
        ..Style::default()
    };
    golden(
        "narrow.txt",
        &printed(|out| text::verdict(out, &refused(), &CLOCK, &style)),
    );
}

#[test]
fn colours_change_no_letter() {
    let style = |color| Style {
        color,
        ..Style::default()
    };
    let plain = printed(|out| text::verdict(out, &masked(), &CLOCK, &style(false)));
    let mut colored = printed(|out| text::verdict(out, &masked(), &CLOCK, &style(true)));
    assert!(colored.contains("\x1b[33m200 masked\x1b[0m"), "{colored:?}");
    for code in [
        "\x1b[0m",
        "\x1b[1m",
        "\x1b[2m",
        "\x1b[32m",
        "\x1b[33m",
        "\x1b[1;31m",
    ] {
        colored = colored.replace(code, "");
    }
    assert_eq!(colored, plain);
}

#[test]
fn times_are_the_callers_zone() {
    let style = Style {
        zone: TimeZone::fixed(Offset::constant(2)),
        ..Style::default()
    };
    let text = printed(|out| text::verdict(out, &refused(), &CLOCK, &style));
    assert!(
        text.starts_with("\n12:15:23.412  502  GET /api/cart"),
        "{text}"
    );
}

#[test]
fn json_is_the_contract() {
    let lines = printed(|out| {
        [refused(), untried(), streamed()]
            .iter()
            .try_for_each(|v| json::verdict(out, v, "web1", &CLOCK))
    });
    golden("verdicts.jsonl", &lines);
}

#[test]
fn the_summary_counts_by_cause_and_upstream() {
    let mut summary = Summary::default();
    for i in 0..41 {
        summary.add(&Verdict {
            time: AT.plus(i * 200 * MS),
            ..refused()
        });
    }
    for verdict in [
        masked(),
        untried(),
        Verdict {
            lost_events: 3,
            ..refused()
        },
    ] {
        summary.add(&verdict);
    }
    golden(
        "summary.txt",
        &printed(|out| summary.write(out, &CLOCK, &Style::default())),
    );
    let empty = printed(|out| Summary::default().write(out, &CLOCK, &Style::default()));
    assert_eq!(empty, "no failed request\n");
    let mut hidden = Summary::default();
    hidden.pass_over();
    let hidden = printed(|out| hidden.write(out, &CLOCK, &Style::default()));
    assert_eq!(
        hidden,
        "no failed request\n1 failed request hidden by filters\n"
    );
}

#[test]
fn the_summary_is_bounded() {
    let mut summary = Summary::default();
    for port in 0..5000 {
        summary.add(&Verdict {
            upstream: Some(format!("10.0.0.1:{port}")),
            ..refused()
        });
    }
    let text = printed(|out| summary.write(out, &CLOCK, &Style::default()));
    assert!(text.lines().count() < 1010);
    assert!(text.contains("   4000  ---  other"), "{text:.400}");
}
