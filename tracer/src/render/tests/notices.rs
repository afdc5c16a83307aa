//! Notices as lines of JSON. That they keep to `docs/verdict.schema.json` a test of `tests` shows,
//! from the golden files.

use super::*;
use crate::{
    event::{Coverage, Notice, Strain, coverage::Change},
    render::json::{self, Said},
};

#[test]
fn each_is_a_line_with_its_kind() {
    let notice = |strain, pid, is_over| Notice {
        at: AT,
        pid,
        strain,
        is_over,
    };
    let blind = Change::Blind {
        pid: 812,
        program: "nginx/1.22.1".to_owned(),
        why: "it shows no functions".to_owned(),
        is_foreign: false,
    };
    let change = |change| Coverage { at: AT, change };
    let near = Strain::Descriptors { open: 9, limit: 10 };
    let skipped = Strain::LogSkipped { bytes: 7 };
    // Another line says it.
    let some = Change::Something { since: AT };
    assert_eq!(Said::coverage(&change(some)), None);
    let blind = Said::coverage(&change(blind)).expect("a sentence");
    let lines = printed(|out| {
        let near = Said::notice(&notice(near, 812, false), &CLOCK);
        json::said(out, &near, "web1", &CLOCK)?;
        let skipped = Said::notice(&notice(skipped, 0, true), &CLOCK);
        json::said(out, &skipped, "", &CLOCK)?;
        json::said(out, &blind, "web1", &CLOCK)?;
        json::said(out, &Said::lost(AT, 5), "web1", &CLOCK)
    });
    golden("notices.jsonl", &lines);
}
