//! Bytes from the network reach neither the terminal nor the JSON reader raw.

use proptest::prelude::*;

use super::*;
use crate::render::{
    json,
    text::{self, Style},
};

fn with(bytes: &str) -> Verdict {
    let some = || Some(bytes.to_owned());
    let mut verdict = refused();
    verdict.request = Some(Request {
        client: some(),
        host: some(),
        line: some(),
        server_name: some(),
        request_id: some(),
        traceparent: some(),
    });
    verdict.upstream_name = some();
    verdict.upstream = some();
    verdict.unit = some();
    verdict.summary = bytes.to_owned();
    verdict.advice = vec![bytes.to_owned()];
    for evidence in &mut verdict.evidence {
        evidence.text = bytes.to_owned();
    }
    for attempt in &mut verdict.attempts {
        attempt.upstream = some();
    }
    verdict
}

fn is_safe(text: &str) -> bool {
    text.chars().all(|c| {
        c == '\n' || !(c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}'))
    })
}

proptest! {
    #[test]
    fn whatever_is_asked_for_the_terminal_gets_letters(bytes in any::<Vec<u8>>()) {
        let verdict = with(&String::from_utf8_lossy(&bytes));
        let text = printed(|out| text::verdict(out, &verdict, &CLOCK, &Style::default()));
        prop_assert!(is_safe(&text), "{text:?}");
        let line = printed(|out| json::verdict(out, &verdict, &verdict.summary, &CLOCK));
        prop_assert!(is_safe(&line));
        prop_assert_eq!(line.matches('\n').count(), 1);
        let back: serde_json::Value = serde_json::from_str(&line).expect("valid JSON");
        let host = verdict.request.and_then(|request| request.host);
        prop_assert_eq!(back["request"]["host"].as_str(), host.as_deref());
    }
}

#[test]
fn an_escape_sequence_in_a_request_is_shown() {
    let text = printed(|out| {
        text::verdict(
            out,
            &with("GET /\x1b]0;owned\x07\u{202e}x HTTP/1.1"),
            &CLOCK,
            &Style::default(),
        )
    });
    assert!(
        text.contains("GET /\\x1b]0;owned\\x07\\u{202e}x  "),
        "{text}"
    );
}

#[test]
fn a_long_request_is_cut() {
    let text =
        printed(|out| text::verdict(out, &with(&"x".repeat(100_000)), &CLOCK, &Style::default()));
    assert!(text.len() < 10_000);
}
