//! Notices as lines of JSON. That they keep to `docs/verdict.schema.json` a test of `tests` shows,
//! from the golden files.

use super::*;
use crate::{
    event::{Coverage, Notice, Strain, coverage::Change},
    render::json,
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
    let lines = printed(|out| {
        let near = Strain::Descriptors { open: 9, limit: 10 };
        json::notice(out, &notice(near, 812, false), "web1", &CLOCK)?;
        let skipped = Strain::LogSkipped { bytes: 7 };
        json::notice(out, &notice(skipped, 0, true), "", &CLOCK)?;
        json::coverage(out, &change(blind), "web1", &CLOCK)?;
        // Another line says it.
        let some = Change::Something { since: AT };
        json::coverage(out, &change(some), "web1", &CLOCK)?;
        json::lost(out, (AT, 5), "web1", &CLOCK)
    });
    golden("notices.jsonl", &lines);
}
